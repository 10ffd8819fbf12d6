"""What the round trips of a book were like, and what it held. Knows frames and prices alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from backtest.figures.round_trips import round_trips
from backtest.fills.prices import PriceTable
from backtest.fills.simulation import Simulation


@dataclass(frozen=True)
class TradeFigures:
    """What round trips were like; NaN where there was none."""

    count: int
    win_rate: float
    """Share of the closed trades with a profit."""
    profit_factor: float
    """Profits over losses of the closed trades."""
    expectancy: float
    """Mean profit of a closed trade, in currency."""
    mean_bars: float
    """Bars from entry to exit."""
    worst_excursion: float
    """Mean of the worst return a trade stood at, from its lows (highs of shorts): MAE."""
    best_excursion: float
    """Mean of the best: MFE."""


def trades_of(simulation: Simulation, prices: PriceTable) -> pl.DataFrame:
    """Round trips (`figures.round_trips`, shares and prices of before a split restated for it) with

    bars (from the first fill to the last one, or the last bar where open), worst and best (the
    returns on the entry price that the trip stood at, from lows and highs: MAE and MFE, of whole
    bars, so that the first and last may reach beyond the trip), exit_kind (what the last order came
    from; null where open). Dividends paid meanwhile are not in pnl.
    """
    last = int(np.searchsorted(prices.close_utc_T, simulation.daily["close_utc"].to_numpy()[-1]))
    orders = simulation.orders
    at_M = np.searchsorted(prices.close_utc_T, orders["close_utc"].to_numpy())
    names = np.array(prices.symbols)
    column_M = np.searchsorted(names, orders["symbol"].to_numpy().astype(str))
    later_M = np.array(
        [_splits(prices, int(c), int(t), last) for c, t in zip(column_M, at_M, strict=True)]
    )
    restated = orders.with_columns(
        pl.Series("size", orders["size"].to_numpy() * later_M, pl.Float64),
        pl.Series("price", orders["price"].to_numpy() / later_M, pl.Float64),
    )
    marks = dict(zip(prices.symbols, prices.mark_TN[last].tolist(), strict=True))
    trips = round_trips(restated, marks)
    extra: list[tuple[int, float, float]] = []
    row_of = {label: i for i, label in enumerate(prices.labels_T.tolist())}
    columns = trips.select("symbol", "side", "opened", "closed", "entry").iter_rows()
    for symbol, side, opened, closed, entry in columns:
        first = row_of[opened]
        end = last if closed is None else row_of[closed]
        c = prices.column(symbol)
        scale = np.array([_splits(prices, c, t, last) for t in range(first, end + 1)])
        span, sign = slice(first, end + 1), 1.0 if side == "long" else -1.0
        low, high = prices.low_TN[span, c] / scale, prices.high_TN[span, c] / scale
        against, along = (low, high) if sign > 0 else (high, low)
        worst = np.nanmin(np.append(sign * (against / entry - 1), 0.0))
        best = np.nanmax(np.append(sign * (along / entry - 1), 0.0))
        extra.append((end - first, float(worst), float(best)))
    added = pl.DataFrame(
        extra, schema={"bars": pl.Int64, "worst": pl.Float64, "best": pl.Float64}, orient="row"
    )
    kinds = orders.group_by("symbol", pl.col("timestamp").alias("closed")).agg(
        pl.col("kind").last().alias("exit_kind")
    )
    return pl.concat([trips, added], how="horizontal").join(
        kinds, on=["symbol", "closed"], how="left", maintain_order="left"
    )


def _splits(prices: PriceTable, c: int, row: int, last: int) -> float:
    """New shares at `last` per share at `row`."""
    if not len(prices.action_row_A):
        return 1.0
    after = (prices.action_column_A == c) & (prices.action_row_A > row)
    return float(np.prod(prices.split_A[after & (prices.action_row_A <= last)]))


def trade_figures(trades: pl.DataFrame) -> TradeFigures:
    """Summary of the closed trades."""
    closed = trades.drop_nulls("closed")
    profit = closed["pnl"].to_numpy()
    lost = -float(np.minimum(profit, 0).sum())

    def mean(name: str) -> float:
        return float(closed[name].mean()) if closed.height else float("nan")  # type: ignore[arg-type]

    return TradeFigures(
        count=closed.height,
        win_rate=float(np.mean(profit > 0)) if len(profit) else float("nan"),
        profit_factor=float(np.maximum(profit, 0).sum()) / lost if lost > 0 else float("nan"),
        expectancy=mean("pnl"),
        mean_bars=mean("bars"),
        worst_excursion=mean("worst"),
        best_excursion=mean("best"),
    )


def by_symbol(trades: pl.DataFrame) -> pl.DataFrame:
    """symbol, trades, pnl, fee; the most profitable first."""
    return (
        trades.group_by("symbol")
        .agg(pl.len().cast(pl.Int64).alias("trades"), pl.col("pnl", "fee").sum())
        .sort(["pnl", "symbol"], descending=[True, False])
    )


def by_group(trades: pl.DataFrame, groups: Mapping[str, str]) -> pl.DataFrame:
    """group, trades, pnl, fee; the most profitable first. Symbols without a group are one."""
    named = trades.with_columns(
        pl.col("symbol").replace_strict(dict(groups), default="no group").alias("group")
    )
    return (
        named.group_by("group")
        .agg(pl.len().cast(pl.Int64).alias("trades"), pl.col("pnl", "fee").sum())
        .sort(["pnl", "group"], descending=[True, False])
    )


def holdings(simulation: Simulation, prices: PriceTable) -> pl.DataFrame:
    """timestamp, symbol, shares, value, weight of every position at every close."""
    daily, orders = simulation.daily, simulation.orders
    rows = np.searchsorted(prices.close_utc_T, daily["close_utc"].to_numpy())
    frames = []
    for (symbol,), own in orders.group_by("symbol", maintain_order=True):
        c = prices.column(str(symbol))
        change = np.zeros(len(rows))
        at = np.searchsorted(prices.close_utc_T, own["close_utc"].to_numpy()) - rows[0]
        sign = np.where(own["side"].to_numpy() == "buy", 1.0, -1.0)
        np.add.at(change, at, sign * own["size"].to_numpy())
        splits = np.ones(len(rows))
        for a in np.flatnonzero(prices.action_column_A == c):
            if rows[0] < prices.action_row_A[a] <= rows[-1]:
                splits[prices.action_row_A[a] - rows[0]] *= prices.split_A[a]
        grown = np.cumprod(splits)
        shares = np.cumsum(change / grown) * grown
        scale = np.maximum.accumulate(np.abs(shares))
        held = np.flatnonzero(np.abs(shares) > 1e-9 * np.maximum(scale, 1e-300))
        value = shares[held] * prices.mark_TN[rows[held], c]
        frames.append(
            pl.DataFrame(
                {
                    "timestamp": daily["timestamp"].to_numpy()[held],
                    "symbol": [str(symbol)] * len(held),
                    "shares": shares[held],
                    "value": value,
                    "weight": value / daily["equity"].to_numpy()[held],
                }
            )
        )
    empty = pl.DataFrame(
        schema={
            "timestamp": pl.Datetime("us"), "symbol": pl.String, "shares": pl.Float64,
            "value": pl.Float64, "weight": pl.Float64,
        }
    )  # fmt: skip
    return pl.concat(frames).sort("timestamp", "symbol") if frames else empty
