"""What an import changes: new bars, conflicts, fresh quarantine rows, and the files they go to.

Knows bars and the lake's files. One import is one step: whole, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from hashlib import blake2b, file_digest
from pathlib import Path

import polars as pl

from market.actions.table import ACTION_SCHEMA, merge_actions
from market.bars import BAR_SCHEMA, QUARANTINE_SCHEMA, in_order
from market.calendars import sessions_and_closes
from market.errors import StoreError
from market.fields import FEATURES
from market.lake.contents import Contents
from market.lake.differences import conflict_message, unseen
from market.lake.files import (
    BUCKETS,
    DataFile,
    bucket_of,
    buckets_for,
    read_files,
    scan_bars,
    write_file,
)
from market.lake.lock import discard, undone, writer_lock
from market.lake.shelves import Shelves, parts_by_bucket
from market.lake.versions import create, current_version, load, publish
from market.spec import StoreSpec
from market.storage import Folder, is_url, writing

_FILES_PER_BUCKET = 8
"""A bucket of this many files is rewritten into one at the next import that touches it."""
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
    root: Folder,
    spec: StoreSpec,
    good: pl.DataFrame | Shelves,
    quarantine: pl.DataFrame,
    *,
    actions: pl.DataFrame | None = None,
    on_conflict: OnConflict,
    sources: Sequence[str],
    buckets: int | None = None,
) -> ImportReport:
    """Add checked bars to the newest version of a store, made where there is none, in one step.

    See MarketHistory.append. good: a frame, or shelves of bars. buckets: of a new store; by its
    first symbols without. Where it fails nothing is left behind, not even an empty store.
    Raises StoreError, one line, also for a disk that is full or cannot be written.
    """
    if isinstance(good, pl.DataFrame):
        with Shelves() as shelves:
            shelves.add(with_closes(good, spec))
            return import_bars(
                root, spec, shelves, quarantine, actions=actions, on_conflict=on_conflict,
                sources=sources, buckets=buckets,
            )  # fmt: skip
    begun = current_version(root) is not None
    try:
        with writing(root), writer_lock(root), undone(root):
            version = current_version(root)
            if version is None:
                new = Contents(spec, buckets or buckets_for(good.symbols_seen))
                version = create(root, new, unfinished=True)
            contents = load(root, version)
            require_spec(root, contents.spec, spec)
            if buckets not in (None, contents.buckets):
                raise StoreError(
                    f"{root}: its symbols lie in {contents.buckets} buckets, chosen when it was "
                    f"made; leave --buckets {buckets} away, or name a new --store"
                )
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
    shelves: Shelves,
    quarantine: pl.DataFrame,
    actions: pl.DataFrame | None,
    policy: OnConflict,
    sources: Sequence[str],
) -> ImportReport:
    conflicts, rewritten, equal = [], set[int](), 0  # rewritten: the lake's own buckets
    stored = {(each.bucket or 0) % BUCKETS for each in contents.bars}
    for bucket in (each for each in shelves.buckets() if each in stored):
        bars = shelves.bars(bucket).select(BAR_SCHEMA.names())
        compared = _compared(root, contents, bars, bucket)
        if compared is None:
            continue
        conflicts.append(compared.conflicts)
        equal += compared.equal
        replaced = compared.conflicts.select(BAR_SCHEMA.names())
        if policy is not OnConflict.REPLACE:
            replaced = replaced.clear()
        shelves.replace(bucket, pl.concat([compared.new, replaced]))
        rewritten |= {bucket_of(name, contents.buckets) for name in replaced["symbol"].unique()}
    differing = pl.DataFrame(schema=_CONFLICTS)
    if conflicts:
        differing = pl.concat(conflicts).sort(*key_of(contents.spec))
    if differing.height and policy is OnConflict.ERROR:
        raise StoreError(conflict_message(differing, root))
    fresh = unseen(quarantine, read_files(root, contents.quarantine, QUARANTINE_SCHEMA))
    acted, new_actions = contents.actions, 0
    if actions is not None and actions.height:
        acted = _write_actions(root, contents, actions)
        new_actions = actions.height if acted != contents.actions else 0
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
    files = write_bars(root, contents, shelves, rewritten)
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


def _compared(
    root: Folder, contents: Contents, bars: pl.DataFrame, shelf: int
) -> Comparison | None:
    """One shelf's bars against the stored ones near them; None where none is."""
    if not bars.height:
        return None
    first, last = _moment(bars["close_utc"].min()), _moment(bars["close_utc"].max())
    files = [
        each for each in contents.bars
        if (each.bucket or 0) % BUCKETS == shelf and each.first_close and each.last_close
        and each.first_close <= last and each.last_close >= first
    ]  # fmt: skip
    if not files:
        return None
    near = scan_bars(root, files, contents.buckets, symbols=bars["symbol"].unique())
    stored = near.filter(pl.col("close_utc").is_between(first, last)).collect()
    return compare(bars, stored, key_of(contents.spec))


def _write_actions(root: Folder, contents: Contents, actions: pl.DataFrame) -> tuple[DataFile, ...]:
    known = read_files(root, contents.actions, ACTION_SCHEMA)
    merged = merge_actions(known, actions)
    if contents.actions and merged.equals(known):
        return contents.actions
    return (write_file(root, "actions", merged),)


def write_bars(
    root: Folder, contents: Contents, shelves: Shelves, rewritten: set[int]
) -> tuple[DataFile, ...]:
    """Write the files of the next version and list all of its files.

    New bars go into files beside the old ones; a bucket with many files, or one of `rewritten`
    (there bars take the place of others), is written anew into one file.
    """
    key, kept = key_of(contents.spec), dict[int, list[DataFile]]()
    for each in contents.bars:
        kept.setdefault(each.bucket or 0, []).append(each)

    def write(shelf: int) -> None:
        bars = shelves.bars(shelf).select(BAR_SCHEMA.names())
        if not bars.height:
            return
        for bucket, part in parts_by_bucket(bars, contents.buckets):
            old = kept.get(bucket, [])
            if old and (bucket in rewritten or len(old) >= _FILES_PER_BUCKET):
                stored = read_files(root, old, BAR_SCHEMA)
                part, old = pl.concat([stored.join(part, on=key, how="anti"), part]), []
            if not in_order(part, "close_utc"):
                part = part.sort("symbol", "close_utc")
            kept[bucket] = [*old, write_file(root, "bars", part, bucket=bucket)]
        shelves.drop(shelf)

    with ThreadPoolExecutor(_WRITERS) as pool:
        for done in [pool.submit(write, shelf) for shelf in shelves.buckets()]:
            done.result()
    every = [each for own in kept.values() for each in own]
    return tuple(sorted(every, key=lambda f: (f.bucket or 0, str(f.first_close), f.path)))


def _moment(value: object) -> datetime:
    assert isinstance(value, datetime)
    return value
