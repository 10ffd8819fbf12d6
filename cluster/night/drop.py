"""The drop folder of a night: what lies there, and the fresh files at hand. Knows places and names.

A prefix of an object store is as good as a folder: what is new there is fetched for the import.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from market.errors import ConfigError
from market.importing.discover import in_folder, kind_of
from market.storage import Folder


@dataclass(frozen=True)
class Drop:
    """What a drop folder holds at one moment."""

    folder: Folder
    files: Mapping[str, list[Any]]
    """Name of each file of bars, and a mark that changes when it does."""
    unread: tuple[str, ...]
    """Names of files that hold no bars, as far as their name tells."""

    @classmethod
    def look(cls, place: str | Path) -> Drop:
        """Raises ConfigError where there is no such folder, StoreError as Folder does."""
        folder = Folder(place)
        if folder.path is None:
            found = {
                name: [size, written]
                for name, (size, written) in sorted(folder.files().items())
                if not PurePosixPath(name).name.startswith((".", "_"))
            }
            known = {name for name in found if kind_of(Path(name)) is not None}
            unread = tuple(name for name in found if name not in known and "/" not in name)
            return cls(folder, {name: found[name] for name in sorted(known)}, unread)
        if not folder.path.is_dir():
            raise ConfigError(f"drop: {folder}: no such folder; make it, or name another")
        there: dict[str, list[Any]] = {}
        for path in in_folder(folder.path):
            stat = path.stat()
            there[str(path.relative_to(folder.path))] = [stat.st_size, stat.st_mtime_ns]
        strangers = tuple(
            path.name
            for path in sorted(folder.path.iterdir())
            if path.is_file() and path.name not in there and not path.name.startswith(".")
        )
        return cls(folder, there, strangers)

    @contextmanager
    def at_hand(self, names: list[str]) -> Iterator[list[Path]]:
        """Local paths of some of its files, inside the block."""
        if self.folder.path is not None:
            yield [self.folder.path / name for name in names]
            return
        with tempfile.TemporaryDirectory(prefix="candlecast-drop-") as passing:
            paths = [Path(passing) / name for name in names]
            for name, path in zip(names, paths, strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.folder.read(name))
            yield paths
