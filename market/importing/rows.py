"""One source's columns as rows for check_bars. Knows one frame at a time; no files, no stores."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from market.actions.derive import actions_of_source
from market.bars import RULE_ROW
from market.errors import SourceError
from market.fields import FEATURES, PRICES
from market.importing.columns import find_columns
from market.importing.layouts import ROW_COLUMN, one_series
from market.importing.names import UTC_NAMES, plain
from market.importing.numbers import number_style, read_number
from market.importing.options import ImportOptions
from market.importing.text import RAGGED_COLUMN
from market.importing.times import TimeRules, join_clock, read_times
from market.spec import DAILY


class SourceRows(NamedTuple):
    """What one source holds."""

    rows: pl.DataFrame
    """source, row, symbol, timestamp, instant (UTC, null where the source has local time only),
    time_text, fault_rule, fault, and the six values."""
    actions: pl.DataFrame
    """ACTION_SCHEMA: what the source's own columns tell of splits and dividends."""
    notes: tuple[str, ...]
    unused: tuple[str, ...]


def rows_of(
    raw: pl.DataFrame, source: str, options: ImportOptions, symbol_name: str | None
) -> SourceRows:
    """The rows of a source, read.

    symbol_name: of a source without a symbol column; None where it must have one. Raises
    SourceError naming the source where it cannot be bars.
    """
    hidden = {ROW_COLUMN, RAGGED_COLUMN}
    names = [name for name in raw.columns if name not in hidden]
    columns = find_columns(names, options.columns, source)
    notes: list[str] = []
    if {"series", "symbol"} <= set(columns.of):
        raw, notes = one_series(raw, columns.of["symbol"], columns.of["series"], source)
    if not raw.height:
        raise SourceError(f"{source}: it has a header but no rows; leave the file out")
    symbol = _symbols(raw, columns.of.get("symbol"), source, options, symbol_name)
    label, times, time_notes = _times(raw, columns.of, source, options)
    values, volume_notes = _values(raw, columns.of, source, options)
    number = raw[ROW_COLUMN] if ROW_COLUMN in raw.columns else np.arange(1, raw.height + 1)
    unread = _unread(label, times[0])
    ragged = raw[RAGGED_COLUMN] if RAGGED_COLUMN in raw.columns else None
    if ragged is not None and ragged.null_count() == len(ragged):
        ragged = None
    read = pl.DataFrame(
        [symbol, pl.Series("row", number).cast(pl.Int64), times[0].alias("timestamp"),
         times[1].alias("instant"), *values]
    )  # fmt: skip
    # What is the same in all rows stays a literal, which takes no room per row.
    nothing = pl.lit(None, pl.String)
    rows = read.select(
        pl.lit(source).alias("source"),
        "row",
        "symbol",
        "timestamp",
        "instant",
        (nothing if unread is None else pl.lit(unread)).alias("time_text"),
        (nothing if ragged is None else pl.when(ragged.is_not_null()).then(pl.lit(RULE_ROW)))
        .alias("fault_rule"),
        (nothing if ragged is None else pl.lit(ragged)).alias("fault"),
        *FEATURES,
    )  # fmt: skip
    splits, dividends, adjusted = (
        _extra(raw, columns.of.get(name), source, options)
        for name in ("splits", "dividends", "adjusted_close")
    )
    actions, action_notes = actions_of_source(
        rows, splits, dividends, adjusted, options.price_basis
    )
    used = tuple(each for each in columns.unused if each not in hidden)
    return SourceRows(rows, actions, (*notes, *time_notes, *volume_notes, *action_notes), used)


def _times(
    raw: pl.DataFrame, of: dict[str, str], source: str, options: ImportOptions
) -> tuple[pl.Series, tuple[pl.Series, pl.Series], tuple[str, ...]]:
    label = raw[of["timestamp"]]
    if "time_of_day" in of:
        joined = join_clock(label, raw[of["time_of_day"]])
        label = label if joined is None else joined
    rules = TimeRules(
        tz=options.tz,
        source=source,
        last_day=options.last_day,
        day_first=options.day_first,
        daily=None if options.freq is None else options.freq == DAILY,
        utc=plain(of["timestamp"]) in UTC_NAMES,
    )
    read = read_times(label, rules)
    return label, (read.wall, read.instant), read.notes


def _values(
    raw: pl.DataFrame, of: dict[str, str], source: str, options: ImportOptions
) -> tuple[list[pl.Series], tuple[str, ...]]:
    there = [raw[of[name]] for name in FEATURES if name in of]
    style = number_style(there, source, options.decimal, options.thousands)
    notes: tuple[str, ...] = ()
    if style.decimal == "," and options.decimal is None:
        notes = ("numbers are read with a decimal comma",)
    values = {
        name: read_number(raw[of[name]], source, style, optional=name not in PRICES).alias(name)
        for name in FEATURES
        if name in of
    }
    ticks = next((name for name in raw.columns if plain(name) in ("tickvol", "tickvolume")), None)
    if ticks is not None and "volume" in values and not (values["volume"] > 0).any():
        values["volume"] = read_number(raw[ticks], source, style, optional=True).alias("volume")
        notes = (*notes, f"volume is that of column {ticks}: {of['volume']} is always 0")
    nothing = pl.Series([None], dtype=pl.Float64).new_from_index(0, raw.height)
    return [values.get(name, nothing.alias(name)) for name in FEATURES], notes


def _symbols(
    raw: pl.DataFrame, column: str | None, source: str, options: ImportOptions, named: str | None
) -> pl.Series:
    if column is not None:
        if options.symbol is not None:
            raise SourceError(f"{source}: it has a symbol column, {column!r}; leave --symbol out")
        given = raw[column]
        if given.dtype.is_nested() or given.dtype.is_temporal() or given.dtype in (
            pl.Binary, pl.Boolean, pl.Object
        ):  # fmt: skip
            raise SourceError(
                f"{source}: column {column!r} is of type {given.dtype}, which names no symbols; "
                "convert it to text"
            )
        if given.dtype.is_float():
            whole = given.cast(pl.Int64, strict=False)
            given = whole if whole.cast(given.dtype).equals(given) else given
        return given.cast(pl.String).str.strip_chars().alias("symbol")
    if named is None:
        raise SourceError(
            f"{source}: it has no symbol column; add one, or name the symbol with --symbol"
        )
    return pl.Series("symbol", [named]).new_from_index(0, raw.height)


def _extra(
    raw: pl.DataFrame, column: str | None, source: str, options: ImportOptions
) -> pl.Series | None:
    if column is None:
        return None
    style = number_style([raw[column]], source, options.decimal or ".", options.thousands)
    return read_number(raw[column], source, style, optional=True)


def _unread(label: pl.Series, wall: pl.Series) -> pl.Series | None:
    """The text of labels that could not be read, null for the others; None where all could."""
    if not wall.null_count():
        return None
    bad = wall.is_null()
    shown = label.to_physical() if label.dtype.is_temporal() else label
    return shown.cast(pl.String).set(~bad, None)
