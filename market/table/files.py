"""Data files of the forecast table: written with their hash in the name, compared before use.

Knows Parquet files and Delta's list of them; nothing of runs or versions. The hash covers the bytes
and the partition they belong to, so that a flipped bit in a file, or in the log's entry for it, is
named and never read. Pages carry checksums too, for readers that look at those. Files without a
hash in their name, of older code, are read as they are.
"""

from __future__ import annotations

import io
import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable
from deltalake.transaction import AddAction
from polars.io.plugins import register_io_source

from market.errors import StoreError
from market.parquet import packed
from market.storage import Folder
from market.table.schema import PARTITION_BY, ROW_ORDER, SCHEMAS, Kind

_NAME = re.compile(r"part-(?:\d+-)?([0-9a-f]{32})-[0-9a-f]{32}\.parquet")
_PRUNES_BY = ("run_id", "symbol", "step")
"""Columns whose range other readers skip files by."""
_FILES_AT_ONCE = 16
_ROWS_PER_GROUP = 1 << 17


@dataclass(frozen=True)
class Written:
    """Rows of one partition that lie in files already and that no version shows yet."""

    actions: tuple[AddAction, ...]
    slots: pl.DataFrame
    """Their distinct SLOT columns."""


def partition_of(model_id: str, day: date) -> dict[str, str]:
    """A partition's columns as Delta spells them."""
    return {"model_id": model_id, "as_of_date": day.isoformat()}


def write_part(
    folder: Folder, kind: Kind, model_id: str, day: date, rows: pl.DataFrame, number: int
) -> AddAction:
    """Some rows of a date as one sorted file of the table, to be read after those of lower numbers.

    May run in any process; `Written` of all parts together is what a commit takes.
    """
    own = rows.select(SCHEMAS[kind].names()).cast(SCHEMAS[kind]).sort(ROW_ORDER[kind])
    return write_rows(folder, partition_of(model_id, day), own, number)


def write_rows(
    folder: Folder, partition: Mapping[str, str], rows: pl.DataFrame, number: int | None = None
) -> AddAction:
    """Write one file of a partition; what a commit adds to the table to make it count.

    partition: its columns as Delta spells them. number: of several files, which are read in this
    order. Raises StoreError where it cannot be written.
    """
    content = packed(rows.drop(*partition), _ROWS_PER_GROUP)
    # A folder's name says nothing to a reader: the log holds the values.
    where = "/".join(
        f"{key}={re.sub(r'[^A-Za-z0-9_.-]', '_', partition[key])}" for key in partition
    )
    order = "" if number is None else f"{number:05}-"
    name = f"{where}/part-{order}{_digest(content, partition)}-{uuid.uuid4().hex}.parquet"
    folder.write(name, content)
    keys = [key for key in _PRUNES_BY if key in rows.columns]
    stats = {
        "numRecords": rows.height,
        "minValues": {key: rows[key].min() for key in keys},
        "maxValues": {key: rows[key].max() for key in keys},
        "nullCount": {key: rows[key].null_count() for key in keys},
    }
    return AddAction(
        name, len(content), dict(partition), int(time.time() * 1000), True, json.dumps(stats)
    )


def scan_rows(handle: DeltaTable, folder: Folder) -> pl.LazyFrame:
    """A version of a table lazily, its partitions in order; files that cannot match stay closed.

    Collecting raises StoreError naming the file where one is missing or damaged.
    """
    schema = pl.Schema(handle.schema().to_arrow())
    listed = pl.DataFrame(handle.get_add_actions(flatten=True))
    files = listed.select(
        "path", *(pl.col(f"partition.{key}").alias(key) for key in PARTITION_BY)
    ).sort(*PARTITION_BY, "path")

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        wanted = files if predicate is None else files.filter(*_on_partitions(predicate))
        for first in range(0, wanted.height, _FILES_AT_ONCE):
            if left is not None and left <= 0:
                return
            some = wanted[first : first + _FILES_AT_ONCE].to_dicts()
            rows = _read(folder, some, schema, columns, predicate)
            rows = rows if left is None else rows.head(left)
            left = None if left is None else left - rows.height
            yield rows

    return register_io_source(source, schema=schema, is_pure=True)


def _read(
    folder: Folder,
    files: list[dict[str, str]],
    schema: pl.Schema,
    columns: list[str] | None,
    predicate: pl.Expr | None,
) -> pl.DataFrame:
    with ThreadPoolExecutor(min(len(files), _FILES_AT_ONCE)) as pool:
        contents = list(pool.map(lambda file: _verified(folder, file), files))
    parts = []
    for file, content in zip(files, contents, strict=True):
        rows = pl.scan_parquet(io.BytesIO(content))
        there = rows.collect_schema()
        parts.append(
            rows.select(
                pl.lit(file[name] if name in PARTITION_BY else None).cast(dtype).alias(name)
                if name not in there
                else pl.col(name).cast(dtype)
                for name, dtype in schema.items()
            )
        )
    found = pl.concat(parts)
    if predicate is not None:
        found = found.filter(predicate)
    return found.select(columns or list(schema)).collect()


def _verified(folder: Folder, file: dict[str, str]) -> bytes:
    """A file's bytes, as they were written."""
    name = unquote(file["path"])
    try:
        content = folder.read(name)
    except FileNotFoundError:
        raise _damaged(folder.at(name), "missing") from None
    hashed = _NAME.fullmatch(name.rsplit("/", 1)[-1])
    partition = {key: str(file[key]) for key in PARTITION_BY}
    if hashed and hashed[1] != _digest(content, partition):
        raise _damaged(folder.at(name), "damaged (its content does not fit its name)")
    if not hashed:
        try:
            pl.read_parquet_schema(io.BytesIO(content))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _damaged(folder.at(name), f"damaged ({error})") from error
    return content


def _damaged(place: str, what: str) -> StoreError:
    return StoreError(
        f"{place}: the file is {what}; restore it from a copy, or forecast its date again into a "
        "new --out"
    )


def _digest(content: bytes, partition: Mapping[str, str]) -> str:
    hashed = blake2b(content, digest_size=16)
    hashed.update(json.dumps(partition, sort_keys=True).encode())
    return hashed.hexdigest()


def _on_partitions(predicate: pl.Expr) -> list[pl.Expr]:
    """Of the terms that a filter joins by `and`, those that partitions alone decide."""
    if set(predicate.meta.root_names()) <= set(PARTITION_BY):
        return [predicate]
    terms = predicate.meta.pop()
    if len(terms) == 2 and (terms[1] & terms[0]).meta.eq(predicate):
        return [each for term in terms for each in _on_partitions(term)]
    return []
