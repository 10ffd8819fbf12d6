"""Staged shards into the table, date by date, in bounded memory. Knows files and Ray tasks.

A night of few rows is one sorted file per table and date, written here. A larger one is cut along
the plan's order into parts of as many symbols whatever the shards were; Ray tasks turn each part's
shard files into one sorted file of the table, and the driver commits what they wrote, in one
transaction per table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from itertools import islice
from typing import Any, NamedTuple

import polars as pl
from deltalake.transaction import AddAction

from cluster.forecasting.plan import Plan
from cluster.forecasting.shards import Shard
from cluster.forecasting.staging import FinishedShard
from market.errors import ForecastInputError
from market.storage import Folder
from market.table.commits import Committed
from market.table.files import Written, write_part
from market.table.forecasts import ForecastTable
from market.table.schema import KINDS, ROW_ORDER, SLOT, Kind

ROWS_IN_MEMORY = 400_000
"""Forecast bars that the driver collects at a time; a date with more is written by tasks."""
_ROWS_PER_PART = 200_000
_WRITERS = 2
"""Tasks at a time on a machine of its own; a cluster runs as many as it has CPUs for."""
_WRITER_CPUS = 0.5


class _Part(NamedTuple):
    """Symbols that become one file, and where their rows are."""

    number: int
    symbols: frozenset[str]
    files: dict[Kind, list[str]]


def commit_dates(
    table: ForecastTable,
    plan: Plan,
    model_id: str,
    shards: Sequence[Shard],
    finished: Sequence[FinishedShard],
    require: Callable[[], object],
    report: Callable[[int, int], object],
    *,
    horizon: int,
) -> dict[date, Committed]:
    """Every date with rows, one after the other.

    report: called with dates done and their number. Raises ForecastInputError where every forecast
    failed, with nothing committed.
    """
    if not any(shard.files for shard in finished):
        failures = [failure for shard in finished for r in shard.results for failure in r.failed]
        symbol, error = failures[0]
        raise ForecastInputError(
            f"all {len(failures)} forecasts failed, nothing was committed; first {symbol}: {error}"
        )
    rows: dict[date, int] = {}
    for as_of, count in plan.eligible().items():
        rows[as_of.session] = rows.get(as_of.session, 0) + count * horizon
    committed: dict[date, Committed] = {}
    done = 0
    for days in _groups(rows, ROWS_IN_MEMORY):
        if rows[days[0]] > ROWS_IN_MEMORY:
            frames = _by_tasks(table.folder, plan, model_id, days[0], shards, finished, horizon)
            if "steps" in frames:
                committed[days[0]] = table.commit(plan.run_id, model_id, days[0], frames, require)
        else:
            for day, collected in _collected(finished, days):
                committed[day] = table.commit(plan.run_id, model_id, day, collected, require)
        done += len(days)
        report(done, len(rows))
    return committed


def _groups(rows: dict[date, int], most: int) -> Iterator[list[date]]:
    """Dates in order, as many together as fit into memory: each shard file is read once a group."""
    group: list[date] = []
    for day in sorted(rows):
        if group and sum(rows[each] for each in group) + rows[day] > most:
            yield group
            group = []
        group.append(day)
    if group:
        yield group


def _collected(
    finished: Sequence[FinishedShard], days: list[date]
) -> Iterator[tuple[date, dict[Kind, pl.DataFrame]]]:
    found: dict[Kind, dict[date, pl.DataFrame]] = {}
    for kind in KINDS:
        files = [shard.files[kind] for shard in finished if kind in shard.files]
        if files:
            rows = pl.concat([pl.scan_parquet(file) for file in files])
            own = rows.filter(pl.col("as_of_date").is_in(days)).collect().sort(ROW_ORDER[kind])
            parts = own.partition_by("as_of_date", as_dict=True)
            found[kind] = {day: part for (day,), part in parts.items()}
    for day in days:
        frames = {kind: parts[day] for kind, parts in found.items() if day in parts}
        if "steps" in frames:
            yield day, frames


def _by_tasks(
    folder: Folder,
    plan: Plan,
    model_id: str,
    day: date,
    shards: Sequence[Shard],
    finished: Sequence[FinishedShard],
    horizon: int,
) -> dict[Kind, Written]:
    import ray

    task = ray.remote(num_cpus=_WRITER_CPUS, max_retries=3)(_write)
    waiting = iter(
        (kind, part)
        for part in _parts(plan, day, shards, finished, max(1, _ROWS_PER_PART // horizon))
        for kind in part.files
    )
    slots_of: dict[Kind, list[pl.DataFrame]] = {}
    actions: dict[Kind, list[tuple[int, AddAction]]] = {}
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    most = max(_WRITERS, int(resources.get("CPU", 0)))
    running: dict[Any, tuple[Kind, int]] = {}
    while True:
        for kind, part in islice(waiting, most - len(running)):
            begun = task.remote(folder, kind, model_id, day, part)
            running[begun] = kind, part.number
        if not running:
            break
        (ended, *_), _ = ray.wait(list(running), num_returns=1)
        kind, number = running.pop(ended)
        action, slots = ray.get(ended)
        if action is not None:
            actions.setdefault(kind, []).append((number, action))
            slots_of.setdefault(kind, []).append(slots)
    return {
        kind: Written(
            tuple(action for _, action in sorted(each, key=lambda one: one[0])),
            pl.concat(slots_of[kind]).unique(),
        )
        for kind, each in actions.items()
    }


def _parts(
    plan: Plan,
    day: date,
    shards: Sequence[Shard],
    finished: Sequence[FinishedShard],
    symbols_per_part: int,
) -> Iterator[_Part]:
    """Cut where the plan's order says, so that files do not depend on shards or replicas."""
    ordered = [
        (member.symbol, done.files)
        for shard, done in zip(shards, finished, strict=True)
        for member in shard.members
        if any(as_of.session == day for as_of in member.as_ofs)
    ]
    for number, first in enumerate(range(0, len(ordered), symbols_per_part)):
        some = ordered[first : first + symbols_per_part]
        files: dict[Kind, list[str]] = {}
        for kind in KINDS:
            if own := list(dict.fromkeys(each[kind] for _, each in some if kind in each)):
                files[kind] = own
        yield _Part(number, frozenset(symbol for symbol, _ in some), files)


def _write(
    folder: Folder, kind: Kind, model_id: str, day: date, part: _Part
) -> tuple[AddAction | None, pl.DataFrame]:
    rows = (
        pl.concat([pl.scan_parquet(file) for file in part.files[kind]])
        .filter(pl.col("as_of_date") == day, pl.col("symbol").is_in(list(part.symbols)))
        .collect()
    )
    slots = rows.select(SLOT).unique()
    if not rows.height:
        return None, slots
    return write_part(folder / kind, kind, model_id, day, rows, part.number), slots
