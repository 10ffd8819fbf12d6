"""Stores of format 1 (manifests and a pointer of our own) into this one, version by version.

Knows the old files, and writes through the new ones; nothing of imports.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl

from market.actions.table import ACTION_SCHEMA
from market.bars import BAR_SCHEMA, QUARANTINE_SCHEMA
from market.errors import StoreError
from market.lake.contents import Contents
from market.lake.files import (
    DataFile,
    bucket_of,
    buckets_for,
    read_files,
    write_file,
)
from market.lake.history import MarketHistory
from market.lake.lock import discard, writer_lock
from market.lake.versions import create, current_version, lake_folder, load, publish
from market.spec import Label, StoreSpec
from market.storage import Folder, writing

_ORDER = ["symbol", "close_utc", "timestamp"]
_SCHEMAS = {"bars": BAR_SCHEMA, "quarantine": QUARANTINE_SCHEMA, "actions": ACTION_SCHEMA}


@dataclass(frozen=True)
class Migrated:
    """What a migration made."""

    history: MarketHistory
    """The newest version."""
    versions: int
    """Versions of the old store, all of which stay readable by their old names."""
    bars: int
    """Of the newest version; those of every file were compared with the old ones."""


@dataclass(frozen=True)
class _Old:
    """One version of an old store."""

    name: str
    parent: str | None
    spec: StoreSpec
    files: dict[str, tuple[str, ...]]
    sources: tuple[str, ...]


def migrate(
    old: str | Path,
    new: str | Path | Folder,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Migrated:
    """Copy every version of a store of format 1 into a new store; the old one stays as it is.

    report: called with versions done and their number. Raises StoreError, with nothing left at
    `new`, where the old store is damaged, or `new` is a store already.
    """
    before, root = Path(old).resolve(), lake_folder(new)
    chain = _chain(before)
    with writing(root), writer_lock(root):
        if current_version(root) is not None:
            raise StoreError(f"{root}: is a store already; name a new place with --to")
        try:
            done = _Copy(before, root, chain[-1])
            for nth, version in enumerate(chain, start=1):
                done.add(version)
                report(nth, len(chain))
        except BaseException:
            done.undo()
            raise
    history = MarketHistory.open(root)
    return Migrated(history, len(chain), sum(file.rows for file in history.contents.bars))


@dataclass
class _Copy:
    """A store on its way."""

    old: Path
    root: Folder
    newest: _Old
    version: str | None = None
    made: dict[str, tuple[DataFile, ...]] = field(default_factory=dict)
    """By the path of an old file, what became of it."""

    def add(self, old: _Old) -> None:
        """One version; of its files those that no version before had, each compared when made."""
        if self.version is None:
            symbols: set[str] = set()
            for path in self.newest.files["bars"]:
                symbols |= set(_read(self.old / path, BAR_SCHEMA)["symbol"].unique())
            buckets = buckets_for(len(symbols))
            self.version = create(self.root, Contents(old.spec, buckets), unfinished=True)
        before = load(self.root, self.version)
        bars = tuple(f for path in old.files["bars"] for f in self._bars(path, before.buckets))
        contents = Contents(
            old.spec,
            before.buckets,
            bars=bars,
            quarantine=self._beside(old, "quarantine"),
            actions=self._beside(old, "actions"),
            sources=old.sources,
            formerly=old.name,
        )
        self.version = publish(self.root, self.version, contents)

    def undo(self) -> None:
        for table in _SCHEMAS:
            (self.root / table).remove_all()
        discard(self.root)

    def _bars(self, path: str, buckets: int) -> tuple[DataFile, ...]:
        if path not in self.made:
            rows = _read(self.old / path, BAR_SCHEMA)
            own = {symbol: bucket_of(symbol, buckets) for symbol in rows["symbol"].unique()}
            numbered = rows.with_columns(
                pl.col("symbol").replace_strict(own, return_dtype=pl.Int32).alias("bucket")
            )
            parts = numbered.partition_by("bucket", as_dict=True, include_key=False)
            made = tuple(
                write_file(self.root, "bars", part.sort("symbol", "close_utc"), bucket=int(number))
                for (number,), part in parts.items()
            )
            back = read_files(self.root, made, BAR_SCHEMA)
            if not back.sort(_ORDER).equals(rows.sort(_ORDER), null_equal=True):
                raise StoreError(f"{self.root}: bars of {path} came out different; nothing is kept")
            self.made[path] = made
        return self.made[path]

    def _beside(self, old: _Old, table: str) -> tuple[DataFile, ...]:
        for number, path in enumerate(old.files[table]):
            if path not in self.made:
                rows = _read(self.old / path, _SCHEMAS[table])
                self.made[path] = (write_file(self.root, table, rows, number=number),)
        return tuple(self.made[path][0] for path in old.files[table])


def _chain(root: Path) -> list[_Old]:
    """Every version of an old store, oldest first."""
    try:
        name: str | None = (root / "CURRENT").read_text().strip()
    except OSError:
        raise StoreError(
            f"{root}: no store of format 1 here, which is all that can be migrated"
        ) from None
    found: list[_Old] = []
    while name is not None:
        found.append(_version(root, name))
        name = found[-1].parent
    return found[::-1]


def _version(root: Path, name: str) -> _Old:
    path = root / "manifests" / f"{name}.json"
    try:
        content = path.read_bytes()
        told: dict[str, Any] = json.loads(content)
        spec = told["spec"]
        if blake2b(content, digest_size=16).hexdigest() != name:
            raise ValueError("its content does not fit its name")
        return _Old(
            name,
            told["parent"],
            StoreSpec(**{**spec, "label": Label(spec["label"])}),
            {
                "bars": tuple(each["path"] for each in told["bars"]),
                "quarantine": tuple(told["quarantine"]),
                "actions": tuple(told.get("actions", ())),
            },
            tuple(told["sources"]),
        )
    except FileNotFoundError:
        raise StoreError(f"{path}: the manifest of a version is missing; restore it") from None
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: the manifest is damaged ({error}); restore it") from None


def _read(path: Path, schema: pl.Schema) -> pl.DataFrame:
    try:
        content = path.read_bytes()
        if blake2b(content, digest_size=16).hexdigest() != path.stem:
            raise ValueError("its content does not fit its name")
        return pl.read_parquet(content).select(schema.names()).cast(schema)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise StoreError(f"{path}: the file is damaged or missing ({error})") from None
