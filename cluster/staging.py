"""Shard files on their way into the forecast table. Knows folders and manifests; no model, no Ray.

A shard counts as finished when its manifest is there, and only then; the files it names are
complete. Names carry a uuid, so that two attempts at one shard never write the same file.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow.parquet as pq

from market.flags import Flag
from market.forecast_schema import Kind
from market.forecasts import write_atomically

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

    def __init__(self, staging: Path, key: str) -> None:
        self._staging = staging
        self._key = key
        self._attempt = uuid.uuid4().hex
        self._writers: dict[Kind, pq.ParquetWriter] = {}
        staging.mkdir(parents=True, exist_ok=True)

    def write(self, frames: Frames) -> None:
        for kind, frame in frames.items():
            rows = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            if kind not in self._writers:
                path = self._staging / self._name(kind)
                self._writers[kind] = pq.ParquetWriter(path, rows.schema, compression="zstd")
            self._writers[kind].write_table(rows)

    def finish(self, results: list[DateResult]) -> None:
        for writer in self._writers.values():
            writer.close()
        manifest = {
            "files": {kind: self._name(kind) for kind in self._writers},
            "results": [asdict(r) | {"as_of": r.as_of.isoformat()} for r in results],
        }
        write_atomically(self._staging / f"{self._key}.json", json.dumps(manifest))

    def _name(self, kind: Kind) -> str:
        return f"{self._key}-{self._attempt}.{kind}.parquet"


@dataclass(frozen=True)
class FinishedShard:
    """A shard whose manifest is written."""

    files: dict[Kind, Path]
    results: tuple[DateResult, ...]

    @classmethod
    def read(cls, staging: Path, key: str) -> FinishedShard | None:
        """The finished shard, or None where it is unfinished or its files are damaged or gone."""
        try:
            manifest = json.loads((staging / f"{key}.json").read_bytes())
            results = tuple(
                DateResult(**{**r, "as_of": datetime.fromisoformat(r["as_of"])})
                for r in manifest["results"]
            )
            files = {kind: staging / name for kind, name in manifest["files"].items()}
            for path in files.values():
                pq.read_metadata(path)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return cls(files, results)
