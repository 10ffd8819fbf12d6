"""Bars in memory, in the shapes that data sources return. Knows pandas and polars frames, and rows.

Every shape becomes a polars frame whose columns are found like those of a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from market.errors import SourceError

if TYPE_CHECKING:
    import pandas as pd

_ROW = ("timestamp", "open", "high", "low", "close", "volume")
"""What ccxt's fetch_ohlcv gives per bar."""


def as_table(frame: Any, source: str) -> pl.DataFrame:
    """A polars frame of bars. Raises SourceError for what is not a table of them."""
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, pl.DataFrame):
        table = frame
    elif type(frame).__module__.partition(".")[0] == "pandas" and hasattr(frame, "columns"):
        table = _of_pandas(frame, source)
    elif hasattr(frame, "__arrow_c_stream__"):
        table = pl.DataFrame(frame)
    elif isinstance(frame, (list, tuple)) and frame and isinstance(frame[0], (list, tuple)):
        table = _of_rows(frame, source)
    else:
        raise SourceError(
            f"{source}: a {type(frame).__name__} is not a table of bars; give a pandas, polars "
            "or Arrow table, or rows of [time, open, high, low, close, volume]"
        )
    if not table.height:
        raise SourceError(f"{source}: the frame holds no rows")
    return table


def _of_rows(rows: Any, source: str) -> pl.DataFrame:
    width = len(rows[0])
    if width < 5 or any(len(row) != width for row in rows):
        raise SourceError(f"{source}: rows need time, open, high, low, close, and maybe volume")
    names = [*_ROW, *(f"c{i}" for i in range(6, width))][:width]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    return pl.DataFrame(columns, strict=False)


def _of_pandas(frame: pd.DataFrame, source: str) -> pl.DataFrame:
    """A pandas frame: an index that names times or symbols becomes columns, and so do the levels of
    columns by field and ticker."""
    import pandas as pd

    table = frame.copy(deep=False)
    if isinstance(table.columns, pd.MultiIndex):
        table.columns = pd.Index(
            ["_".join(str(part) for part in name if str(part)) for name in table.columns]
        )
    else:
        table.columns = pd.Index([str(name) for name in table.columns])
    if not isinstance(table.index, pd.RangeIndex):
        names = [str(name) if name is not None else "index" for name in table.index.names]
        table.index.names = [name if name not in table.columns else "index" for name in names]
        table = table.reset_index()
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise SourceError(f"{source}: column {twice!r} comes twice; keep one of them")
    for name in table.columns:
        column = table[name]
        if column.dtype == object and column.map(lambda each: hasattr(each, "isoformat")).all():
            table[name] = pd.to_datetime(column)
        elif column.dtype == object:
            kinds = {type(each) for each in column.dropna()}
            if len(kinds) > 1:
                table[name] = column.astype(str)
    return pl.from_pandas(table)
