"""What an import changes: new bars, conflicts, fresh quarantine rows, and the files they go to.

Knows bars and the lake's files. One import is one step: whole, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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
    current_version,
    discard,
    load_manifest,
    publish,
    undone,
    verified,
    write_manifest,
    write_table,
    writer_lock,
)
from market.lake.reading import scan_bars
from market.lake.shelves import Shelves
from market.spec import StoreSpec
from market.storage import writing

_FILES_PER_BUCKET = 8
"""A bucket of this many files is rewritten into one at the next import that touches it."""
_QUARANTINE_CONTENT = ("symbol", "timestamp", "rule", "detail", *FEATURES)
"""What makes two quarantined rows the same, wherever they were read."""
_WRITERS = 2
"""Buckets written at a time: while one waits for the disk, the next is packed."""


_CONFLICTS = {
    "symbol": pl.String(), "timestamp": pl.Datetime("us"), "close_stored": pl.Float64(),
    "close": pl.Float64(),
}  # fmt: skip


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
    good: pl.DataFrame | Shelves,
    quarantine: pl.DataFrame,
    *,
    actions: pl.DataFrame | None = None,
    on_conflict: OnConflict,
    sources: Sequence[str],
) -> ImportReport:
    """Add checked bars to the newest version of a store, made where there is none, in one step.

    See MarketHistory.append. good: a frame, or shelves of bars. Where it fails nothing is left
    behind, not even an empty store.
    Raises StoreError, one line, also for a disk that is full or cannot be written.
    """
    if isinstance(good, pl.DataFrame):
        with Shelves() as shelves:
            shelves.add(with_closes(good, spec))
            return import_bars(
                root, spec, shelves, quarantine, actions=actions, on_conflict=on_conflict,
                sources=sources,
            )  # fmt: skip
    begun = current_version(root) is not None
    try:
        with writing(root), writer_lock(root), undone(root):
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
    shelves: Shelves,
    quarantine: pl.DataFrame,
    actions: pl.DataFrame | None,
    policy: OnConflict,
    sources: Sequence[str],
) -> ImportReport:
    conflicts, rewritten, equal = [], set[int](), 0
    stored = {each.bucket for each in manifest.bars}
    for bucket in (each for each in shelves.buckets() if each in stored):
        bars = shelves.bars(bucket).select(BAR_SCHEMA.names())
        compared = _compared(root, manifest, bars, bucket)
        if compared is None:
            continue
        conflicts.append(compared.conflicts)
        equal += compared.equal
        replaced = compared.conflicts.select(BAR_SCHEMA.names())
        if policy is not OnConflict.REPLACE:
            replaced = replaced.clear()
        shelves.replace(bucket, pl.concat([compared.new, replaced]))
        if replaced.height:
            rewritten.add(bucket)
    differing = pl.DataFrame(schema=_CONFLICTS)
    if conflicts:
        differing = pl.concat(conflicts).sort(*key_of(manifest.spec))
    if differing.height and policy is OnConflict.ERROR:
        raise StoreError(conflict_message(differing, root))
    known = [pl.read_parquet(path) for path in verified(root, manifest.quarantine)]
    fresh = unseen(quarantine, pl.concat([quarantine.clear(), *known]))
    acted, new_actions = manifest.actions, 0
    if actions is not None and actions.height:
        acted = _write_actions(root, manifest, actions)
        new_actions = actions.height if acted != manifest.actions else 0
    changed = differing.height if policy is OnConflict.REPLACE else 0
    report = ImportReport(
        version=version,
        previous=version,
        new_bars=shelves.rows - changed,
        known_bars=equal,
        conflicts=differing.select(list(_CONFLICTS)),
        on_conflict=policy,
        quarantined=dict(fresh.group_by("rule").len().sort("rule").iter_rows()),
        known_quarantine=quarantine.height - fresh.height,
        new_actions=new_actions,
    )
    if not (shelves.rows or fresh.height or new_actions):
        return report
    files = write_bars(root, manifest.bars, shelves, rewritten, key_of(manifest.spec))
    rejected = manifest.quarantine
    if fresh.height:
        rejected = (*rejected, write_table(root, "quarantine", fresh))
    published = publish(
        root, Manifest(manifest.spec, version, files, rejected, tuple(sources), acted)
    )
    return replace(report, version=published)


def _compared(root: Path, manifest: Manifest, bars: pl.DataFrame, bucket: int) -> Comparison | None:
    """One bucket's bars against the stored ones near them; None where none is."""
    if not bars.height:
        return None
    first, last = bars["close_utc"].min(), bars["close_utc"].max()
    files = [
        each for each in manifest.bars
        if each.bucket == bucket and each.first_close <= _iso(last)
        and each.last_close >= _iso(first)
    ]  # fmt: skip
    if not files:
        return None
    near = scan_bars(root, files, symbols=bars["symbol"].unique())
    stored = near.filter(pl.col("close_utc").is_between(first, last)).collect()
    return compare(bars, stored, key_of(manifest.spec))


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
    root: Path, files: tuple[BarFile, ...], shelves: Shelves, rewritten: set[int], key: list[str]
) -> tuple[BarFile, ...]:
    """Write the files of the next version and list all of its files.

    New bars go into files beside the old ones; a bucket with many files, or one of `rewritten`
    (there bars take the place of others), is written anew into one file.
    """
    kept: dict[int, list[BarFile]] = {}
    for each in files:
        kept.setdefault(each.bucket, []).append(each)

    def write(bucket: int) -> None:
        part = shelves.bars(bucket).select(BAR_SCHEMA.names())
        old = kept.get(bucket, [])
        if not part.height:
            return
        if bucket in rewritten or len(old) >= _FILES_PER_BUCKET:
            stored = pl.read_parquet(verified(root, [each.path for each in old]))
            part = pl.concat([stored.join(part, on=key, how="anti"), part])
            old = []
        part = part.sort("symbol", "close_utc")
        made = BarFile(
            path=write_table(root, f"bars/{bucket:02d}", part),
            bucket=bucket,
            rows=part.height,
            first_close=_iso(part["close_utc"].min()),
            last_close=_iso(part["close_utc"].max()),
        )
        kept[bucket] = [*old, made]
        shelves.drop(bucket)

    with ThreadPoolExecutor(_WRITERS) as pool:
        for done in [pool.submit(write, bucket) for bucket in shelves.buckets()]:
            done.result()
    every = [each for own in kept.values() for each in own]
    return tuple(sorted(every, key=lambda each: (each.bucket, each.first_close, each.path)))


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
