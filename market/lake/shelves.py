"""Checked bars on their way into a lake, sorted by bucket: few in memory, many on disk.

The buckets are those of a small store, however many the lake has: each is a whole number of its.
Knows frames of bars and buckets; no rules and no versions. What is put here comes out by bucket, in
the order it came.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl
import pyarrow as pa
from pyarrow import ipc

from market.errors import StoreError
from market.lake.files import BUCKETS, bucket_of

HELD = 1_500_000
"""Bars in memory, about 120 bytes each, before they go to a temporary folder."""


class Shelves:
    """Bars by bucket; a context manager, which removes what went to the disk."""

    def __init__(self, held: int = HELD) -> None:
        self.rows = 0
        self.shared: set[str] = set()
        """Symbols that came with more than one call of add."""
        self._held = held
        self._seen: dict[str, int] = {}
        self._loose: list[pl.DataFrame] = []
        self._loose_rows = 0
        self._shelf: dict[int, list[pl.DataFrame | Path]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def add(self, bars: pl.DataFrame) -> None:
        """Put bars here, BAR_SCHEMA and any other columns, the same ones every time.

        Raises StoreError where the temporary folder cannot be written.
        """
        for symbol in bars["symbol"].unique():
            if symbol in self._seen:
                self.shared.add(symbol)
            else:
                self._seen[symbol] = bucket_of(symbol)
        self.rows += bars.height
        self._loose.append(bars)
        self._loose_rows += bars.height
        if self._loose_rows > self._held:
            self._sort(to_disk=True)

    @property
    def symbols_seen(self) -> int:
        """How many symbols came."""
        return len(self._seen)

    def buckets(self) -> list[int]:
        """Buckets that hold bars, ascending."""
        self._sort(to_disk=bool(self._written))
        return sorted(self._shelf)

    def bars(self, bucket: int) -> pl.DataFrame:
        """The bars of a bucket in the order they came."""
        parts = [
            part if isinstance(part, pl.DataFrame) else _read(part) for part in self._shelf[bucket]
        ]
        return parts[0] if len(parts) == 1 else pl.concat(parts)

    def replace(self, bucket: int, bars: pl.DataFrame) -> None:
        """Others in the place of a bucket's bars."""
        self.rows += bars.height - self.bars(bucket).height
        self._shelf[bucket] = [self._stored(bucket, bars) if self._written else bars]

    def drop(self, bucket: int) -> None:
        """Forget a bucket's bars: they have been dealt with."""
        for part in self._shelf.pop(bucket):
            if isinstance(part, Path):
                part.unlink()

    def symbols(self, bucket: int) -> list[str]:
        """Symbols of a bucket, sorted."""
        return sorted(symbol for symbol, own in self._seen.items() if own == bucket)

    def _sort(self, *, to_disk: bool) -> None:
        """Put loose bars on their shelves."""
        if not self._loose:
            return
        bars = pl.concat(self._loose)
        self._loose, self._loose_rows = [], 0
        for bucket, rows in parts_by_bucket(bars):
            part = self._stored(bucket, rows) if to_disk else rows
            self._shelf.setdefault(bucket, []).append(part)

    def _stored(self, bucket: int, rows: pl.DataFrame) -> Path:
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="candlecast-import-")
            self._written += 1
            path = Path(self._folder.name) / f"{bucket:02d}-{self._written}.arrow"
            _write(path, rows)
        except (OSError, pa.ArrowException) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            place = self._folder.name if self._folder else tempfile.gettempdir()
            raise StoreError(
                f"{place}: bars on their way to the store cannot be kept there ({reason}); make "
                "room, or name another folder with the environment variable TMPDIR"
            ) from None
        return path


def _write(path: Path, rows: pl.DataFrame) -> None:
    table = rows.to_arrow(compat_level=pl.CompatLevel.newest())
    packed = ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    with ipc.new_file(path, table.schema, options=packed) as writer:
        writer.write_table(table)


def _read(path: Path) -> pl.DataFrame:
    with pa.memory_map(str(path)) as mapped:
        rows = pl.from_arrow(ipc.open_file(mapped).read_all())
    assert isinstance(rows, pl.DataFrame)
    return rows


def parts_by_bucket(
    bars: pl.DataFrame, buckets: int = BUCKETS
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Bars by the bucket of their symbol, of so many, ascending; in the order they lie."""
    own = {symbol: bucket_of(symbol, buckets) for symbol in bars["symbol"].unique()}
    if len(set(own.values())) < 2:
        yield from ((bucket, bars) for bucket in set(own.values()))
        return
    bucket = pl.col("symbol").replace_strict(own, return_dtype=pl.Int32)
    parts = bars.with_columns(bucket.alias("bucket")).partition_by(
        "bucket", as_dict=True, include_key=False, maintain_order=True
    )
    for (key,), rows in sorted(parts.items()):
        yield int(key), rows
