"""Data files of a lake: immutable Parquet, named by the hash of their content, in buckets.

Knows Parquet, hashes and symbol buckets; nothing of versions. Pages carry checksums too, for
readers that look at those rather than at names.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache, partial
from hashlib import blake2b, file_digest
from pathlib import Path, PurePosixPath

import polars as pl
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from market.bars import BAR_SCHEMA
from market.errors import ConfigError, StoreError
from market.storage import Folder

BUCKETS = 64
"""How many buckets the symbols of a small store are spread over; `data migrate` keeps it."""
MOST_BUCKETS = 4096
_SYMBOLS_PER_BUCKET = 64
_FILES_AT_ONCE = 4
_ROWS_PER_GROUP = 1 << 16
_NAMES = ("symbol", "source", "rule", "detail", "flags")
"""Columns of few distinct values, packed as a dictionary: a dictionary of prices costs more time
and room than it saves."""
_STEPS = ("timestamp", "session", "close_utc")
"""Columns that go on by steps, packed as differences."""
_LONGEST_DAY = timedelta(days=2)
"""No close lies further from the session it belongs to."""


@dataclass(frozen=True)
class DataFile:
    """One immutable Parquet file of a version."""

    path: str
    """Relative to the store."""
    rows: int
    size: int
    """In bytes."""
    bucket: int | None = None
    """Of bars: which symbols it holds."""
    first_close: datetime | None = None
    """Of bars: earliest close, UTC."""
    last_close: datetime | None = None


def bucket_of(symbol: str, buckets: int = BUCKETS) -> int:
    """The bucket a symbol lives in: the same on every machine and forever."""
    return int.from_bytes(blake2b(symbol.encode(), digest_size=8).digest()) % buckets


def buckets_for(symbols: int) -> int:
    """Buckets of a new store: files of a few dozen symbols, a power of two from 64 to 4,096."""
    wanted = BUCKETS
    while wanted < MOST_BUCKETS and symbols > wanted * _SYMBOLS_PER_BUCKET:
        wanted *= 2
    return wanted


def require_buckets(buckets: int) -> None:
    """Raises ConfigError unless a number of buckets is a power of two from 64 to 4,096."""
    if not BUCKETS <= buckets <= MOST_BUCKETS or buckets & (buckets - 1):
        raise ConfigError(f"buckets={buckets}: must be a power of two from 64 to 4096")


def write_file(
    root: Folder, table: str, rows: pl.DataFrame, *, bucket: int | None = None, number: int = 0
) -> DataFile:
    """Write rows, sorted as they shall lie, as one file that no version shows yet.

    bucket: of bars. number: of other tables' files, which are read in this order.
    """
    buffer = io.BytesIO()
    pq.write_table(
        rows.to_arrow(compat_level=pl.CompatLevel.oldest()),
        buffer,
        compression="zstd",
        use_dictionary=[name for name in _NAMES if name in rows.columns],
        column_encoding=dict.fromkeys(
            (name for name in _STEPS if name in rows.columns), "DELTA_BINARY_PACKED"
        ),
        row_group_size=_ROWS_PER_GROUP,
        write_page_checksum=True,
    )
    content = buffer.getvalue()
    digest = blake2b(content, digest_size=16).hexdigest()
    name = f"{number:06}-{digest}" if bucket is None else f"bucket={bucket}/{digest}"
    path = f"{table}/{name}.parquet"
    root.write(path, content)
    closes = rows["close_utc"] if bucket is not None else None
    return DataFile(
        path,
        rows.height,
        len(content),
        bucket,
        None if closes is None else _moment(closes.min()),
        None if closes is None else _moment(closes.max()),
    )


def as_action(file: DataFile) -> AddAction:
    """What a Delta transaction adds to its table to show a file."""
    stats: dict[str, object] = {"numRecords": file.rows}
    if file.first_close is not None and file.last_close is not None:
        stats |= {
            "minValues": {"close_utc": _spelt(file.first_close)},
            "maxValues": {"close_utc": _spelt(file.last_close)},
            "nullCount": {"close_utc": 0},
        }
    partition = {} if file.bucket is None else {"bucket": str(file.bucket)}
    name = file.path.split("/", 1)[1]
    return AddAction(name, file.size, partition, 0, True, json.dumps(stats))


def digest_of(files: Iterable[DataFile]) -> str:
    """Hash of a list of files, whatever its order: of their names, and so of every byte."""
    told = sorted([str(part) for part in astuple(file)] for file in files)
    return blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()


def verified(root: Folder, files: Sequence[DataFile]) -> list[Path | io.BytesIO]:
    """What to open to read those files, each known to hold what was written.

    On a disk a file is hashed once per process, and again when its size or time changes; from an
    object store it comes whole. Raises StoreError naming the first that is damaged or missing.
    """
    if not files:
        return []
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        return list(pool.map(lambda file: _verified(root, file), files))


def read_files(root: Folder, files: Sequence[DataFile], schema: pl.Schema) -> pl.DataFrame:
    """All rows of some files, in the order of the files; none of none. Raises as verified does."""
    parts = [pl.read_parquet(each) for each in verified(root, files)]
    return pl.concat([pl.DataFrame(schema=schema), *parts])


def scan_bars(
    root: Folder,
    files: Iterable[DataFile],
    buckets: int,
    *,
    symbols: Iterable[str] | None = None,
    start: date | None = None,
    as_of: datetime | None = None,
) -> pl.LazyFrame:
    """Bars in BAR_SCHEMA, in no promised order; files that cannot match are not opened.

    start: first session to return. as_of: only bars whose close is at or before it; without time
    zone it counts as UTC. Raises StoreError naming the file where one is damaged.
    """
    chosen = list(files)
    moment = None if as_of is None else as_of.replace(tzinfo=as_of.tzinfo or UTC)
    wanted = None if symbols is None else sorted(set(symbols))
    if wanted is not None:
        own = {bucket_of(symbol, buckets) for symbol in wanted}
        chosen = [each for each in chosen if each.bucket in own]
    if moment is not None:
        chosen = [each for each in chosen if each.first_close and each.first_close <= moment]
    if start is not None:
        since = datetime(start.year, start.month, start.day, tzinfo=UTC)
        since = since if start.year < 2 else since - _LONGEST_DAY
        chosen = [each for each in chosen if each.last_close and each.last_close >= since]
    if not chosen:
        return pl.LazyFrame(schema=BAR_SCHEMA)
    bars = pl.scan_parquet(verified(root, chosen))  # type: ignore[arg-type]  # paths, or streams
    if wanted is not None:
        bars = bars.filter(pl.col("symbol").is_in(wanted))
    if start is not None:
        bars = bars.filter(pl.col("session") >= start)
    if moment is not None:
        bars = bars.filter(pl.col("close_utc") <= moment)
    return bars


def _verified(root: Folder, file: DataFile) -> Path | io.BytesIO:
    name = PurePosixPath(file.path).stem.rsplit("-", 1)[-1]
    if root.path is not None:
        path = root.path / file.path
        if _hash_on_disk(path) != name:
            raise _damaged(root, file)
        return path
    try:
        content = root.read(file.path)
    except FileNotFoundError:
        raise _damaged(root, file) from None
    if blake2b(content, digest_size=16).hexdigest() != name:
        raise _damaged(root, file)
    return io.BytesIO(content)


def _damaged(root: Folder, file: DataFile) -> StoreError:
    return StoreError(
        f"{root.at(file.path)}: the file is damaged; restore it from a copy, or import its sources "
        "again into a new store"
    )


def _hash_on_disk(path: Path) -> str | None:
    try:
        stat = path.stat()
        return _hash_of(path, stat.st_size, (stat.st_mtime_ns, stat.st_ctime_ns))
    except OSError:
        return None


@lru_cache(maxsize=1 << 16)
def _hash_of(file: Path, size: int, changed: tuple[int, int]) -> str:
    with file.open("rb") as handle:
        return file_digest(handle, partial(blake2b, digest_size=16)).hexdigest()


def _moment(value: object) -> datetime:
    assert isinstance(value, datetime)
    return value.astimezone(UTC)


def _spelt(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
