"""Weights, orders and signals of one's own, as decisions. Knows tables and bars, nothing of fills.

Legend: D decisions, M (decision, symbol) entries.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from backtest.fills.rules import Unit
from backtest.scores.own import OnClosed, placed
from backtest.scores.reading import (
    DATE_COLUMNS,
    need,
    when_column,
    with_flags,
    with_numbers,
    with_symbols,
)
from market.errors import BacktestInputError

Kind = Literal["weights", "orders", "signals"]
SIZES = {"shares": Unit.SHARES, "value": Unit.VALUE, "percent": Unit.PERCENT}


def weight_entries(frame: pl.DataFrame, bars: pl.DataFrame, on_closed: OnClosed) -> pl.DataFrame:
    """Target weights: long (a date, symbol, weight), or wide (a date and a column per symbol).

    A blank weight is not listed, and a name that is not listed is sold. A decision buys its largest
    weights first. Raises BacktestInputError as `own.placed`.
    """
    when = when_column(frame, "weights")
    if "symbol" not in frame.columns:
        names = [name for name in frame.columns if name not in DATE_COLUMNS]
        frame = with_numbers(frame, *names).unpivot(
            on=names, index=when, variable_name="symbol", value_name="weight"
        )
        frame = frame.sort(when, maintain_order=True)
    need(frame, ("symbol", "weight"), "weights")
    known = with_numbers(with_symbols(frame), "weight").drop_nulls("weight").drop_nans("weight")
    if known.is_empty():
        raise BacktestInputError("weights hold no number")
    there = placed(known, bars, on_closed, "weight")
    return _entries(there, pl.col("weight"), pl.lit(int(Unit.TARGET)), pl.lit(float("nan")))


def order_entries(frame: pl.DataFrame, bars: pl.DataFrame, on_closed: OnClosed) -> pl.DataFrame:
    """Orders: a time, symbol, one of shares, value and percent (of equity), perhaps side and limit.

    They reach the market on the bar after the one they are placed on; a number below 0 sells, or
    with side (buy or sell) all are above 0. percent is a fraction: 0.1 is 10%. limit: a price in
    the prices of the store; blank: at the market. Raises BacktestInputError as `own.placed`.
    """
    need(frame, ("symbol",), "orders")
    sizes = [name for name in SIZES if name in frame.columns]
    if not sizes:
        raise BacktestInputError(
            f"orders have no size: expected shares, value or percent; found "
            f"{', '.join(frame.columns)}"
        )
    limit = ["limit"] if "limit" in frame.columns else []
    frame = with_numbers(with_symbols(frame), *sizes, *limit)
    given = pl.sum_horizontal(pl.col(name).is_not_null().cast(pl.Int64) for name in sizes)
    wrong = frame.filter(given != 1)
    if wrong.height:
        row = wrong.row(0, named=True)
        raise BacktestInputError(
            f"{row['symbol']}: order of {row[when_column(frame, 'orders')]} has not one size of "
            f"{', '.join(sizes)} (rule: exactly one)"
        )
    number = pl.coalesce(pl.col(name) for name in sizes)
    unit = pl.coalesce(
        pl.when(pl.col(name).is_not_null()).then(pl.lit(int(SIZES[name]))) for name in sizes
    )
    if "side" in frame.columns:
        side = pl.col("side").cast(pl.String).str.strip_chars().str.to_lowercase()
        bad = frame.filter(~side.is_in(("buy", "sell")).fill_null(False))
        if bad.height:
            row = bad.row(0, named=True)
            raise BacktestInputError(f"{row['symbol']}: side {row['side']!r} (rule: buy or sell)")
        number = pl.when(side == "sell").then(-number.abs()).otherwise(number.abs())
    price = pl.col("limit").fill_null(float("nan")) if limit else pl.lit(float("nan"))
    low = frame.filter((price <= 0).fill_null(False)) if limit else frame.head(0)
    if low.height:
        row = low.row(0, named=True)
        raise BacktestInputError(f"{row['symbol']}: limit {row['limit']} (rule: price > 0)")
    return _entries(placed(frame, bars, on_closed, "order"), number, unit, price)


def signal_entries(
    frame: pl.DataFrame, bars: pl.DataFrame, on_closed: OnClosed, weight: float
) -> pl.DataFrame:
    """Signals: a time, symbol, entry and exit (true or false).

    An entry buys `weight` of the equity of a name not held, an exit sells all; both at once are an
    exit. Raises BacktestInputError as `own.placed`.
    """
    need(frame, ("symbol", "entry"), "signals")
    if "exit" not in frame.columns:
        frame = frame.with_columns(pl.lit(False).alias("exit"))
    frame = with_flags(with_symbols(frame), "entry", "exit")
    there = placed(frame, bars, on_closed, "signal").filter(pl.col("entry") | pl.col("exit"))
    if there.is_empty():
        raise BacktestInputError("signals hold no entry and no exit")
    unit = pl.when(pl.col("exit")).then(pl.lit(int(Unit.EXIT))).otherwise(pl.lit(int(Unit.ENTER)))
    number = pl.when(pl.col("exit")).then(0.0).otherwise(weight)
    return _entries(there, number, unit, pl.lit(float("nan")))


def _entries(there: pl.DataFrame, number: pl.Expr, unit: pl.Expr, limit: pl.Expr) -> pl.DataFrame:
    """as_of, as_of_date, symbol, score (the number), …, unit, limit; the largest first."""
    nothing = pl.lit(float("nan"))
    return there.select(
        "as_of",
        "as_of_date",
        "symbol",
        number.cast(pl.Float64).alias("score"),
        nothing.alias("mean"),
        nothing.alias("deviation"),
        pl.col("close").alias("last_close"),
        pl.lit(0, pl.Int32).alias("flags"),
        unit.cast(pl.Int64).alias("unit"),
        limit.cast(pl.Float64).alias("limit"),
    ).sort(["as_of", pl.col("score").abs(), "symbol"], descending=[False, True, False])


def entry_arrays(
    frame: pl.DataFrame, row_M: np.ndarray, column_M: np.ndarray
) -> tuple[np.ndarray, ...]:
    """(row_D, start_D1, column_M, weight_M, unit_M, limit_M) of entries sorted by as_of; units and
    limits are empty for target weights."""
    row_D, start_D = np.unique(row_M, return_index=True)
    orders = bool((frame["unit"] != int(Unit.TARGET)).any())
    unit_M = frame["unit"].to_numpy() if orders else np.empty(0, np.int64)
    limit_M = frame["limit"].to_numpy() if orders else np.empty(0)
    return (
        row_D,
        np.append(start_D, len(row_M)).astype(np.int64),
        column_M.astype(np.int64),
        frame["score"].to_numpy().copy(),
        unit_M.copy(),
        limit_M.copy(),
    )
