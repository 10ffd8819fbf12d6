"""One import from rows of sources to the store: infer, place, check, join, write, tell.

Knows the order of things. Nothing is written to the store before everything was read and checked,
and what one call does is what its sources would do one after the other, however many are looked at
together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import polars as pl

from market.actions.suspects import Suspect, describe, find_suspects
from market.actions.table import merge_actions, no_actions
from market.bars import QUARANTINE_SCHEMA, check_bars
from market.errors import SourceError
from market.flags import Flag
from market.importing.batches import Batch, Bounds, in_batches
from market.importing.grid import closed_days, place
from market.importing.inference import infer_spec, with_defaults
from market.importing.joining import NTH, join_sources
from market.importing.options import ImportOptions
from market.importing.rows import SourceRows
from market.importing.steps import Step, require_step, steps_of
from market.importing.tails import require_store_step
from market.lake.appending import ImportReport, OnConflict, import_bars, key_of, with_closes
from market.lake.history import MarketHistory
from market.lake.shelves import Shelves
from market.lake.versions import current_version, lake_folder
from market.spec import ALWAYS_OPEN, StoreSpec
from market.storage import Folder

_MOST_NOTES = 8
_SHOWN_CLOSED = 3
_GRID_SAMPLE = 20_000
"""Stored labels that show the grid of an intraday store."""
_BEFORE = timedelta(days=20)
"""How far back the bar before the first imported one may lie."""


class Sources(NamedTuple):
    """Where an import's rows come from."""

    names: list[str]
    """Known in full when the parts are read."""
    parts: Iterator[SourceRows]
    """One per source, in the order they count."""
    notes: list[str]
    """Filled while the parts are read."""


_Stepped = tuple[Batch, list[Step]]


@dataclass
class _Checked:
    """What is known of the sources checked so far; their good bars are on the shelves."""

    names: dict[str, int] = field(default_factory=dict)
    rejected: list[pl.DataFrame] = field(default_factory=list)
    actions: pl.DataFrame = field(default_factory=no_actions)
    closed: list[str] = field(default_factory=list)
    filled: Counter[Flag] = field(default_factory=Counter)
    sources: int = 0
    bars: int = 0


def run_import(
    read: Callable[[ImportOptions], Sources],
    store: str | Path,
    options: ImportOptions,
    on_conflict: OnConflict,
    spec: StoreSpec | None = None,
    bounds: Bounds | None = None,
) -> ImportReport:
    """Import what `read` finds, told everything that the store and the venue already say.

    spec: of the bars, where it is known; otherwise the store's, or inferred from the first rows.
    bounds: how much is held in memory; nothing else depends on it. Raises CandlecastError, one
    line, with nothing written.
    """
    within = bounds or Bounds()
    root = lake_folder(store)
    held = MarketHistory.open(root) if current_version(root) else None
    existing = held.spec if held is not None else None
    told, notes = with_defaults(options, spec or existing)
    sources = read(told)
    reading = closing(in_batches(sources.parts, within.batch_rows))
    with Shelves(within.held_rows) as shelves, reading as batches:
        first: list[_Stepped] = []
        whose = "the store holds" if existing is not None else "the others are"
        if spec is None and existing is None:
            first = _enough(batches, within.held_rows)
            spec, spec_notes = infer_from(first, told)
            notes += spec_notes
        if existing is None and (told.freq or sum(len(each.lengths) for each, _ in first) == 1):
            whose = "--freq says" if told.freq is not None else "most of its bars are"
        spec = spec or existing
        assert spec is not None
        rest = ((each, steps_of(each.rows)) for each in batches)
        found = _check(chain(_emptied(first), rest), shelves, spec, told, held, whose)
        joined = join_sources(shelves, spec, on_conflict, list(found.names))
        quarantine = pl.concat([pl.DataFrame(schema=QUARANTINE_SCHEMA), *found.rejected])
        suspected = _look(shelves, found.actions, spec, held)
        report = import_bars(
            root, spec, shelves, quarantine.sort("source", "row", maintain_order=True),
            actions=found.actions, on_conflict=on_conflict, sources=sources.names,
            buckets=told.buckets,
        )  # fmt: skip
    return replace(
        report,
        known_bars=report.known_bars + joined.equal,
        conflicts=pl.concat([report.conflicts, joined.conflicts]),
        notes=_notes([*sources.notes, *notes], found, report, suspected(root)),
    )


def _enough(batches: Iterator[Batch], most: int) -> list[_Stepped]:
    """Batches to infer from, with their steps: all, or as many as fit."""
    taken, rows = [], 0
    for batch in batches:
        taken.append((batch, steps_of(batch.rows)))
        rows += batch.rows.height
        if rows > most:
            break
    if not taken:
        raise SourceError("nothing to import")
    return taken


def _emptied(batches: list[_Stepped]) -> Iterator[_Stepped]:
    """Batches in their order, each let go of when the next is asked for."""
    while batches:
        yield batches.pop(0)


def _check(
    batches: Iterable[_Stepped],
    shelves: Shelves,
    spec: StoreSpec,
    told: ImportOptions,
    held: MarketHistory | None,
    whose: str,
) -> _Checked:
    """Place and check every batch; good bars go to the shelves."""
    found = _Checked()
    labels = None if held is None or spec.daily else _stored_labels(held)
    for batch, steps in batches:
        require_step(steps, spec, whose, batch.rows)
        if held is not None:
            require_store_step(batch.rows, held)
        placed = place(batch.rows, spec, told, labels, batch.lengths)
        checked = check_bars(placed, key_of(spec)[1])
        good = checked.good
        found.closed += closed_days(good, spec, told)
        for name in good["source"].unique(maintain_order=True):
            found.names.setdefault(name, len(found.names))
        nth = pl.col("source").replace_strict(found.names, return_dtype=pl.UInt32)
        shelves.add(with_closes(good, spec).with_columns(good.select(nth.alias(NTH))))
        found.filled.update(count_filled(good))
        found.bars += good.height
        found.sources += len(batch.lengths)
        if checked.quarantine.height:
            found.rejected.append(checked.quarantine)
        if batch.actions.height:
            found.actions = merge_actions(found.actions, batch.actions)
    return found


def _notes(
    before: list[str], found: _Checked, report: ImportReport, suspects: list[Suspect]
) -> tuple[str, ...]:
    """Everything to say about an import, each thing once."""
    several = found.sources > 1
    closed = [each if several else each.split(": ", 1)[1] for each in found.closed]
    said = [*before, *closed[:_SHOWN_CLOSED]]
    if len(closed) > _SHOWN_CLOSED:
        said.append(f"and so have {len(closed) - _SHOWN_CLOSED} more files")
    said += describe_filled(found.filled, found.bars)
    if report.new_actions:
        said.append(f"{report.new_actions:,} corporate actions stored beside the raw bars")
    suspicion = describe(suspects)
    return tuple(dict.fromkeys([*said, suspicion] if suspicion else said))


def infer_from(
    parts: Iterable[tuple[SourceRows | Batch, list[Step]]], told: ImportOptions
) -> tuple[StoreSpec, list[str]]:
    """The spec of a new store from its first sources, and what about it was inferred.

    parts: rows, each with their steps; at least one.
    """
    labels: list[pl.DataFrame] = []
    every: list[Step] = []
    name = None
    for part, steps in parts:
        name = name or str(part.rows["source"][0])
        every += steps
        if part.rows["instant"].null_count() == part.rows.height:
            distinct = part.rows.select(pl.col("timestamp").unique())
            distinct = distinct.with_columns(instant=pl.lit(None, pl.Datetime("us")))
        else:
            distinct = part.rows.select("timestamp", "instant").unique()
        labels.append(distinct.drop_nulls("timestamp"))
    assert name is not None
    return infer_spec(pl.concat(labels).unique(), every, told, name)


def _stored_labels(held: MarketHistory) -> pl.Series:
    return held.scan().select("timestamp").head(_GRID_SAMPLE).collect()["timestamp"]


def count_filled(good: pl.DataFrame) -> dict[Flag, int]:
    """How many bars have which flag, of those that an import sets."""
    flags = good["flags"].to_numpy()
    return {flag: int((flags & int(flag) != 0).sum()) for flag in _FILLED}


_FILLED = {
    Flag.VOLUME_MISSING: "no volume: 0 is stored",
    Flag.AMOUNT_MISSING: "no traded amount: volume × mean(open, high, low, close) is stored",
    Flag.ROUNDED: "a high or low off by a rounding error: it is widened",
}


def describe_filled(counts: Mapping[Flag, int], bars: int) -> list[str]:
    """Say how many bars had no volume or amount, and what was stored for them."""
    notes = []
    for flag, text in _FILLED.items():
        if counts[flag]:
            whose = "the bars have" if counts[flag] == bars else f"{counts[flag]:,} bars have"
            notes.append(f"{whose} {text}, and flagged")
    return notes


def _look(
    shelves: Shelves, actions: pl.DataFrame, spec: StoreSpec, held: MarketHistory | None
) -> Callable[[Folder], list[Suspect]]:
    """Look for suspected splits among these bars; asked after the import, since those between them
    and the bars before show in the store alone."""
    if spec.venue == ALWAYS_OPEN or spec.price_basis == "adjusted":
        return lambda _: []
    found: list[Suspect] = []
    begun: list[tuple[list[str], date]] = []
    for bucket in shelves.buckets():
        bars = shelves.bars(bucket)
        if held is None:
            found += find_suspects(bars, actions)
        elif bars.height:
            begun.append((shelves.symbols(bucket), bars["session"].min()))  # type: ignore[arg-type]

    def ask(root: Folder) -> list[Suspect]:
        history = MarketHistory.open(root) if begun else None
        for symbols, first in begun:
            assert history is not None
            seen = history.scan(symbols=symbols, start=first - _BEFORE).collect()
            near = find_suspects(seen, history.actions(symbols))
            found.extend(each for each in near if each.session >= first)
        return sorted(found, key=lambda each: (each.session, each.symbol))

    return ask


def cut(notes: Sequence[str], most: int = _MOST_NOTES) -> list[str]:
    """The first notes of many files, and how many more there are."""
    distinct = list(dict.fromkeys(notes))
    if len(distinct) <= most:
        return distinct
    return [*distinct[:most], f"and {len(distinct) - most} more notes of this kind"]
