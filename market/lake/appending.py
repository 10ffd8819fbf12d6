"""What an import changes: new bars, conflicts, fresh quarantine rows, and the files they go to.

Knows bars and the lake's files. One import is one step: whole, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import polars as pl

from market.actions.table import merge_actions, no_actions
from market.bars import BAR_SCHEMA, QUARANTINE_SCHEMA
from market.calendars import sessions_and_closes
from market.errors import StoreError
from market.fields import FEATURES
from market.lake.manifest import (
    BarFile,
    Manifest,
    bucket_of,
    current_version,
    discard,
    load_manifest,
    publish,
    verified,
    write_manifest,
    write_table,
    writer_lock,
)
from market.lake.reading import scan_bars
from market.spec import StoreSpec
from market.storage import writing

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
    new_actions: int = 0
    """Corporate actions that were not there yet."""
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


def key_of(spec: StoreSpec) -> list[str]:
    """What makes two bars the same: symbol and session of daily bars, symbol and close of others.

    A daily label may name any time of its day, and clocks show one hour of the year twice.
    """
    return ["symbol", "session" if spec.daily else "close_utc"]


def with_closes(good: pl.DataFrame, spec: StoreSpec) -> pl.DataFrame:
    """The good half of check_bars in BAR_SCHEMA: session and close_utc as they are there, or by the
    spec."""
    if "session" in good.columns:
        return good.select(pl.col(name).cast(dtype) for name, dtype in BAR_SCHEMA.items())
    sessions, closes = sessions_and_closes(spec, good["timestamp"].to_numpy())
    return good.with_columns(
        pl.Series("session", sessions.astype("datetime64[D]"), pl.Date),
        pl.Series("close_utc", closes, pl.Datetime("us")).dt.replace_time_zone("UTC"),
    ).select(pl.col(name).cast(dtype) for name, dtype in BAR_SCHEMA.items())


def compare(bars: pl.DataFrame, stored: pl.DataFrame, key: list[str]) -> Comparison:
    """Sort imported bars by whether the store knows them, knows others in their place, or none."""
    both = bars.join(stored, on=key, how="inner", suffix="_stored")
    differs = pl.any_horizontal(
        pl.col(name) != pl.col(f"{name}_stored") for name in (*FEATURES, "flags")
    )
    conflicts = both.filter(differs).sort(*key)
    new = bars.join(stored, on=key, how="anti") if stored.height else bars
    return Comparison(new, conflicts, both.height - conflicts.height)


def import_bars(
    root: Path,
    spec: StoreSpec,
    good: pl.DataFrame,
    quarantine: pl.DataFrame,
    *,
    actions: pl.DataFrame | None = None,
    on_conflict: OnConflict,
    sources: Sequence[str],
) -> ImportReport:
    """Add checked bars to the newest version of a store, made where there is none, in one step.

    See MarketHistory.append. Where it fails nothing is left behind, not even an empty store.
    Raises StoreError, one line, also for a disk that is full or cannot be written.
    """
    begun = current_version(root) is not None
    try:
        with writing(root), writer_lock(root):
            version = current_version(root)
            if version is None:
                manifest = Manifest(spec, None, (), (), ())
                version = write_manifest(root, manifest)
            else:
                manifest = load_manifest(root, version)
            require_spec(root, manifest.spec, spec)
            return _append(root, version, manifest, good, quarantine, actions, on_conflict, sources)
    finally:
        if not begun:
            discard(root)


def require_spec(root: Path, held: StoreSpec, wanted: StoreSpec) -> None:
    """Raise StoreError where a store holds bars of another kind."""
    if held != wanted:
        raise StoreError(
            f"{root} holds {held}; these bars are {wanted}. One store holds one venue and "
            "frequency: choose another --store"
        )


def add_actions(root: Path, actions: pl.DataFrame, source: str) -> str:
    """Add corporate actions to the newest version of a store; returns the version after it."""
    with writing(root), writer_lock(root):
        version = current_version(root)
        if version is None:
            raise StoreError(f"{root}: no history store here; import bars first")
        manifest = load_manifest(root, version)
        files = _write_actions(root, manifest, actions)
        if files == manifest.actions:
            return version
        return publish(root, replace(manifest, parent=version, actions=files, sources=(source,)))


def _append(
    root: Path,
    version: str,
    manifest: Manifest,
    good: pl.DataFrame,
    quarantine: pl.DataFrame,
    actions: pl.DataFrame | None,
    policy: OnConflict,
    sources: Sequence[str],
) -> ImportReport:
    spec, key = manifest.spec, key_of(manifest.spec)
    bars = with_closes(good, spec)
    near = scan_bars(root, manifest.bars, symbols=bars["symbol"].unique())
    if bars.height:
        span = bars["close_utc"].min(), bars["close_utc"].max()
        near = near.filter(pl.col("close_utc").is_between(*span))
    compared = compare(bars, near.collect(), key)
    if compared.conflicts.height and policy is OnConflict.ERROR:
        raise StoreError(conflict_message(compared.conflicts, root))
    known = [pl.read_parquet(path) for path in verified(root, manifest.quarantine)]
    fresh = unseen(quarantine, pl.concat([quarantine.clear(), *known]))
    acted, new_actions = manifest.actions, 0
    if actions is not None and actions.height:
        acted = _write_actions(root, manifest, actions)
        new_actions = actions.height if acted != manifest.actions else 0
    report = ImportReport(
        version=version,
        previous=version,
        new_bars=compared.new.height,
        known_bars=compared.equal,
        conflicts=compared.conflicts.select("symbol", "timestamp", "close_stored", "close"),
        on_conflict=policy,
        quarantined=dict(fresh.group_by("rule").len().sort("rule").iter_rows()),
        known_quarantine=quarantine.height - fresh.height,
        new_actions=new_actions,
    )
    replaced = compared.conflicts.select(BAR_SCHEMA.names())
    if policy is not OnConflict.REPLACE:
        replaced = replaced.clear()
    if not (compared.new.height or replaced.height or fresh.height or new_actions):
        return report
    files = write_bars(root, manifest.bars, compared.new, replaced, key)
    rejected = manifest.quarantine
    if fresh.height:
        rejected = (*rejected, write_table(root, "quarantine", fresh))
    published = publish(root, Manifest(spec, version, files, rejected, tuple(sources), acted))
    return replace(report, version=published)


def _write_actions(root: Path, manifest: Manifest, actions: pl.DataFrame) -> tuple[str, ...]:
    known = [pl.read_parquet(path) for path in verified(root, manifest.actions)]
    merged = merge_actions(pl.concat([no_actions(), *known]), actions)
    if known and merged.equals(known[0]):
        return manifest.actions
    return (write_table(root, "actions", merged),)


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
    root: Path,
    files: tuple[BarFile, ...],
    new: pl.DataFrame,
    replaced: pl.DataFrame,
    key: list[str],
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
            part = pl.concat([stored.join(part, on=key, how="anti"), part])
            kept = [each for each in kept if each.bucket != bucket]
        part = part.sort("symbol", "close_utc")
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


def _iso(moment: object) -> str:
    assert isinstance(moment, datetime)
    return moment.astimezone(UTC).isoformat()
