"""Round trips and holdings, rebuilt from the orders. Knows frames and prices, no engine.

A trade runs from the fill that opens a position of a name to the one that closes it, everything
bought and sold in between included; splits multiply its shares on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from backtest.fills.prices import PriceTable
from backtest.fills.simulation import Simulation

SCHEMA: dict[str, Any] = {
    "symbol": pl.String,
    "side": pl.String,
    "entered": pl.Datetime("us"),
    "exited": pl.Datetime("us"),
    "bars": pl.Int64,
    "invested": pl.Float64,
    "profit": pl.Float64,
    "return": pl.Float64,
    "fees": pl.Float64,
    "worst": pl.Float64,
    "best": pl.Float64,
    "exit": pl.String,
    "open": pl.Boolean,
}


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


def round_trips(simulation: Simulation, prices: PriceTable) -> pl.DataFrame:
    """One row per trade, in order of entry: symbol, side, entered, exited (last bar where `open`),
    bars, invested (value of all fills that added), profit (fees and dividends included), return
    (profit / invested), fees, worst and best (excursions, as returns on the average entry price),
    exit (kind of the last order), open."""
    close_T = prices.close_utc_T
    last = int(np.searchsorted(close_T, simulation.daily["close_utc"].to_numpy()[-1]))
    rows: list[tuple[Any, ...]] = []
    for (symbol,), orders in simulation.orders.group_by("symbol", maintain_order=True):
        c = prices.column(str(symbol))
        acted = np.flatnonzero(prices.action_column_A == c)
        at_M = np.searchsorted(close_T, orders["close_utc"].to_numpy())
        sign_M = np.where(orders["side"].to_numpy() == "buy", 1.0, -1.0)
        size_M, price_M, fee_M = (orders[n].to_numpy() for n in ("size", "price", "fee"))
        trade: dict[str, Any] | None = None
        for i, at in enumerate(at_M):
            if trade is not None:
                _act(trade, prices, acted, int(at))
            signed, first = sign_M[i] * size_M[i], trade is None
            if trade is None:
                trade = {
                    "at": int(at), "seen": int(at), "shares": 0.0, "side": sign_M[i], "cash": 0.0,
                    "invested": 0.0, "basis": float(price_M[i]), "fees": 0.0,
                }  # fmt: skip
            if first or signed * trade["shares"] > 0:
                trade["invested"] += abs(signed) * price_M[i]
                total = abs(trade["shares"]) + abs(signed)
                trade["basis"] += (price_M[i] - trade["basis"]) * abs(signed) / total
            trade["cash"] -= signed * price_M[i] + fee_M[i]
            trade["fees"] += fee_M[i]
            trade["shares"] += signed
            if abs(trade["shares"]) <= 1e-9 * abs(signed):
                rows.append(_row(trade, str(symbol), prices, c, int(at), orders["kind"][i], False))
                trade = None
        if trade is not None:
            _act(trade, prices, acted, last)
            trade["cash"] += trade["shares"] * prices.mark_TN[last, c]
            rows.append(_row(trade, str(symbol), prices, c, last, "", True))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("entered", "symbol")


def _act(trade: dict[str, Any], prices: PriceTable, acted: Any, at: int) -> None:
    """Splits and dividends since the trade was last looked at."""
    for a in acted:
        if trade["seen"] < prices.action_row_A[a] <= at:
            trade["shares"] *= prices.split_A[a]
            trade["cash"] += trade["shares"] * prices.dividend_A[a]
            trade["basis"] = trade["basis"] / prices.split_A[a] - prices.dividend_A[a]
    trade["seen"] = at


def _row(
    trade: dict[str, Any], symbol: str, prices: PriceTable, c: int, at: int, kind: str, open_: bool
) -> tuple[Any, ...]:
    span = slice(trade["at"], at + 1)
    side, basis = trade["side"], trade["basis"]
    low, high = prices.low_TN[span, c], prices.high_TN[span, c]
    known = np.isfinite(low)
    against, with_ = (low, high) if side > 0 else (high, low)
    worst = min(0.0, float(np.min(side * (against[known] / basis - 1), initial=0.0)))
    best = max(0.0, float(np.max(side * (with_[known] / basis - 1), initial=0.0)))
    labels = prices.labels_T
    invested = trade["invested"]
    return (
        symbol, "long" if side > 0 else "short", labels[trade["at"]].item(), labels[at].item(),
        at - trade["at"], float(invested), float(trade["cash"]),
        float(trade["cash"] / invested) if invested else float("nan"), float(trade["fees"]),
        worst, best, kind, open_,
    )  # fmt: skip


def trade_figures(trades: pl.DataFrame) -> TradeFigures:
    """Summary of the closed trades."""
    closed = trades.filter(~pl.col("open"))
    profit = closed["profit"].to_numpy()
    lost = -float(np.minimum(profit, 0).sum())

    def mean(name: str) -> float:
        return float(closed[name].mean()) if closed.height else float("nan")  # type: ignore[arg-type]

    return TradeFigures(
        count=closed.height,
        win_rate=float(np.mean(profit > 0)) if len(profit) else float("nan"),
        profit_factor=float(np.maximum(profit, 0).sum()) / lost if lost > 0 else float("nan"),
        expectancy=mean("profit"),
        mean_bars=mean("bars"),
        worst_excursion=mean("worst"),
        best_excursion=mean("best"),
    )


def by_symbol(trades: pl.DataFrame) -> pl.DataFrame:
    """symbol, trades, profit, fees; the most profitable first."""
    return (
        trades.group_by("symbol")
        .agg(pl.len().cast(pl.Int64).alias("trades"), pl.col("profit").sum(), pl.col("fees").sum())
        .sort(["profit", "symbol"], descending=[True, False])
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
