"""Shard files on their way into the forecast table. Knows folders and manifests; no model, no Ray.

A shard counts as finished when its manifest is there, and only then; the files it names are
complete. Names carry a uuid, so that two attempts at one shard never write the same file.
"""

from __future__ import annotations

import io
import json
import uuid
from dataclasses import asdict, dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import IO, Any, NamedTuple

import polars as pl
import pyarrow.parquet as pq

from cluster.forecasting.activity import ShardTimes
from market.errors import StoreError
from market.flags import Flag
from market.storage import Folder, writing
from market.table.schema import Kind

Frames = dict[Kind, pl.DataFrame]


class SeriesNote(NamedTuple):
    """What became of one series."""

    symbol: str
    as_of: datetime
    flags: int = 0
    repaired_bars: int = 0
    error: str | None = None


@dataclass
class DateResult:
    """What became of one as_of of a shard."""

    as_of: datetime
    forecast: int = 0
    trimmed: int = 0
    repaired_bars: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Symbol and error of series that could not be forecast."""

    def add(self, note: SeriesNote) -> None:
        if note.error is not None:
            self.failed.append((note.symbol, note.error))
            return
        self.forecast += 1
        self.trimmed += bool(note.flags & Flag.LOOKBACK_TRIMMED)
        self.repaired_bars += note.repaired_bars


class ShardFiles:
    """The files of one attempt at one shard, and the manifest that makes them count."""

    def __init__(self, staging: Folder, key: str) -> None:
        self._staging = staging
        self._key = key
        self._attempt = uuid.uuid4().hex
        self._streams: dict[Kind, _HashedStream] = {}
        self._writers: dict[Kind, pq.ParquetWriter] = {}

    def write(self, frames: Frames) -> None:
        for kind, frame in frames.items():
            rows = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            if kind not in self._writers:
                name = self._name(kind)
                stream = _HashedStream(self._staging.open_write(name), self._staging.at(name))
                self._streams[kind] = stream
                self._writers[kind] = pq.ParquetWriter(stream, rows.schema, compression="zstd")
            self._writers[kind].write_table(rows)

    def finish(self, results: list[DateResult], times: ShardTimes | None = None) -> None:
        for kind, writer in self._writers.items():
            writer.close()
            self._streams[kind].close()
        manifest: dict[str, Any] = {
            "files": {kind: self._name(kind) for kind in self._writers},
            "hashes": {kind: stream.digest for kind, stream in self._streams.items()},
            "results": [asdict(r) | {"as_of": r.as_of.isoformat()} for r in results],
            "times": times,
        }
        manifest["manifest"] = _hash_of(manifest)
        self._staging.write(f"{self._key}.json", json.dumps(manifest).encode())

    def _name(self, kind: Kind) -> str:
        return f"{self._key}-{self._attempt}.{kind}.parquet"


class _HashedStream(io.RawIOBase):
    """Passes bytes on to a file and keeps their hash: what was written, not what was stored."""

    def __init__(self, target: IO[bytes], place: str) -> None:
        self._target = target
        self._place = place
        self._hash = blake2b(digest_size=16)
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        self._hash.update(data)
        with writing(self._place):
            self._target.write(data)
        self._written += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            with writing(self._place):
                self._target.close()
        super().close()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


@dataclass(frozen=True)
class FinishedShard:
    """A shard whose manifest is written."""

    files: dict[Kind, str]
    """Path or URL of its rows."""
    results: tuple[DateResult, ...]
    times: ShardTimes | None = None

    @classmethod
    def read(cls, staging: Folder, key: str) -> FinishedShard | None:
        """The finished shard, or None where it is unfinished or its files are damaged or gone."""
        try:
            manifest = json.loads(staging.read(f"{key}.json"))
            if manifest.pop("manifest") != _hash_of(manifest):
                return None
            results = tuple(
                DateResult(**{**r, "as_of": datetime.fromisoformat(r["as_of"])})
                for r in manifest["results"]
            )
            times = manifest["times"] and ShardTimes(*manifest["times"])
            for kind, name in manifest["files"].items():
                found = blake2b(staging.read(name), digest_size=16).hexdigest()
                if found != manifest["hashes"][kind]:
                    return None
            files = {kind: staging.at(name) for kind, name in manifest["files"].items()}
        except StoreError:
            raise
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return cls(files, results, times)


def _hash_of(manifest: dict[str, Any]) -> str:
    return blake2b(json.dumps(manifest, sort_keys=True).encode(), digest_size=16).hexdigest()
