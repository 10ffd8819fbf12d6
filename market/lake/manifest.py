"""The lake's files: immutable data files, one manifest per import, one pointer to the newest.

Knows paths, hashes and locks; nothing of bars. Nothing is ever edited in place: a version is the
hash of its manifest, and files are named by the hash of their content. Old versions stay readable.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import IO, Any

import polars as pl

from market.errors import StoreError
from market.spec import Label, StoreSpec

FORMAT = 1
"""Number of the layout on disk; a store with a larger one was written by newer code."""

BUCKETS = 64
"""How many hash buckets symbols are spread over."""

_POINTER = "CURRENT"
_LOCK = "LOCK"
_HASHED_AT_ONCE = 4
_PARTIAL = ".candlecast-partial"
"""Ending of files that are being written; one that stays belongs to an import that was killed."""
_OWN_NAMES = {_POINTER, _POINTER + _PARTIAL, _LOCK, "manifests", "bars", "quarantine", "actions"}


@dataclass(frozen=True)
class BarFile:
    """One immutable Parquet file with bars of one bucket."""

    path: str
    """Relative to the store."""
    bucket: int
    rows: int
    first_close: str
    """Earliest close in the file, ISO 8601 in UTC."""
    last_close: str


@dataclass(frozen=True)
class Manifest:
    """Everything one version of the store consists of."""

    spec: StoreSpec
    parent: str | None
    """Version this one was made from."""
    bars: tuple[BarFile, ...]
    quarantine: tuple[str, ...]
    """Relative paths of the quarantine files, oldest first."""
    sources: tuple[str, ...]
    """Files read by the import that made this version."""
    actions: tuple[str, ...] = ()
    """Relative path of the table of corporate actions, where there is one."""

    def encode(self) -> bytes:
        content = {"format": FORMAT, **asdict(self)}
        if not self.actions:  # as stores without actions always wrote it
            del content["actions"]
        return json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"


def bucket_of(symbol: str) -> int:
    """The bucket a symbol lives in: the same on every machine and forever."""
    return int.from_bytes(blake2b(symbol.encode(), digest_size=8).digest()) % BUCKETS


def current_version(root: Path) -> str | None:
    """The newest version, or None where there is not a store."""
    try:
        return (root / _POINTER).read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


@lru_cache(maxsize=64)
def load_manifest(root: Path, version: str) -> Manifest:
    """Read one version's manifest; cached, since manifests never change."""
    path = root / "manifests" / f"{version}.json"
    try:
        content = path.read_bytes()
    except OSError:
        raise StoreError(
            f"{root}: no version {version!r}; versions are the names in {path.parent}"
        ) from None
    manifest = decode_manifest(content, path)
    if blake2b(content, digest_size=16).hexdigest() != version:
        raise _damaged(path, "its content does not fit its name")
    return manifest


def decode_manifest(content: bytes, path: Path) -> Manifest:
    """Parse a manifest. Raises StoreError where it is damaged or of a newer format."""
    try:
        fields: dict[str, Any] = json.loads(content)
        found = int(fields["format"])
        if found > FORMAT:
            raise StoreError(
                f"{path}: store format {found}, this candlecast reads up to {FORMAT}: update it"
            )
        spec = fields["spec"]
        return Manifest(
            spec=StoreSpec(**{**spec, "label": Label(spec["label"])}),
            parent=fields["parent"],
            bars=tuple(BarFile(**each) for each in fields["bars"]),
            quarantine=tuple(fields["quarantine"]),
            sources=tuple(fields["sources"]),
            actions=tuple(fields.get("actions", ())),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, StoreError):
            raise
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(
        f"{path}: the manifest is damaged ({why}); restore it, or write the hash of an older "
        f"version into {path.parent.parent / _POINTER}"
    )


def write_table(root: Path, folder: str, frame: pl.DataFrame) -> str:
    """Write rows as a Parquet file named by its content; returns the path relative to root."""
    target = root / folder
    target.mkdir(parents=True, exist_ok=True)
    temporary = target / f"new{_PARTIAL}"
    try:
        frame.write_parquet(temporary, compression="zstd", row_group_size=1 << 16)
    except pl.exceptions.PolarsError as error:
        raise OSError(str(error).splitlines()[0]) from error
    digest = blake2b(temporary.read_bytes(), digest_size=16).hexdigest()
    _move(temporary, target / f"{digest}.parquet")
    return f"{folder}/{digest}.parquet"


def verified(root: Path, paths: Sequence[str]) -> list[Path]:
    """Those data files, each known to hold what was written: to be called before any is read.

    A file is named by the hash of its content, which is computed once per process and again when
    its size or time changes. Raises StoreError naming the first file that is damaged or missing.
    """
    files = [root / path for path in paths]
    with ThreadPoolExecutor(_HASHED_AT_ONCE) as pool:
        for file, sound in zip(files, pool.map(_intact, files), strict=True):
            if not sound:
                raise StoreError(
                    f"{file}: the file is damaged; restore it from a copy, or import its sources "
                    "again into a new store"
                )
    return files


def _intact(file: Path) -> bool:
    try:
        stat = file.stat()
        return _hash_of(file, stat.st_size, (stat.st_mtime_ns, stat.st_ctime_ns)) == file.stem
    except OSError:
        return False


@lru_cache(maxsize=1 << 16)
def _hash_of(file: Path, size: int, changed: tuple[int, int]) -> str:
    with file.open("rb") as handle:
        return file_digest(handle, partial(blake2b, digest_size=16)).hexdigest()


def write_manifest(root: Path, manifest: Manifest) -> str:
    """Write the manifest of a version that nothing points to yet; returns the version."""
    content = manifest.encode()
    version = blake2b(content, digest_size=16).hexdigest()
    folder = root / "manifests"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / f"{version}.json", content)
    return version


def publish(root: Path, manifest: Manifest) -> str:
    """Write the manifest, then swap the pointer to it; returns the new version."""
    version = write_manifest(root, manifest)
    _write(root / _POINTER, f"{version}\n".encode())
    return version


@contextmanager
def undone(root: Path) -> Iterator[None]:
    """Remove what was written in the block where it ends in an error and no new version came
    about; the caller holds the writer's lock."""
    before, version = _data_files(root), current_version(root)
    try:
        yield
    except BaseException:
        if current_version(root) == version:
            for path in _data_files(root) - before:
                path.unlink(missing_ok=True)
        raise


def _data_files(root: Path) -> set[Path]:
    folders = ("bars/*", "quarantine", "manifests", "actions")
    found = {path for folder in folders for path in root.glob(f"{folder}/*")}
    return {*(path for path in found if path.is_file()), *root.glob(f"*{_PARTIAL}")}


def discard(root: Path) -> None:
    """Remove what an import wrote into a folder where no store came about; the rest stays."""
    if current_version(root) is not None:
        return
    for name in ("bars", "quarantine", "manifests", "actions"):
        shutil.rmtree(root / name, ignore_errors=True)
    with suppress(OSError):
        (root / _LOCK).unlink(missing_ok=True)
        root.rmdir()


@contextmanager
def writer_lock(root: Path) -> Iterator[None]:
    """Hold the store for writing; released by the system when the process ends, however it ends.

    Raises StoreError where somebody else holds it, or where there can be no store.
    """
    with _open_lock(root) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreError(
                f"{root}: another import is writing to this store; nothing was written, run the "
                "command again when it has ended"
            ) from None
        for folder in ("bars/*", "quarantine", "manifests", "actions", "."):
            for leftover in root.glob(f"{folder}/*{_PARTIAL}"):
                leftover.unlink()
        yield


def _open_lock(root: Path) -> IO[str]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        strangers = sorted({path.name for path in root.iterdir()} - _OWN_NAMES)
        if strangers and current_version(root) is None:
            raise StoreError(
                f"{root} is not a history store and holds other files ({strangers[0]}); name a new "
                "folder with --store"
            )
        return (root / _LOCK).open("a")
    except OSError as error:
        raise StoreError(
            f"{root}: cannot be written to ({error.strerror}); name another --store"
        ) from None


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + _PARTIAL)
    temporary.write_bytes(content)
    _move(temporary, path)


def _move(temporary: Path, target: Path) -> None:
    """Rename so that the target is there whole or not at all, also after a power cut."""
    with temporary.open("rb") as handle:
        os.fsync(handle.fileno())
    os.replace(temporary, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
