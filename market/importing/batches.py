"""Rows of many sources looked at together, a bounded number at a time.

Knows frames of rows; not what is done with them. Small files cost little when they are checked by
the hundred, and large ones are read while those before them are checked.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from market.actions.table import merge_actions, no_actions
from market.importing.rows import SourceRows
from market.lake.shelves import HELD


@dataclass(frozen=True)
class Bounds:
    """How many rows an import holds; more go through a temporary folder."""

    batch_rows: int = 200_000
    """Rows of small sources that are checked together."""
    held_rows: int = HELD
    """Rows that are in memory at a time, beside those of one source."""


class Batch(NamedTuple):
    """Sources without a symbol in common, one after the other."""

    rows: pl.DataFrame
    """As SourceRows."""
    lengths: tuple[int, ...]
    """Rows of each source."""
    actions: pl.DataFrame
    """ACTION_SCHEMA."""


def in_batches(parts: Iterator[SourceRows], most: int) -> Generator[Batch]:
    """Sources in their order, together up to `most` rows; a larger one comes alone."""
    held: list[SourceRows] = []
    symbols: set[str | None] = set()
    rows = 0
    for part in _ahead(parts):
        own = set(part.rows["symbol"].unique())
        if held and (rows + part.rows.height > most or symbols & own):
            yield _joined(held)
            held, symbols, rows = [], set(), 0
        held.append(part)
        symbols |= own
        rows += part.rows.height
    if held:
        yield _joined(held)


def _joined(parts: list[SourceRows]) -> Batch:
    actions = no_actions()
    for part in parts:
        if part.actions.height:
            actions = merge_actions(actions, part.actions)
    rows = pl.concat([part.rows for part in parts]) if len(parts) > 1 else parts[0].rows
    return Batch(rows, tuple(part.rows.height for part in parts), actions)


def _ahead(parts: Iterator[SourceRows]) -> Generator[SourceRows]:
    """The same parts; the next one is read while the caller looks at the last."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, parts, None)
        while (part := pending.result()) is not None:
            pending = pool.submit(next, parts, None)
            yield part
