"""How an import differs from what a store holds: rows it has not seen, bars it has otherwise.

Knows frames; no files.
"""

from __future__ import annotations

import polars as pl

from market.bars import QUARANTINE_SCHEMA
from market.fields import FEATURES
from market.storage import Folder

_QUARANTINE_CONTENT = ("symbol", "timestamp", "rule", "detail", *FEATURES)
"""What makes two quarantined rows the same, wherever they were read."""


def unseen(quarantine: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """The rows that are not in the quarantine yet; equal rows are matched one to one."""
    rows = quarantine.select(pl.col(n).cast(t) for n, t in QUARANTINE_SCHEMA.items())
    nth = pl.int_range(pl.len()).over(*_QUARANTINE_CONTENT).alias("nth")
    content = [*_QUARANTINE_CONTENT, "nth"]
    return (
        rows.with_columns(nth)
        .join(known.with_columns(nth), on=content, how="anti", nulls_equal=True)
        .drop("nth")
    )


def conflict_message(conflicts: pl.DataFrame, root: Folder) -> str:
    """One line that counts the conflicts, shows the first ones, and says how to decide."""
    rows = conflicts.select("symbol", "timestamp", "close_stored", "close").head(3).iter_rows()
    examples = "; ".join(
        f"{symbol} {timestamp}: close {stored:.10g} stored, {close:.10g} imported"
        if stored != close
        else f"{symbol} {timestamp}: same close {close:.10g}, other values differ"
        for symbol, timestamp, stored, close in rows
    )
    return (
        f"{conflicts.height:,} bars differ from those in {root} ({examples}). Nothing was written; "
        "choose --on-conflict keep (stored bars stay) or --on-conflict replace (imported ones win)"
    )
