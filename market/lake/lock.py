"""One writer at a time: by the system's lock on a disk, by a lease in an object store.

Knows folders and names; nothing of bars or versions' contents.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from market.errors import StoreError
from market.lake.versions import TABLES, current_version
from market.leases import LeaseHeldError, hold
from market.storage import Folder, remove_partial

_LOCK = "LOCK"
LEASES = "leases"
"""Folder of a store in an object store where its writer is named."""
_LOG = "_delta_log"


@contextmanager
def writer_lock(root: Folder) -> Iterator[None]:
    """Hold the store for writing; free again when the process ends, however it ends (in an object
    store a minute later).

    What an import that was killed left behind is removed. Raises StoreError where somebody else
    holds it, or where there can be no store.
    """
    if root.path is None:
        with _leased(root):
            _prepare(root)
            yield
        return
    with _open_lock(root) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise _held(root) from None
        _prepare(root)
        for table in TABLES:
            remove_partial(root / table)
        yield


@contextmanager
def undone(root: Folder) -> Iterator[None]:
    """Remove what was written in the block where it ends in an error and no new version came
    about; the caller holds the writer's lock."""
    before, version = _data_files(root), current_version(root)
    try:
        yield
    except BaseException:
        if current_version(root) == version:
            for name in _data_files(root) - before:
                root.remove(name)
        raise


def _data_files(root: Folder) -> set[str]:
    found = {f"{table}/{name}" for table in TABLES for name in (root / table).files()}
    return {name for name in found if f"/{_LOG}/" not in name}


def discard(root: Folder) -> None:
    """Remove what an import wrote into a folder where no store came about; the rest stays."""
    if current_version(root) is not None:
        return
    if root.exists(f"bars/{_LOG}"):
        for table in TABLES:
            (root / table).remove_all()
    if root.path is not None:
        with suppress(OSError):
            (root.path / _LOCK).unlink(missing_ok=True)
            root.path.rmdir()


@contextmanager
def _leased(root: Folder) -> Iterator[None]:
    try:
        with hold(root / LEASES, "import") as lease:
            yield
            lease.require()
    except LeaseHeldError:
        raise _held(root) from None


def _prepare(root: Folder) -> None:
    """Nothing but a store, or room for one."""
    if current_version(root) is None:
        _refuse_strangers(root)
        for table in TABLES:  # of a first import that was killed
            (root / table).remove_all()


def _refuse_strangers(root: Folder) -> None:
    begun = root.exists(f"bars/{_LOG}")
    strangers = sorted(set(root.names()) - {_LOCK, LEASES, *(TABLES if begun else ())})
    if strangers and current_version(root) is None:
        raise StoreError(
            f"{root} is not a history store and holds other files ({strangers[0]}); name a new "
            "folder with --store"
        )


def _held(root: Folder) -> StoreError:
    return StoreError(
        f"{root}: another import is writing to this store; nothing was written, run the "
        "command again when it has ended"
    )


def _open_lock(root: Folder) -> IO[str]:
    assert root.path is not None
    try:
        root.path.mkdir(parents=True, exist_ok=True)
        _refuse_strangers(root)
        return (root.path / _LOCK).open("a")
    except OSError as error:
        raise StoreError(
            f"{root}: cannot be written to ({error.strerror}); name another --store"
        ) from None
