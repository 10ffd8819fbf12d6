"""Folders on a disk or in an object store, named by path or URL. Knows bytes and names; no formats.

Local paths go through the operating system; anything with a scheme (s3://, gs://, …) through
fsspec, whose packages (s3fs, gcsfs) read credentials and endpoints from their usual environment
variables. Three promises hold everywhere: a written file is there whole or not at all, `create`
succeeds for one caller only, and a removed file that is not there is not an error. `swap` compares
and replaces in one step on disks and in S3; elsewhere its comparison and its write are two steps.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from market.errors import StoreError, reason_of

_PARTIAL = ".candlecast-partial"
_LOCK = ".candlecast-lock"
_LOCK_SECONDS = 5.0
"""A swap takes milliseconds; who waits longer for a neighbour's counts as having lost."""
_REFUSED = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
"""What S3 calls a conditional request whose condition did not hold."""


class Folder:
    """A folder by path or URL; it need not exist, and appears with its first file."""

    def __init__(self, place: str | Path | Folder) -> None:
        text = place.url if isinstance(place, Folder) else str(place)
        text = text.removeprefix("file://")
        local = not is_url(text)
        self.path: Path | None = Path(text).expanduser().absolute() if local else None
        """The local path, or None in an object store."""
        self.url: str = str(self.path) if self.path is not None else text.rstrip("/")
        """What Polars, Arrow and Delta open: a plain path, or the URL."""

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"Folder({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __reduce__(self) -> tuple[type[Folder], tuple[str]]:
        return Folder, (self.url,)  # clients of an object store stay behind

    def at(self, name: str) -> str:
        """Path or URL of a file in this folder."""
        return f"{self.url}/{name}"

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises FileNotFoundError where it is missing."""
        if self.path is not None:
            return (self.path / name).read_bytes()
        content: bytes = self._remote(lambda fs: fs.cat_file(self.at(name)))
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a file so that readers see the old bytes or the new, also after a power cut.

        Raises StoreError naming the file where it cannot be written; so do the other writers.
        """
        if self.path is None:
            self._remote(lambda fs: fs.pipe_file(self.at(name), content), writes=True)
            return
        target = self.path / name
        with writing(target):
            temporary = _beside(target)
            try:
                with temporary.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that must not be there yet; False where it was. One of many callers wins."""
        if self.path is None:
            try:
                self._remote(
                    lambda fs: fs.pipe_file(self.at(name), content, mode="create"), writes=True
                )
            except FileExistsError:
                return False
            return True
        target = self.path / name
        with writing(target):
            temporary = _beside(target)
            try:
                temporary.write_bytes(content)
                return _linked(temporary, target, content)
            finally:
                temporary.unlink(missing_ok=True)

    def swap(self, name: str, old: bytes | None, new: bytes | None) -> bool:
        """Put `new` in the place of `old`, where that is what is there; None stands for no file.

        Of many callers that found the same `old`, one gets True (in an object store so do others
        that put the very same bytes: name the writer in them). Raises StoreError as `write` does.
        """
        if self.path is None:
            return self._swap_remote(name, old, new)
        target = self.path / name
        with writing(target), _locked(target.parent) as locked:
            if not locked or _content(target) != old:
                return False
            if new is None:
                target.unlink(missing_ok=True)
            else:
                self.write(name, new)
        return True

    def open_write(self, name: str) -> IO[bytes]:
        """A stream into a new file; in an object store it appears when closed."""
        if self.path is not None:
            with writing(self.path / name):
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                return (self.path / name).open("wb")
        stream: IO[bytes] = self._remote(lambda fs: fs.open(self.at(name), "wb"), writes=True)
        return stream

    def exists(self, name: str = "") -> bool:
        if self.path is not None:
            return (self.path / name).exists()
        return bool(self._remote(lambda fs: fs.exists(self.at(name).rstrip("/"))))

    def names(self, ending: str = "") -> list[str]:
        """Names directly in here, files and folders, sorted; none where the folder is missing."""
        if self.path is not None:
            found = [each.name for each in self.path.iterdir()] if self.path.is_dir() else []
        else:
            with suppress(FileNotFoundError):
                listed = self._remote(lambda fs: fs.ls(self.url, detail=False, refresh=True))
                found = [name.rstrip("/").rsplit("/", 1)[-1] for name in listed]
                return sorted(n for n in found if n.endswith(ending))
            found = []
        return sorted(n for n in found if n.endswith(ending) and not n.endswith(_PARTIAL))

    def files(self) -> dict[str, tuple[int, float]]:
        """Every file below, by its name relative to here: bytes and time of the last write."""
        if self.path is not None:
            found = {}
            for path in self.path.rglob("*"):
                with suppress(FileNotFoundError):  # somebody else tidies up too
                    if path.is_file():
                        stat = path.stat()
                        found[path.relative_to(self.path).as_posix()] = (
                            stat.st_size,
                            stat.st_mtime,
                        )
            return found
        with suppress(FileNotFoundError):
            listed = self._remote(lambda fs: fs.find(self.url, detail=True))
            start = self._remote(lambda fs: fs._strip_protocol(self.url)).rstrip("/") + "/"
            strangers = [name for name in listed if not name.startswith(start)]
            if strangers:
                raise StoreError(
                    f"{self.url}: the object store lists {strangers[0]} as lying in it"
                )
            return {
                name.removeprefix(start): (int(info["size"]), _written(info))
                for name, info in listed.items()
            }
        return {}

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""
        with suppress(FileNotFoundError):
            if self.path is not None:
                (self.path / name).unlink()
            else:
                self._remote(lambda fs: fs.rm_file(self.at(name)))

    def remove_all(self) -> None:
        """Remove the folder and everything in it."""
        if self.path is not None:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            with suppress(FileNotFoundError):
                self._remote(lambda fs: fs.rm(self.url, recursive=True))

    def _swap_remote(self, name: str, old: bytes | None, new: bytes | None) -> bool:
        if old is None:
            if new is None:
                return not self.exists(name)
            if self.create(name, new):
                return True
            with suppress(FileNotFoundError):
                # The first of two tries may have got through although its answer was lost.
                return self.read(name) == new
            return False
        place = self.at(name)

        def change(fs: Any) -> bool:
            seen = fs.info(place, refresh=True)
            if fs.cat_file(place) != old:
                return False
            if not hasattr(fs, "call_s3"):
                fs.rm_file(place) if new is None else fs.pipe_file(place, new)
                return True
            bucket, key, _ = fs.split_path(place)
            where = {"Bucket": bucket, "Key": key, "IfMatch": seen["ETag"]}
            try:
                if new is None:
                    fs.call_s3("delete_object", **where)
                else:
                    fs.call_s3("put_object", Body=new, **where)
            except OSError as error:
                response = getattr(error.__cause__, "response", {})
                if response.get("Error", {}).get("Code") not in _REFUSED:
                    raise
                # The first of two tries may have got through although its answer was lost.
                return new is not None and bool(fs.cat_file(place) == new)
            finally:
                fs.invalidate_cache(place)
            return True

        try:
            return bool(self._remote(change))
        except FileNotFoundError:
            return False

    @cached_property
    def _filesystem(self) -> Any:
        import fsspec

        scheme = self.url.split("://", 1)[0]
        try:
            # A kept listing would call a file missing that came after it, read by name or not.
            return fsspec.filesystem(scheme, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            extra = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs"}.get(scheme)
            hint = f"pip install {extra}" if extra else "known are s3://, gs:// and plain paths"
            raise StoreError(
                f"{self.url}: cannot open {scheme}:// here ({error}); {hint}"
            ) from None

    def _remote(self, call: Callable[[Any], Any], *, writes: bool = False) -> Any:
        """Call the object store; what it refuses becomes an error that names the folder."""
        try:
            return call(self._filesystem)
        except (FileExistsError, StoreError):
            raise
        except Exception as error:
            if isinstance(error, FileNotFoundError) and not writes:
                raise
            raise StoreError(
                f"{self.url}: the object store refused ({type(error).__name__}: {error}); check "
                "credentials, region and endpoint in the environment"
            ) from error


def remove_partial(folder: Folder) -> None:
    """Remove what writers that were killed left below a local folder, whose only writer asks."""
    if folder.path is not None:
        for leftover in folder.path.rglob(f"*{_PARTIAL}"):
            leftover.unlink(missing_ok=True)


@contextmanager
def writing(place: object) -> Iterator[None]:
    """Inside the block, an error of the system becomes a StoreError that names the place."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{place}: cannot be written ({reason_of(error)}); free space or fix "
            "permissions, or name another folder. What was there before is untouched"
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether this caller holds the folder's lock, which ends with its process at the latest."""
    folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + _LOCK_SECONDS
    with (folder / _LOCK).open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    yield False
                    return
                time.sleep(0.002)
        yield True


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _beside(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name}.{uuid.uuid4().hex}{_PARTIAL}")


def _linked(temporary: Path, target: Path, content: bytes) -> bool:
    """Give a file its name unless that is taken; whole from its first moment where links work."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        try:
            with target.open("xb") as file:
                file.write(content)
        except FileExistsError:
            return False
    return True


def is_url(text: str) -> bool:
    """Whether a place is named by a URL rather than a local path."""
    return "://" in text


def _written(info: dict[str, Any]) -> float:
    for key in ("LastModified", "mtime", "updated", "last_modified", "created"):
        value = info.get(key)
        if value is not None:
            return float(value.timestamp() if hasattr(value, "timestamp") else value)
    return float("inf")  # never old enough to be removed
