"""A user's SQL, which may only read. Knows DuckDB; nothing of bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    import duckdb


def select(connection: duckdb.DuckDBPyConnection, query: str) -> pl.DataFrame:
    """The rows of one SELECT.

    Raises duckdb.Error for anything else: a second statement, one that writes, and functions that
    would change how the connection works. Nothing of such a query is run.
    """
    import duckdb

    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise duckdb.InvalidInputException("a query is one SELECT, and can only read")
    for option in (
        "autoinstall_known_extensions = false",
        "python_enable_replacements = false",
        # Functions such as enable_logging write files; they need an open configuration.
        "lock_configuration = true",
    ):
        connection.execute(f"SET {option}")
    return pl.DataFrame(connection.sql(query).to_arrow_table())
