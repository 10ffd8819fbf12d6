"""Runs a pipeline in the true world and in poisoned ones, and says what changed first.

Knows frames alone. A pipeline gives rows per stage, each with the moment from which it was known;
rows known by the moment must be the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from cluster.audit.poison import AT_OPEN, POISONS, Poison, World, within_the_bar

KNOWN_AT = "known_at"
"""Column of every stage: from when (UTC) a row was known."""

Pipeline = Callable[[World], Mapping[str, pl.DataFrame]]
"""Rows per stage, in the order in which the stages feed each other."""


@dataclass(frozen=True)
class Leak:
    """A stage that knew the future."""

    poison: str
    stage: str
    rows: int
    """Rows known by the moment that changed, came or went."""
    first: str
    """The first of them in words."""

    def __str__(self) -> str:
        return f"{self.stage} saw '{self.poison}': {self.rows} row(s) changed, first {self.first}"


@dataclass(frozen=True)
class Audit:
    """What an audit found."""

    moment: datetime
    stages: dict[str, int]
    """Rows per stage that were compared."""
    poisons: tuple[str, ...]
    leaks: tuple[Leak, ...]
    """The first stage of each poison that leaked; empty where nothing looked ahead."""


def audit(
    pipeline: Pipeline, world: World, moment: datetime, poisons: Mapping[str, Poison] = POISONS
) -> Audit:
    """Poison everything after the moment, one way after the other, and compare."""
    truth = pipeline(world)
    leaks = []
    for name, poison in poisons.items():
        until = moment + AT_OPEN if poison is within_the_bar else moment
        other = pipeline(poison(world, moment))
        for stage, rows in truth.items():
            leak = _compared(name, stage, _known(rows, until), _known(other[stage], until))
            if leak is not None:
                leaks.append(leak)
                break
    compared = {stage: _known(rows, moment).height for stage, rows in truth.items()}
    return Audit(moment, compared, tuple(poisons), tuple(leaks))


def _known(rows: pl.DataFrame, until: datetime) -> pl.DataFrame:
    return rows.filter(pl.col(KNOWN_AT) <= until).sort(
        KNOWN_AT, *(c for c in ("symbol", "step") if c in rows.columns), maintain_order=True
    )


def _compared(poison: str, stage: str, ours: pl.DataFrame, theirs: pl.DataFrame) -> Leak | None:
    if ours.equals(theirs):
        return None
    if ours.columns != theirs.columns:
        return Leak(poison, stage, max(ours.height, theirs.height), "its columns")
    shared = min(ours.height, theirs.height)
    different = pl.Series([False] * shared, dtype=pl.Boolean)
    columns: dict[str, pl.Series] = {}
    for name in ours.columns:
        columns[name] = ours[name][:shared].ne_missing(theirs[name][:shared])
        different = different | columns[name]
    count = int(different.sum()) + abs(ours.height - theirs.height)
    at = different.arg_max() if shared and different.any() else None
    if at is None:
        longer = ours if ours.height > theirs.height else theirs
        return Leak(poison, stage, count, f"{_key(longer, shared)}: a row came or went")
    name = next(c for c, marks in columns.items() if marks[at])
    return Leak(
        poison, stage, count, f"{_key(ours, at)}: {name} {ours[name][at]} became {theirs[name][at]}"
    )


def _key(rows: pl.DataFrame, at: int) -> str:
    """Where a row stands: its moment, and symbol and step where it has them."""
    words = [str(rows[name][at]) for name in ("symbol", "step") if name in rows.columns]
    return " ".join([f"{rows[KNOWN_AT][at]:%Y-%m-%d %H:%M}", *words])
