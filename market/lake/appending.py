"""What an import changes: new bars, conflicts, fresh quarantine rows, and the files they go to.

Knows bars and the lake's files. One import is one step: whole, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from hashlib import blake2b, file_digest
from pathlib import Path

import polars as pl

from market.actions.table import ACTION_SCHEMA, merge_actions
from market.bars import BAR_SCHEMA, QUARANTINE_SCHEMA
from market.calendars import sessions_and_closes
from market.errors import StoreError
from market.fields import FEATURES
from market.lake.contents import Contents
from market.lake.files import (
    DataFile,
    bucket_of,
    buckets_for,
    read_files,
    scan_bars,
    write_file,
)
from market.lake.lock import discard, writer_lock
from market.lake.versions import create, current_version, load, publish
from market.spec import StoreSpec
from market.storage import Folder, is_url, writing

_FILES_PER_BUCKET = 8
"""A bucket of this many files is rewritten into one at the next import that touches it."""
_FILES_AT_ONCE = 4
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
    root: Folder,
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
                buckets = buckets_for(good["symbol"].n_unique())
                version = create(root, Contents(spec, buckets), unfinished=True)
            contents = load(root, version)
            require_spec(root, contents.spec, spec)
            return _append(root, version, contents, good, quarantine, actions, on_conflict, sources)
    finally:
        if not begun:
            discard(root)


def require_spec(root: Folder, held: StoreSpec, wanted: StoreSpec) -> None:
    """Raise StoreError where a store holds bars of another kind."""
    if held != wanted:
        raise StoreError(
            f"{root} holds {held}; these bars are {wanted}. One store holds one venue and "
            "frequency: choose another --store"
        )


def add_actions(root: Folder, actions: pl.DataFrame, source: str) -> str:
    """Add corporate actions to the newest version of a store; returns the version after it."""
    with writing(root), writer_lock(root):
        version = current_version(root)
        if version is None:
            raise StoreError(f"{root}: no history store here; import bars first")
        contents = load(root, version)
        files = _write_actions(root, contents, actions)
        if files == contents.actions:
            return version
        return publish(root, version, _made_of([source], replace(contents, actions=files)))


def _append(
    root: Folder,
    version: str,
    contents: Contents,
    good: pl.DataFrame,
    quarantine: pl.DataFrame,
    actions: pl.DataFrame | None,
    policy: OnConflict,
    sources: Sequence[str],
) -> ImportReport:
    spec, key = contents.spec, key_of(contents.spec)
    bars = with_closes(good, spec)
    near = scan_bars(root, contents.bars, contents.buckets, symbols=bars["symbol"].unique())
    if bars.height:
        span = bars["close_utc"].min(), bars["close_utc"].max()
        near = near.filter(pl.col("close_utc").is_between(*span))
    compared = compare(bars, near.collect(), key)
    if compared.conflicts.height and policy is OnConflict.ERROR:
        raise StoreError(conflict_message(compared.conflicts, root))
    fresh = unseen(quarantine, read_files(root, contents.quarantine, QUARANTINE_SCHEMA))
    acted, new_actions = contents.actions, 0
    if actions is not None and actions.height:
        acted = _write_actions(root, contents, actions)
        new_actions = actions.height if acted != contents.actions else 0
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
    files = write_bars(root, contents, compared.new, replaced, key)
    rejected = contents.quarantine
    if fresh.height:
        rejected = (*rejected, write_file(root, "quarantine", fresh, number=len(rejected)))
    after = replace(contents, bars=files, quarantine=rejected, actions=acted)
    return replace(report, version=publish(root, version, _made_of(sources, after)))


def _made_of(sources: Sequence[str], contents: Contents) -> Contents:
    """With what was read for it, and the hash of each source that is a file here."""
    fingerprints = {}
    for source in sources:
        path = Path(source)
        if not is_url(source) and path.is_file():
            with path.open("rb") as handle:
                hashed = file_digest(handle, partial(blake2b, digest_size=16))
            fingerprints[source] = hashed.hexdigest()
    return replace(contents, sources=tuple(sources), fingerprints=fingerprints, formerly=None)


def _write_actions(root: Folder, contents: Contents, actions: pl.DataFrame) -> tuple[DataFile, ...]:
    known = read_files(root, contents.actions, ACTION_SCHEMA)
    merged = merge_actions(known, actions)
    if contents.actions and merged.equals(known):
        return contents.actions
    return (write_file(root, "actions", merged),)


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
    root: Folder,
    contents: Contents,
    new: pl.DataFrame,
    replaced: pl.DataFrame,
    key: list[str],
) -> tuple[DataFile, ...]:
    """Write the files of the next version and list all of its files.

    New bars go into files beside the old ones; a bucket with replaced bars, or with many files, is
    written anew into one file.
    """
    bars = pl.concat([new, replaced])
    buckets = {symbol: bucket_of(symbol, contents.buckets) for symbol in bars["symbol"].unique()}
    numbered = bars.with_columns(
        pl.col("symbol").replace_strict(buckets, return_dtype=pl.Int32).alias("bucket")
    )
    anew = {buckets[symbol] for symbol in replaced["symbol"].unique()}
    held: dict[int, list[DataFile]] = {}
    for each in contents.bars:
        held.setdefault(each.bucket or 0, []).append(each)

    def write(bucket: int, part: pl.DataFrame) -> list[DataFile]:
        kept = held.get(bucket, [])
        if kept and (bucket in anew or len(kept) >= _FILES_PER_BUCKET):
            stored = read_files(root, kept, BAR_SCHEMA)
            part, kept = pl.concat([stored.join(part, on=key, how="anti"), part]), []
        part = part.sort("symbol", "close_utc")
        return [*kept, write_file(root, "bars", part, bucket=bucket)]

    parts = numbered.partition_by("bucket", as_dict=True, include_key=False)
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        written = list(pool.map(lambda item: write(int(item[0][0]), item[1]), parts.items()))
    touched = {int(bucket) for (bucket,) in parts}
    files = [each for each in contents.bars if each.bucket not in touched]
    files += [each for some in written for each in some]
    return tuple(sorted(files, key=lambda f: (f.bucket or 0, str(f.first_close), f.path)))


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
