"""One import from rows of sources to the store: infer, place, check, join, write, tell.

Knows the order of things. Nothing is written before everything was read and checked, and what one
call does is what its sources would do one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl

from market.actions.suspects import describe, find_suspects
from market.actions.table import merge_actions, no_actions
from market.bars import check_bars
from market.errors import SourceError, StoreError
from market.flags import Flag
from market.importing.grid import closed_days, place
from market.importing.inference import infer_spec, with_defaults
from market.importing.options import ImportOptions
from market.importing.rows import SourceRows
from market.importing.steps import Step, require_step, steps_of
from market.importing.tails import require_store_step
from market.lake.appending import ImportReport, OnConflict, compare, import_bars, key_of
from market.lake.history import MarketHistory
from market.lake.versions import current_version, lake_folder
from market.spec import ALWAYS_OPEN, StoreSpec
from market.storage import Folder

_MOST_NOTES = 8
_SHOWN_CLOSED = 3
_GRID_SAMPLE = 20_000
"""Stored labels that show the grid of an intraday store."""


class Sources(NamedTuple):
    """Where an import's rows come from."""

    names: list[str]
    parts: Iterator[SourceRows]
    """One per source, in the order they count."""
    notes: list[str]
    """Filled while the parts are read."""


def run_import(
    read: Callable[[ImportOptions], Sources],
    store: str | Path,
    options: ImportOptions,
    on_conflict: OnConflict,
    spec: StoreSpec | None = None,
) -> ImportReport:
    """Import what `read` finds, told everything that the store and the venue already say.

    spec: of the bars, where it is known; otherwise the store's, or inferred. Raises
    CandlecastError, one line, with nothing written.
    """
    root = lake_folder(store)
    held = MarketHistory.open(root) if current_version(root) else None
    existing = held.spec if held is not None else None
    told, notes = with_defaults(options, spec or existing)
    sources = read(told)
    parts = list(sources.parts)
    steps = [steps_of(part.rows) for part in parts]
    if spec is None and existing is None:
        spec, spec_notes = infer_from(parts, steps, told)
        notes += spec_notes
    spec = spec or existing
    assert spec is not None
    whose = "the store holds" if existing is not None else "the others are"
    if existing is None and (told.freq is not None or len(parts) == 1):
        whose = "--freq says" if told.freq is not None else "most of its bars are"
    goods, rejected, actions = [], [], no_actions()
    step = int(spec.step.astype(int))
    labels = None if held is None or spec.daily else _stored_labels(held)
    closed: list[str] = []
    while parts:
        part = parts.pop(0)  # as large as everything that follows
        own = steps.pop(0)
        require_step(own if spec.daily else steps_of(part.rows, step), spec, whose)
        if held is not None:
            require_store_step(part.rows, held)
        placed = place(part.rows, spec, told, labels)
        checked = check_bars(placed, key_of(spec)[1])
        said = closed_days(checked.good, spec, told)
        if said is not None:
            closed.append(said if len(sources.names) == 1 else f"{part.rows['source'][0]}: {said}")
        goods.append(checked.good)
        rejected.append(checked.quarantine)
        actions = merge_actions(actions, part.actions)
    joined = join_sources(goods, spec, on_conflict)
    report = import_bars(
        root, spec, joined.bars, pl.concat(rejected), actions=actions, on_conflict=on_conflict,
        sources=sources.names,
    )  # fmt: skip
    found = [*sources.notes, *notes, *closed[:_SHOWN_CLOSED]]
    if len(closed) > _SHOWN_CLOSED:
        found.append(f"and so have {len(closed) - _SHOWN_CLOSED} more files")
    found += describe_filled(joined.bars)
    if report.new_actions:
        found.append(f"{report.new_actions:,} corporate actions stored beside the raw bars")
    found += _suspected(root, joined.bars, spec, existing is not None)
    return replace(
        report,
        known_bars=report.known_bars + joined.equal,
        conflicts=pl.concat([report.conflicts, joined.conflicts]),
        notes=tuple(dict.fromkeys(found)),
    )


class Joined(NamedTuple):
    """Good bars of all sources of one call, one per symbol and time."""

    bars: pl.DataFrame
    equal: int
    """Bars that a source before had, equal."""
    conflicts: pl.DataFrame
    """symbol, timestamp, close of the earlier source (close_stored) and of the later one."""


def join_sources(goods: Sequence[pl.DataFrame], spec: StoreSpec, policy: OnConflict) -> Joined:
    """Bars of several sources as importing one after the other would leave them.

    Raises StoreError naming both sources where they differ and the policy says error.
    """
    key = key_of(spec)
    schema = {"symbol": pl.String(), "timestamp": pl.Datetime("us"),
              "close_stored": pl.Float64(), "close": pl.Float64()}  # fmt: skip
    nothing = pl.DataFrame(schema=schema)
    if len(goods) == 1:
        return Joined(goods[0], 0, nothing)
    bars = pl.concat(goods)
    seen: set[str] = set()
    shared: set[str] = set()
    for each in goods:
        own = set(each["symbol"].unique())
        shared |= seen & own
        seen |= own
    if not shared:
        return Joined(bars, 0, nothing)
    twice = bars.filter(pl.col("symbol").is_in(sorted(shared)) & pl.struct(key).is_duplicated())
    if not twice.height:
        return Joined(bars, 0, nothing)
    first = twice.unique(key, keep="first", maintain_order=True)
    last = twice.unique(key, keep="last", maintain_order=True)
    compared = compare(twice, first, key)
    conflicts = compared.conflicts
    if conflicts.height and policy is OnConflict.ERROR:
        one = conflicts.row(0, named=True)
        raise StoreError(
            f"{one['source']} and {one['source_stored']} both hold {one['symbol']} "
            f"{one['timestamp']}, with close {one['close']:.10g} and {one['close_stored']:.10g} "
            f"({conflicts.height:,} such bars). Nothing was written; are they one symbol? Choose "
            "--on-conflict keep (the first stays) or --on-conflict replace (the last wins)"
        )
    rest = bars.join(twice.select(key).unique(), on=key, how="anti")
    chosen = last if policy is OnConflict.REPLACE else first
    return Joined(
        pl.concat([rest, chosen.select(rest.columns)]),
        twice.height - first.height - conflicts.height,
        conflicts.select(list(schema)),
    )


def infer_from(
    parts: Iterable[SourceRows], steps: Iterable[list[Step]], told: ImportOptions
) -> tuple[StoreSpec, list[str]]:
    """The spec of a new store from all its sources, and what about it was inferred."""
    labels = []
    name = None
    for part in parts:
        name = name or str(part.rows["source"][0])
        if part.rows["instant"].null_count() == part.rows.height:
            distinct = part.rows.select(pl.col("timestamp").unique())
            distinct = distinct.with_columns(instant=pl.lit(None, pl.Datetime("us")))
        else:
            distinct = part.rows.select("timestamp", "instant").unique()
        labels.append(distinct.drop_nulls("timestamp"))
    if name is None:
        raise SourceError("nothing to import")
    every = [step for own in steps for step in own]
    return infer_spec(pl.concat(labels).unique(), every, told, name)


def _stored_labels(held: MarketHistory) -> pl.Series:
    return held.scan().select("timestamp").head(_GRID_SAMPLE).collect()["timestamp"]


def describe_filled(good: pl.DataFrame) -> list[str]:
    """Say how many bars had no volume or amount, and what was stored for them."""
    stored = {
        Flag.VOLUME_MISSING: "no volume: 0 is stored",
        Flag.AMOUNT_MISSING: "no traded amount: volume × mean(open, high, low, close) is stored",
        Flag.ROUNDED: "a high or low off by a rounding error: it is widened",
    }
    notes = []
    flags = good["flags"].to_numpy()
    for flag, text in stored.items():
        count = int((flags & int(flag) != 0).sum())
        if count:
            whose = "the bars have" if count == good.height else f"{count:,} bars have"
            notes.append(f"{whose} {text}, and flagged")
    return notes


def _suspected(root: Folder, bars: pl.DataFrame, spec: StoreSpec, appended: bool) -> list[str]:
    """Suspected splits among the bars of this import, and between them and those before."""
    if not bars.height or spec.venue == ALWAYS_OPEN or spec.price_basis == "adjusted":
        return []
    history = MarketHistory.open(root)
    symbols = bars["symbol"].unique().to_list()
    seen = bars
    first = bars["session"].min()
    assert isinstance(first, date)
    if appended:
        seen = history.scan(symbols=symbols, start=first - timedelta(days=20)).collect()
    found = find_suspects(seen, history.actions(symbols))
    said = describe([each for each in found if each.session >= first])
    return [said] if said is not None else []


def cut(notes: Sequence[str], most: int = _MOST_NOTES) -> list[str]:
    """The first notes of many files, and how many more there are."""
    distinct = list(dict.fromkeys(notes))
    if len(distinct) <= most:
        return distinct
    return [*distinct[:most], f"and {len(distinct) - most} more notes of this kind"]
