"""Tidying a forecast table: what dead runs and dead commits left behind. Knows files and leases.

Nothing that a version of the table shows is ever removed, so time travel stays whole; nothing of a
run that somebody works on is touched.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import unquote

from deltalake import DeltaTable

from market.leases import LeaseHeldError, hold, live_leases
from market.table.forecasts import ForecastTable
from market.table.schema import KINDS

STAGING_AGE = timedelta(days=7)
"""An interrupted run younger than this may still be resumed."""
ORPHAN_AGE = timedelta(hours=1)
"""A commit writes its file seconds before it counts; an older stray belongs to a dead driver."""


def lease_name(run_id: str) -> str:
    """The lease of a run's driver."""
    return f"forecast-{run_id}"


@dataclass(frozen=True)
class Vacuumed:
    """What was removed, or would be."""

    staging: tuple[str, ...]
    """Runs whose staging went."""
    orphans: tuple[str, ...]
    """Data files no version of any table refers to, relative to the table's folder."""
    leases: tuple[str, ...]
    """Leases of dead processes."""
    bytes: int
    kept: tuple[str, ...]
    """Runs whose staging stays: somebody works on them, or they are young enough to resume."""


def vacuum(
    table: ForecastTable,
    *,
    dry_run: bool = False,
    staging_age: timedelta = STAGING_AGE,
    orphan_age: timedelta = ORPHAN_AGE,
) -> Vacuumed:
    """Remove staging of runs that ended or were given up, orphaned data files and dead leases."""
    size = 0
    removed: list[str] = []
    kept: list[str] = []
    staging = table.folder / "staging"
    for run_id in staging.names():
        folder = table.staging(run_id)
        with _unused(table, run_id) as free:
            files = folder.files()
            newest = max((written for _, written in files.values()), default=0.0)
            record = table.run(run_id)
            ended = record is not None and record.status == "finished"
            if not free or not (ended or time.time() - newest > staging_age.total_seconds()):
                kept.append(run_id)
                continue
            size += sum(n for n, _ in files.values())
            removed.append(run_id)
            if not dry_run:
                folder.remove_all()
    orphans = dict(_orphans(table, orphan_age))
    dead = [
        name.removesuffix(".lease.json")
        for name in table.leases.names(".lease.json")
        if name.removesuffix(".lease.json") not in live_leases(table.leases)
    ]
    if not dry_run:
        for name in orphans:
            table.folder.remove(name)
        for name in dead:
            table.leases.remove(f"{name}.lease.json")
    return Vacuumed(
        tuple(removed), tuple(orphans), tuple(dead), size + sum(orphans.values()), tuple(kept)
    )


@contextmanager
def _unused(table: ForecastTable, run_id: str) -> Iterator[bool]:
    """Whether nobody works on the run, and nobody can begin to inside the block."""
    try:
        with hold(table.leases, lease_name(run_id)):
            yield True
    except LeaseHeldError:
        yield False


def _orphans(table: ForecastTable, age: timedelta) -> Iterator[tuple[str, int]]:
    for kind in KINDS:
        if not DeltaTable.is_deltatable(table.folder.at(kind)):
            continue
        folder = table.folder / kind
        files = folder.files()
        logs = [name for name in files if name.startswith("_delta_log/")]
        shown = _referred(table, kind, [name for name in logs if name.endswith(".json")])
        for name, (size, written) in sorted(files.items()):
            old = time.time() - written > age.total_seconds()
            if name not in logs and name.endswith(".parquet") and name not in shown and old:
                yield f"{kind}/{name}", size


def _referred(table: ForecastTable, kind: str, logs: list[str]) -> set[str]:
    """Files any version shows: those the log added, and the newest version's (from checkpoints)."""
    place = table.folder.at(kind)
    shown = {unquote(uri).split(place, 1)[-1].lstrip("/") for uri in DeltaTable(place).file_uris()}
    for name in logs:
        for line in (table.folder / kind).read(name).splitlines():
            action = json.loads(line)
            if "add" in action:
                shown.add(unquote(action["add"]["path"]))
    return shown
