"""Bars out of a database, by a query the user writes. Knows DuckDB; nothing of bar rules."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from market.errors import SourceError
from market.select import select

_SCHEME = "duckdb:///"


def read_query(source: str, query: str) -> pl.DataFrame:
    """The rows of a query over `duckdb:///FILE` (a fourth slash begins an absolute path).

    The database is opened read-only, and the query is one SELECT; it decides what is read, so that
    columns and rows it leaves out never leave the file. Raises SourceError naming what is wrong
    with file or query.
    """
    import duckdb

    if not source.startswith(_SCHEME):
        raise SourceError(
            f"{source}: write a database as duckdb:///relative/file.db or duckdb:////absolute/file.db"
        )
    path = Path(source.removeprefix(_SCHEME))
    if not path.is_file():
        raise SourceError(f"{source}: no such file, {path.absolute()}")
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            rows = select(connection, query)
    except (duckdb.Error, AttributeError) as error:
        reason = (
            str(error).splitlines()[0] if isinstance(error, duckdb.Error) else "it is not a query"
        )
        raise SourceError(f"{source}: the query failed: {reason}") from None
    if not rows.height:
        raise SourceError(f"{source}: the query found no rows")
    decimals = [name for name, dtype in rows.schema.items() if dtype.is_decimal()]
    return rows.with_columns(pl.col(decimals).cast(pl.Float64))
