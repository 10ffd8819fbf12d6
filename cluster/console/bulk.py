"""Every row of one night or of many, as an Arrow stream or a Parquet file, a night at a time.

Knows nights and tables; nothing of HTTP. Each night is whole, whatever is committed meanwhile.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import date
from hashlib import blake2b
from itertools import chain
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.console.nights import Nights
from market.errors import StoreError
from market.table.forecasts import ForecastTable
from market.table.schema import Published

Rows = Literal["steps", "path_stats"]
_ROWS_PER_PART = 1 << 15
_TRIES = 3
_KEYS: dict[Rows, tuple[str, ...]] = {"steps": ("symbol", "step"), "path_stats": ("symbol",)}


def days_between(nights: Nights, like: Published, first: date, last: date) -> list[date]:
    """Dates with forecasts of a model, oldest first. Raises StoreError where there is none."""
    days = {*nights.dates(like.model_id), like.as_of_date}
    found = sorted(day for day in days if first <= day <= last)
    if not found:
        raise StoreError(f"{nights.table.folder}: no forecasts of {like.model} from {last}")
    return found


def content(nights: Nights, like: Published, days: Sequence[date]) -> str:
    """Changes with what there is to read of these dates."""
    seen = [nights.shown(like.model_id, day) for day in days]
    return blake2b(repr((seen, like)).encode(), digest_size=12).hexdigest()


def night_rows(nights: Nights, like: Published, day: date, kind: Rows) -> pl.DataFrame:
    """Every row of one night, sorted by symbol and step. Raises StoreError where it is gone."""
    newest = day == like.as_of_date
    for _ in range(_TRIES):  # a night may be replaced between the look at it and the reading
        seen = nights.at(like, day)
        table = ForecastTable(nights.table.folder, like.versions) if newest else nights.table
        read = table.scan if kind == "steps" else table.path_stats
        rows = (
            read(like.model_id, seen.run_id)
            .filter(pl.col("as_of_date") == day, pl.col("as_of") == seen.as_of)
            .collect()
        )
        if rows.height:
            return rows.sort(_KEYS[kind])
    raise StoreError(f"{nights.table.folder}: the night of {day} is being replaced; ask again")


def parts(
    nights: Nights, like: Published, days: Sequence[date], kind: Rows, form: str
) -> Iterator[bytes]:
    """The rows of some nights as bytes; the first night is read before this returns."""
    first = night_rows(nights, like, days[0], kind)
    more = (night_rows(nights, like, day, kind) for day in days[1:])
    frames = (each.to_arrow(compat_level=pl.CompatLevel.oldest()) for each in chain([first], more))
    return _arrow(frames) if form == "arrow" else _parquet(frames)


def _arrow(tables: Iterator[pa.Table]) -> Iterator[bytes]:
    sink, first = io.BytesIO(), next(tables)
    with pa.ipc.new_stream(sink, first.schema) as writer:
        for table in chain([first], tables):
            for batch in table.to_batches(max_chunksize=_ROWS_PER_PART):
                writer.write_batch(batch)
                yield _taken(sink)
    yield _taken(sink)


def _parquet(tables: Iterator[pa.Table]) -> Iterator[bytes]:
    """A row group per night."""
    sink, first = _Sink(), next(tables)
    with pq.ParquetWriter(sink, first.schema, compression="zstd") as writer:
        for table in chain([first], tables):
            writer.write_table(table)
            yield sink.taken()
    yield sink.taken()


def _taken(sink: io.BytesIO) -> bytes:
    held = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return held


class _Sink(io.RawIOBase):
    """What a file's writer writes, to be taken away as it comes; tells how much that was in all."""

    def __init__(self) -> None:
        self._held, self._all = bytearray(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._held += piece
        self._all += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._all

    def taken(self) -> bytes:
        """What was written since the last time."""
        held, self._held = bytes(self._held), bytearray()
        return held
