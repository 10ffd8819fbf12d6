"""Frames in and out: pandas and polars alike. Knows both libraries' frames; nothing of bars.

Inside, everything is polars; what comes back is of the kind that was given.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import polars as pl

from market.errors import ConfigError, SourceError
from market.importing.layouts import ROW_COLUMN, unstack_names
from market.importing.options import ImportOptions
from market.importing.tables import as_table
from market.spec import Label

Kind = Literal["pandas", "polars"]


def kind_of(frame: object) -> Kind | None:
    """Which library's frame this is; None for anything else."""
    if isinstance(frame, pl.DataFrame):
        return "polars"
    module = type(frame).__module__.partition(".")[0]
    return "pandas" if module == "pandas" and hasattr(frame, "columns") else None


def as_polars(frame: object, what: str) -> pl.DataFrame:
    """The frame as polars; an index that says something becomes a column in front.

    what: words for the frame in messages. Raises SourceError for columns of one name, columns of
    several levels other than fields and symbols, a name that is both index and column, and for what
    is not a frame.
    """
    kind = kind_of(frame)
    if isinstance(frame, pl.DataFrame):
        return frame
    if kind is None:
        if isinstance(frame, pl.LazyFrame):
            return frame.collect()
        raise SourceError(
            f"{what}: expected a pandas or polars DataFrame, got {type(frame).__name__}"
        )
    return _from_pandas(frame, what)


def as_kind(frame: pl.DataFrame, kind: Kind) -> Any:
    """A polars frame as the kind wanted."""
    return frame if kind == "polars" else frame.to_pandas()


def import_options(
    venue: str | None,
    freq: str | None,
    tz: str | None,
    label: str | None,
    symbol: str | None,
    columns: dict[str, str] | None,
) -> ImportOptions:
    """What a frame does not say about its bars. Raises ConfigError for an unknown label."""
    try:
        side = None if label is None else Label(label)
    except ValueError:
        raise ConfigError(f"label={label!r}: must be start, end or session") from None
    return ImportOptions(venue, freq, tz, side, columns or {}, symbol=symbol)


def names(value: str | Iterable[str] | None) -> list[str] | None:
    """A list of names from one name or several; None stays None."""
    if value is None:
        return None
    return [value] if isinstance(value, str) else [str(each) for each in value]


def _from_pandas(frame: Any, what: str) -> pl.DataFrame:
    import pandas as pd

    if frame.columns.nlevels > 1:
        return _side_by_side(frame, what)
    labels = [str(name) for name in frame.columns]
    repeated = sorted({name for name in labels if labels.count(name) > 1})
    if repeated:
        raise SourceError(
            f"{what}: the column {repeated[0]!r} is there {labels.count(repeated[0])} times; drop "
            "all but one"
        )
    columns: dict[str, pl.Series] = {}
    levels = [frame.index.get_level_values(i) for i in range(frame.index.nlevels)]
    for at, level in enumerate(levels):
        dated = isinstance(level, pd.DatetimeIndex | pd.PeriodIndex)
        if level.name is None and not dated and len(levels) == 1:
            continue  # row numbers
        name = str(level.name) if level.name is not None else ("index" if dated else f"level{at}")
        if name in labels:
            raise SourceError(
                f"{what}: {name!r} names both the index and a column; keep one, for example with "
                "frame.reset_index(drop=True)"
            )
        if isinstance(level, pd.PeriodIndex):
            level = level.to_timestamp()
        columns[name] = _series(name, level.to_series(index=range(len(level))))
    for name, label in zip(labels, frame.columns, strict=True):
        columns[name] = _series(name, frame[label])
    return pl.DataFrame(columns)


def _side_by_side(frame: Any, what: str) -> pl.DataFrame:
    """Columns of fields and symbols, as yfinance.download gives them, as one bar per row."""
    if frame.columns.nlevels == 2:
        table, _ = unstack_names(as_table(frame, what), {})
        if "symbol" in table.columns:
            order = [name for name in table.columns if name in ("timestamp", "Date", "index")]
            return table.sort("symbol", *order, maintain_order=True).drop(ROW_COLUMN)
    example = frame.columns[0] if len(frame.columns) else ()
    raise SourceError(
        f"{what}: its columns have {frame.columns.nlevels} levels, such as {example}, that are not "
        "fields and symbols; make the symbols a column, for example with "
        "frame.stack(level=1).reset_index()"
    )


def _series(name: str, column: Any) -> pl.Series:
    """A pandas column; one of mixed values becomes text, so that nothing is lost or guessed."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    try:
        series: pl.Series = pl.from_pandas(column.reset_index(drop=True))
        return series.alias(name)
    except (pa.ArrowException, pl.exceptions.PolarsError, TypeError, ValueError):
        text = [None if value is None or value != value else str(value) for value in column]
        return pl.Series(name, text, pl.String)
