"""Reports in a folder: what each is, and its figures. Knows files; nothing of HTTP.

Files are found by looking, never by a name that a request brings: a report is asked for by a digest
of its place, and only what was found has one. Links are not followed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from backtest.report.embedded import read_block
from cluster.console.nights import Cache

Kind = Literal["backtest", "sweep", "night", "evaluation", "page"]
_DEEP, _MOST = 4, 4000
_LARGEST = 1 << 26
_KINDS = ("backtest", "sweep")


@dataclass(frozen=True)
class Report:
    """One page, and what is known about it."""

    id: str
    name: str
    """Relative to the folder."""
    path: Path
    written: float
    """Seconds since 1970."""
    kind: Kind
    data: dict[str, Any]
    """Its figures; empty where it brings none."""

    @property
    def title(self) -> str:
        return str(self.data.get("title") or self.name)


class Reports:
    """What lies under one folder, read again where a file changed."""

    def __init__(self, root: Path | None) -> None:
        self.root = None if root is None else root.resolve()
        self._read = Cache(1024)

    def all(self) -> list[Report]:
        """Every page found, the newest first."""
        found = [self._of(path, stat) for path, stat in self._pages()]
        return sorted(found, key=lambda each: (-each.written, each.name))

    def of(self, *kinds: Kind) -> list[Report]:
        """Pages of some kinds, the newest first."""
        return [each for each in self.all() if each.kind in kinds]

    def get(self, digest: str) -> Report | None:
        """The page of a digest, or None where no such page lies here."""
        return next((each for each in self.all() if each.id == digest), None)

    def last_night(self) -> dict[str, Any] | None:
        """What the last call of nightly said, whatever came of it."""
        if self.root is None:
            return None
        return _json(self.root / "last.json") or _json(self.root / "reports" / "last.json")

    def _pages(self) -> Iterator[tuple[Path, os.stat_result]]:
        if self.root is None:
            return
        looked = 0
        for folder, below, names in os.walk(self.root, followlinks=False):
            deep = len(Path(folder).relative_to(self.root).parts)
            below[:] = sorted(
                name for name in below if deep < _DEEP and not name.startswith((".", "_"))
            )
            for name in sorted(names):
                looked += 1
                if looked > _MOST:
                    return
                path = Path(folder) / name
                if not name.endswith(".html") or path.is_symlink():
                    continue
                try:
                    stat = path.stat()
                except OSError:
                    continue
                if stat.st_size <= _LARGEST:
                    yield path, stat

    def _of(self, path: Path, stat: os.stat_result) -> Report:
        assert self.root is not None
        name = path.relative_to(self.root).as_posix()
        twin = path.with_suffix(".json")
        beside = twin.stat().st_mtime_ns if twin.is_file() and not twin.is_symlink() else 0
        key = (name, stat.st_mtime_ns, stat.st_size, beside)

        def read() -> Report:
            kind, data = _figures(path, twin if beside else None)
            digest = blake2b(name.encode(), digest_size=10).hexdigest()
            return Report(digest, name, path, stat.st_mtime, kind, data)

        return self._read.get(key, read)


def _figures(path: Path, twin: Path | None) -> tuple[Kind, dict[str, Any]]:
    block = read_block(path)
    if block is not None and block.get("kind") in _KINDS:
        return block["kind"], block
    data = None if twin is None else _json(twin)
    if data is not None and "best_baseline" in data:
        return "evaluation", data
    if data is not None and {"status", "as_of", "store_version"} <= set(data):
        return "night", data
    return "page", {}


def _json(path: Path) -> dict[str, Any] | None:
    try:
        if path.is_symlink() or path.stat().st_size > _LARGEST:
            return None
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
