"""What an import changes: new bars, conflicts, fresh quarantine rows, and the files they go to.

Knows bars and the lake's files; who may write, and when it counts, is decided in history.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import polars as pl

from market.bars import BAR_SCHEMA, QUARANTINE_SCHEMA
from market.calendars import sessions_and_closes
from market.fields import FEATURES
from market.lake.manifest import BarFile, bucket_of, verified, write_table
from market.spec import StoreSpec

_KEY = ("symbol", "timestamp")
_FILES_PER_BUCKET = 8
"""A bucket of this many files is rewritten into one at the next import that touches it."""
_QUARANTINE_CONTENT = ("symbol", "timestamp", "rule", "detail", *FEATURES)
"""What makes two quarantined rows the same, wherever they were read."""


class OnConflict(StrEnum):
    """What happens when an imported bar differs from the stored one."""

    ERROR = "error"
    KEEP = "keep"
    REPLACE = "replace"


@dataclass(frozen=True)
class ImportReport:
    """What one import did: how many rows were new, kept, replaced or quarantined."""

    version: str
    """The store's version after it."""
    previous: str
    new_bars: int
    known_bars: int
    """Bars that were already there, equal."""
    conflicts: pl.DataFrame
    """symbol, timestamp, and both closes of every bar that differed from the stored one."""
    on_conflict: OnConflict
    quarantined: dict[str, int]
    """New quarantine rows by rule."""
    known_quarantine: int
    """Quarantine rows that were already there."""
    notes: tuple[str, ...] = field(default=())
    """What was inferred or left out on the way, for the user to read."""

    @property
    def nothing_new(self) -> bool:
        return self.version == self.previous


@dataclass(frozen=True)
class Comparison:
    """Imported bars against the stored ones."""

    new: pl.DataFrame
    """Bars at a symbol and timestamp that the store does not have."""
    conflicts: pl.DataFrame
    """Bars whose stored counterpart has other values, with its values as *_stored."""
    equal: int
    """How many bars are stored already."""


def with_closes(good: pl.DataFrame, spec: StoreSpec) -> pl.DataFrame:
    """The good half of check_bars in BAR_SCHEMA: session and close_utc come from the spec."""
    sessions, closes = sessions_and_closes(spec, good["timestamp"].to_numpy())
    return good.with_columns(
        pl.Series("session", sessions.astype("datetime64[D]"), pl.Date),
        pl.Series("close_utc", closes, pl.Datetime("us")).dt.replace_time_zone("UTC"),
    ).select(pl.col(name).cast(dtype) for name, dtype in BAR_SCHEMA.items())


def compare(bars: pl.DataFrame, stored: pl.DataFrame) -> Comparison:
    """Sort imported bars by whether the store knows them, knows others in their place, or none."""
    both = bars.join(stored, on=_KEY, how="inner", suffix="_stored")
    differs = pl.any_horizontal(
        pl.col(name) != pl.col(f"{name}_stored") for name in (*FEATURES, "flags")
    )
    conflicts = both.filter(differs).sort(*_KEY)
    new = bars.join(stored, on=_KEY, how="anti")
    return Comparison(new, conflicts, both.height - conflicts.height)


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


def write_bars(
    root: Path, files: tuple[BarFile, ...], new: pl.DataFrame, replaced: pl.DataFrame
) -> tuple[BarFile, ...]:
    """Write the files of the next version and list all of its files.

    New bars go into files beside the old ones; a bucket with replaced bars, or with many files, is
    written anew into one file.
    """
    kept = list(files)
    bars = pl.concat([new, replaced])
    buckets = {symbol: bucket_of(symbol) for symbol in bars["symbol"].unique()}
    numbered = bars.with_columns(
        pl.col("symbol").replace_strict(buckets, return_dtype=pl.Int32).alias("bucket")
    )
    rewritten = {buckets[symbol] for symbol in replaced["symbol"].unique()}
    for (bucket,), rows in numbered.partition_by("bucket", as_dict=True).items():
        part = rows.drop("bucket")
        old = [each for each in kept if each.bucket == bucket]
        if bucket in rewritten or len(old) >= _FILES_PER_BUCKET:
            stored = pl.read_parquet(verified(root, [each.path for each in old]))
            part = pl.concat([stored.join(part, on=_KEY, how="anti"), part])
            kept = [each for each in kept if each.bucket != bucket]
        part = part.sort(*_KEY)
        kept.append(
            BarFile(
                path=write_table(root, f"bars/{bucket:02d}", part),
                bucket=int(bucket),
                rows=part.height,
                first_close=_iso(part["close_utc"].min()),
                last_close=_iso(part["close_utc"].max()),
            )
        )
    return tuple(sorted(kept, key=lambda each: (each.bucket, each.first_close, each.path)))


def conflict_message(conflicts: pl.DataFrame, root: Path) -> str:
    """One line that counts the conflicts, shows the first ones, and says how to decide."""
    rows = conflicts.select(*_KEY, "close_stored", "close").head(3).iter_rows()
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


def _iso(moment: object) -> str:
    assert isinstance(moment, datetime)
    return moment.astimezone(UTC).isoformat()
