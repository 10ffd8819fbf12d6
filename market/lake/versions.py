"""Versions of a lake: Delta tables side by side, and the record that pins them as one state.

    STORE/bars/        one Delta table, partitioned by bucket; a version of it is one of the store
    STORE/quarantine/  rows that broke a rule
    STORE/actions/     corporate actions

Knows Delta and records; nothing of bars. The commit of `bars` carries the record of the version: a
hash of the files it shows and the versions of the other tables, which are committed before and
which no reader looks at otherwise. So an import appears in one transaction, and a log that does not
say what was committed is named. A version is called by its number in the log and its record's hash.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import polars as pl
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from market.actions.table import ACTION_SCHEMA
from market.bars import BAR_SCHEMA, QUARANTINE_SCHEMA
from market.errors import StoreError, reason_of
from market.lake.contents import (
    FORMAT,
    RECORD,
    Contents,
    NewerFormatError,
    Record,
    decoded,
    encoded,
)
from market.lake.files import DataFile, as_action, digest_of
from market.spec import Label, StoreSpec
from market.storage import Folder
from market.table.commits import CONFIGURATION, newest_version

_SCHEMAS = {
    "bars": pl.Schema({**BAR_SCHEMA, "bucket": pl.Int32()}),
    "quarantine": QUARANTINE_SCHEMA,
    "actions": ACTION_SCHEMA,
}
TABLES = tuple(_SCHEMAS)
_BESIDE = ("quarantine", "actions")
_LOG = "bars/_delta_log"
_AFTERWARDS = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)


def lake_folder(place: str | Path | Folder) -> Folder:
    """A store's folder by path or URL, the same however its local path is written."""
    folder = Folder(place)
    return folder if folder.path is None else Folder(folder.path.resolve())


def current_version(place: str | Path | Folder) -> str | None:
    """The newest version, or None where there is not a store.

    Raises StoreError for a store of the format before this one, which has to be migrated.
    """
    root = lake_folder(place)
    newest = newest_version(root / "bars")
    if newest is None:
        if root.exists("CURRENT") and root.exists("manifests"):
            raise StoreError(
                f"{root}: a store of format 1, this candlecast reads {FORMAT}; 'candlecast store "
                f"migrate {root} --to NEW' makes one, and leaves this one as it is"
            )
        return None
    record = _record(root, newest)
    return None if record.told["unfinished"] else record.name


def named(root: Folder, version: str) -> str:
    """The full name of a version, which may be given as its number, or as it was called before a
    migration. Raises StoreError where there is none."""
    number = version.split("-", 1)[0]
    if not number.isdigit():
        number = str(_formerly(root, version))
    elif int(number) > (newest_version(root / "bars") or 0):
        raise _unknown(root, version)
    record = _record(root, int(number))
    if version not in (record.name, number, record.told["formerly"]):
        raise _unknown(root, version)
    return record.name


@lru_cache(maxsize=64)
def load(root: Folder, version: str) -> Contents:
    """What a version, by its full name, consists of; kept, since versions never change.

    Raises StoreError where the log does not list what was committed.
    """
    number = int(version.split("-", 1)[0])
    record = _record(root, number)
    if record.name != version:
        raise _unknown(root, version)
    told = record.told
    try:
        spec = StoreSpec(**{**told["spec"], "label": Label(told["spec"]["label"])})
        shown = {"bars": _listed(root, "bars", number, told["bars"])}
        for table, (pinned, digest) in told["beside"].items():
            shown[table] = _listed(root, table, pinned, digest)
    except StoreError:
        raise
    except (
        DeltaError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        pl.exceptions.PolarsError,
    ) as error:
        raise _damaged(root, number, str(error)) from None
    return Contents(
        spec=spec,
        buckets=told["buckets"],
        parent=told["parent"],
        bars=shown["bars"],
        quarantine=shown.get("quarantine", ()),
        actions=shown.get("actions", ()),
        sources=tuple(told["sources"]),
        fingerprints=told["fingerprints"],
        formerly=told["formerly"],
    )


def written(root: Folder, version: str) -> datetime:
    """When a version was committed, by the clock of its writer."""
    number = int(version.split("-", 1)[0])
    try:
        for line in root.read(f"{_LOG}/{number:020}.json").splitlines():
            if information := json.loads(line).get("commitInfo"):
                return datetime.fromtimestamp(information["timestamp"] / 1000, UTC)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(root, number, str(error)) from None
    raise _damaged(root, number, "its commit tells no time")


def log_entry(root: Folder, version: str) -> str:
    """Path or URL of the commit that made a version."""
    return root.at(f"{_LOG}/{int(version.split('-', 1)[0]):020}.json")


def create(root: Folder, contents: Contents, *, unfinished: bool = False) -> str:
    """An empty store. unfinished: not to be seen as a store before its first import is whole."""
    record, digest = encoded(contents, {}, unfinished)
    try:
        _create(root, "bars", CommitProperties(custom_metadata={RECORD: record}))
    except (DeltaError, OSError) as error:
        if not _came_about(root, 0, digest):
            raise _unwritable(root, error) from error
    return f"0-{digest}"


def publish(root: Folder, base: str, contents: Contents) -> str:
    """Make what a store contains its newest version, in one step; returns its name.

    base: the newest version, by the writer's lock. Raises StoreError where somebody else was first.
    """
    before = load(root, base)
    number, digest = int(base.split("-", 1)[0]), ""
    try:
        beside = {
            table: _commit_beside(root, table, files, getattr(before, table), number)
            for table in _BESIDE
            if (files := getattr(contents, table))
        }
        record, digest = encoded(replace(contents, parent=base), beside)
        handle = DeltaTable(root.at("bars"), version=number)
        rewritten = {file.bucket for file in set(before.bars) - set(contents.bars)}
        kept = set(before.bars) & set(contents.bars)
        assert rewritten.isdisjoint(file.bucket for file in kept), "a bucket goes as a whole"
        handle.create_write_transaction(
            [as_action(file) for file in contents.bars if file not in set(before.bars)],
            mode="overwrite" if rewritten else "append",
            schema=handle.schema(),
            partition_by=["bucket"],
            partition_filters=[("bucket", "in", sorted(str(each) for each in rewritten))]
            if rewritten
            else None,
            commit_properties=CommitProperties(
                custom_metadata={RECORD: record},
                # Two imports at once share this id, and so one of them is refused.
                app_transactions=[Transaction(app_id="import", version=number + 1)],
            ),
            post_commithook_properties=_AFTERWARDS,
        )
    except (DeltaError, OSError) as error:
        if _came_about(root, number + 1, digest):
            return f"{number + 1}-{digest}"
        if not isinstance(error, CommitFailedError):
            raise _unwritable(root, error) from error
        raise StoreError(
            f"{root}: another import wrote to this store meanwhile; nothing was written, run the "
            "command again"
        ) from error
    return f"{number + 1}-{digest}"


def _came_about(root: Folder, number: int, digest: str) -> bool:
    """Whether a commit that seemed to fail is there: an object store's answer can be lost."""
    try:
        return _record(root, number).name == f"{number}-{digest}"
    except StoreError:
        return False


def names(root: Folder) -> list[str]:
    """All versions, oldest first."""
    newest = newest_version(root / "bars")
    found = [] if newest is None else [_record(root, n) for n in range(newest + 1)]
    return [record.name for record in found if not record.told["unfinished"]]


def _commit_beside(
    root: Folder, table: str, files: Sequence[DataFile], before: Sequence[DataFile], base: int
) -> list[object]:
    """Version of a sibling table that shows exactly these files, and their hash."""
    place = root.at(table)
    if not DeltaTable.is_deltatable(place):
        _create(root, table, None)
    handle = DeltaTable(place)
    pinned = _record(root, base).told["beside"].get(table, [0])[0]
    if handle.version() != pinned:  # an import that ended before its bars were committed
        handle.restore(pinned)
        handle = DeltaTable(place)
    gone = set(before) - set(files)
    digest = digest_of(files)
    if not (fresh := [file for file in files if file not in before]):
        return [handle.version(), digest]
    try:
        handle.create_write_transaction(
            [as_action(file) for file in fresh],
            mode="overwrite" if gone else "append",
            schema=handle.schema(),
            partition_by=[],
            post_commithook_properties=_AFTERWARDS,
        )
    except CommitFailedError:  # unless it came about, and the store's answer was lost
        _listed(root, table, handle.version() + 1, digest)
    return [DeltaTable(place).version(), digest]


def _create(root: Folder, table: str, properties: CommitProperties | None) -> None:
    if root.path is not None:
        (root.path / table).mkdir(parents=True, exist_ok=True)
    DeltaTable.create(
        root.at(table),
        schema=pl.DataFrame(schema=_SCHEMAS[table]).to_arrow().schema,
        partition_by=["bucket"] if table == "bars" else None,
        mode="error" if table == "bars" else "ignore",
        configuration=CONFIGURATION,
        commit_properties=properties,
    )


def _listed(root: Folder, table: str, number: int, digest: str) -> tuple[DataFile, ...]:
    """Files that a version of one table shows; StoreError where the log was changed since."""
    handle = DeltaTable(root.at(table), version=number)
    rows = pl.DataFrame(handle.get_add_actions(flatten=True)).to_dicts()
    files = [
        DataFile(
            f"{table}/{row['path']}",
            row["num_records"],
            row["size_bytes"],
            row.get("partition.bucket"),
            row.get("min.close_utc"),
            row.get("max.close_utc"),
        )
        for row in rows
    ]
    if digest_of(files) != digest:
        raise _damaged(root, number, f"the log of {table} does not list what was committed")
    if table == "bars":
        return tuple(sorted(files, key=lambda f: (f.bucket or 0, str(f.first_close), f.path)))
    return tuple(sorted(files, key=lambda file: file.path))


def _record(root: Folder, number: int) -> Record:
    """The record of a version. Raises StoreError where there is none, or a damaged one."""
    try:
        return decoded(root.read(f"{_LOG}/{number:020}.json"), number)
    except FileNotFoundError:
        raise _unknown(root, str(number)) from None
    except NewerFormatError as error:
        raise StoreError(
            f"{root}: store format {error}, this candlecast reads up to {FORMAT}: update it"
        ) from None
    except ValueError as error:
        raise _damaged(root, number, str(error)) from None


def _formerly(root: Folder, version: str) -> int:
    for number in range((newest_version(root / "bars") or 0) + 1):
        if _record(root, number).told["formerly"] == version:
            return number
    raise _unknown(root, version)


def _unknown(root: Folder, version: str) -> StoreError:
    known = names(root)
    shown = f"the newest is {known[-1]}, the first {known[0]}" if known else "there are none"
    return StoreError(f"{root}: no version {version!r}; {shown}")


def _damaged(root: Folder, number: int, why: str) -> StoreError:
    return StoreError(
        f"{root.at(_LOG)}/{number:020}.json: version {number} is damaged ({why}); restore the log "
        "from a copy, or name an older version"
    )


def _unwritable(root: Folder, error: Exception) -> StoreError:
    return StoreError(
        f"{root}: cannot be written ({reason_of(error)}); free space or fix permissions, "
        "or name another --store. What was there before is untouched"
    )
