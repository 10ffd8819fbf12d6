"""Made-up bars, targets and scores of the field cases."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from backtest.fills.costs import Costs
from backtest.fills.inputs import Targets
from backtest.fills.prices import PriceTable, price_table

FREE = Costs(commission_bps=0, min_fee=0, slippage_bps=0)
FREE_FLAT: dict[str, Any] = {"commission_bps": 0, "min_fee": 0, "slippage_bps": 0}


def days(n: int, start: str = "2024-01-02") -> list[dt.date]:
    """n weekdays."""
    first = dt.date.fromisoformat(start)
    every = (first + dt.timedelta(i) for i in range(2 * n + 7))
    return [day for day in every if day.weekday() < 5][:n]


def bars(
    prices: Mapping[str, Sequence[float | None]],
    dates: Sequence[dt.date] | None = None,
    opens: Mapping[str, Sequence[float]] | None = None,
    volume: float = 1e6,
    minutes: int = 5,
) -> pl.DataFrame:
    """Bars of closes by symbol (None: no bar); opens are the closes unless given. Instants as
    dates make bars of so many minutes that close in UTC."""
    rows = []
    dates = dates or days(max(map(len, prices.values())))
    for symbol, closes in prices.items():
        for i, close in enumerate(closes):
            if close is None:
                continue
            opened = float(opens[symbol][i]) if opens and symbol in opens else float(close)
            at = dates[i]
            if isinstance(at, dt.datetime):
                label, day, ends = at, at.date(), at + dt.timedelta(minutes=minutes)
            else:
                label, day = dt.datetime(at.year, at.month, at.day), at
                ends = label + dt.timedelta(hours=21)
            high, low = max(opened, close), min(opened, close)
            rows.append(
                (symbol, label, day, ends, opened, float(high), float(low), float(close), volume)
            )
    names = (
        "symbol",
        "timestamp",
        "session",
        "close_utc",
        "open",
        "high",
        "low",
        "close",
        "volume",
    )
    frame = pl.DataFrame(rows, schema=list(names), orient="row")
    return frame.with_columns(
        pl.col("timestamp").cast(pl.Datetime("us")),
        pl.col("close_utc").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        pl.col("open", "high", "low", "close", "volume").cast(pl.Float64),
    )


def table(frame: pl.DataFrame, gap: int = 5) -> PriceTable:
    names = sorted(frame["symbol"].unique().to_list())
    return price_table(frame, names, recovery=1.0, max_gap_sessions=gap)


def targets(prices: PriceTable, plan: Sequence[tuple[int, Mapping[str, float]]]) -> Targets:
    """Target weights by row of the decision."""
    columns = [prices.column(name) for _, weights in plan for name in weights]
    return Targets(
        np.array([0, len(plan)]),
        np.array([row for row, _ in plan]),
        np.cumsum([0, *(len(weights) for _, weights in plan)]).astype(np.int64),
        np.array(columns, np.int64),
        np.array([weight for _, weights in plan for weight in weights.values()], float),
    )


def scores(rows: Sequence[tuple[Any, str, float]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["date", "symbol", "score"], orient="row")


def walk(seed: int, n: int, scale: float = 0.01, drift: float = 0.0) -> list[float]:
    """A random walk of n closes from about 100."""
    return list(100 * np.cumprod(1 + np.random.default_rng(seed).normal(drift, scale, n)))
