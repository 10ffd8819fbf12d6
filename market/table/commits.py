"""One date of one run into one Delta table, in one transaction. Knows columns, partitions and
Delta; nothing of records or pointers.

`steps` decides what is visible: its transaction takes the rows of a (model, as_of, venue, freq)
from another run and gives them to this one. The other tables only grow: a run's rows are added
before its steps and never taken away, so that whatever steps show, the rest is there, and a run
that lost the race leaves nothing that a reader could mistake for the winner's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date

import polars as pl
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction

from market.errors import StoreError, reason_of
from market.storage import Folder
from market.table.files import Written, partition_of, scan_rows, write_part
from market.table.schema import PARTITION_BY, SCHEMAS, SLOT, Kind

COMMIT_ATTEMPTS = 20
CONFIGURATION = {
    # Ten years: whatever version a record, a pointer or a reader names can be read until then.
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.deletedFileRetentionDuration": "interval 3650 days",
    "delta.enableExpiredLogCleanup": "false",
    # Opening a table reads the newest checkpoint and the commits after it.
    "delta.checkpointInterval": "20",
}
_AFTERWARDS = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)


@dataclass(frozen=True)
class Committed:
    """What one commit did."""

    new: bool
    """False: the rows were already there."""
    replaced: tuple[str, ...] = ()
    """Runs whose rows for the same model and as_of went out of sight."""
    versions: dict[Kind, int] = field(default_factory=dict)
    """Table versions that show the rows."""


def commit_rows(
    root: Folder,
    kind: Kind,
    run_id: str,
    model_id: str,
    day: date,
    given: pl.DataFrame | Written,
    require: Callable[[], object] = lambda: None,
    handles: dict[Kind, DeltaTable] | None = None,
) -> tuple[Committed, int]:
    """Make a date's rows of one table count, once; what that did, and a version that shows them.

    given: all rows of this run, model and date, or the files that hold them (never removed here, as
    they may be those that the table shows; where they are not, vacuum does). require: called right
    before every transaction; what it raises leaves the table as it was. handles: of the tables,
    kept for the next date: to bring one up to date takes a fraction of opening it, however long its
    log is.

    Safe to repeat and to race: the transaction id `forecast:{run_id}:{day}` is looked up on the
    handle that commits, and a lost race (CommitFailedError) reloads and looks again. Two files that
    land in one empty partition are no conflict to Delta, two transactions of one id are: all runs
    that write a partition of `steps` share one, beside their own.
    Raises StoreError where the table cannot be written, with nothing of it changed.
    """
    app_id = f"forecast:{run_id}:{day.isoformat()}"
    partition = partition_of(model_id, day)
    folder = root / kind
    written = given if isinstance(given, Written) else None
    kept_handles = {} if handles is None else handles
    for _ in range(COMMIT_ATTEMPTS):
        handle = kept_handles[kind] = _up_to_date(root, kind, kept_handles.pop(kind, None))
        last_version = handle.transaction_version(app_id)
        there = scan_rows(handle, folder).filter(
            pl.col("model_id") == model_id, pl.col("as_of_date") == day
        )
        replaced: set[str] = set()
        kept = None
        if kind == "steps":
            slots = (given.slots if isinstance(given, Written) else given).select(SLOT).unique()
            shown = there.select("run_id", *SLOT).unique().collect()
            same_slot = shown.join(slots, on=SLOT, how="semi", nulls_equal=True)
            holders = set(same_slot["run_id"])
            done = last_version is not None and holders == {run_id}
            replaced = holders - {run_id}
            if same_slot.height < shown.height:
                # Another as_of or venue of the session stays: an overwrite takes it along.
                kept = there.join(slots.lazy(), on=SLOT, how="anti", nulls_equal=True).collect()
        else:
            done = run_id in set(there.select("run_id").unique().collect()["run_id"])
        if done:
            return Committed(new=False), handle.version()
        transaction = _next(handle, app_id)
        shared = [_next(handle, f"partition:{model_id}:{day}")] if kind == "steps" else []
        beside: list[AddAction] = []
        try:
            if written is None:
                assert isinstance(given, pl.DataFrame)
                own = given if kept is None else pl.concat([kept.select(given.columns), given])
                beside = [write_part(folder, kind, model_id, day, own, 0)]
            elif kept is not None:
                beside = [write_part(folder, kind, model_id, day, kept, len(written.actions))]
            require()
            handle.create_write_transaction(
                [*(written.actions if written is not None else ()), *beside],
                mode="overwrite" if kind == "steps" else "append",
                schema=handle.schema(),
                partition_by=list(PARTITION_BY),
                partition_filters=[(key, "=", value) for key, value in partition.items()]
                if kind == "steps"
                else None,
                commit_properties=CommitProperties(app_transactions=[transaction, *shared]),
                post_commithook_properties=_AFTERWARDS,
            )
        except CommitFailedError:
            # Or this very commit was written and the store's answer lost: no file goes here.
            kept_handles.pop(kind)
            continue
        except (DeltaError, OSError) as error:
            raise _unwritable(folder.url, error) from error
        version = _version_of(handle.version(), folder, transaction)
        return Committed(new=True, replaced=tuple(sorted(replaced))), version
    raise StoreError(
        f"{folder}: {COMMIT_ATTEMPTS} attempts to commit {day} lost against other writers; run "
        "the same command again"
    )


def _next(handle: DeltaTable, app_id: str) -> Transaction:
    return Transaction(app_id=app_id, version=(handle.transaction_version(app_id) or 0) + 1)


def newest_version(table: Folder) -> int | None:
    """Number of a Delta table's newest version, from the names in its log; None without one."""
    names = [name.removesuffix(".json") for name in (table / "_delta_log").names(".json")]
    return max((int(each) for each in names if each.isdigit()), default=None)


def _version_of(before: int, table: Folder, transaction: Transaction) -> int:
    """The version that a transaction made; others may have committed before and after it."""
    newest = newest_version(table) or 0
    for version in range(before + 1, newest):
        handle = DeltaTable(table.url, version=version)
        if (handle.transaction_version(transaction.app_id) or 0) >= transaction.version:
            return version
    return newest


def _up_to_date(root: Folder, kind: Kind, handle: DeltaTable | None) -> DeltaTable:
    if handle is not None:
        with suppress(DeltaError, OSError):  # removed, or made anew: opened anew
            handle.update_incremental()
            return handle
    return _open_or_create(root, kind)


def _open_or_create(root: Folder, kind: Kind) -> DeltaTable:
    place = root.at(kind)
    try:
        if not DeltaTable.is_deltatable(place):
            if root.path is not None:
                (root.path / kind).mkdir(parents=True, exist_ok=True)
            DeltaTable.create(
                place,
                schema=pl.DataFrame(schema=SCHEMAS[kind]).to_arrow().schema,
                partition_by=list(PARTITION_BY),
                mode="ignore",
                configuration=CONFIGURATION
                | ({} if kind == "steps" else {"delta.appendOnly": "true"}),
            )
        handle = DeltaTable(place)
    except (DeltaError, OSError) as error:
        raise _unwritable(place, error) from error
    found = {column.name for column in handle.schema().fields}
    ours = set(SCHEMAS[kind].names())
    if found != ours:
        which = "a newer" if found - ours else "an older"
        odd = ", ".join(sorted(found ^ ours)[:5])
        raise StoreError(
            f"{place}: this table was written by {which} candlecast (columns: {odd}); "
            f"{'update candlecast' if found - ours else 'name a new --out'}"
        )
    return handle


def _unwritable(place: str, error: Exception) -> StoreError:
    return StoreError(
        f"{place}: cannot be written ({reason_of(error)}); free space or fix permissions, "
        "or name another --out. What was committed before is untouched, and the same command "
        "resumes"
    )
