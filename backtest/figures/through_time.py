"""How an account fared as time went by. Knows arrays of equity and returns, and their labels.

Legend: T bars.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.figures.metrics import Time, drawdown

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fall:
    """One spell below an earlier peak."""

    depth: float
    """Deepest point below the peak, a fraction below 0."""
    peak: np.datetime64
    trough: np.datetime64
    recovered: np.datetime64 | None
    """First bar at the peak again; None: not yet."""
    bars: int
    """From the peak to the recovery, or the last bar."""


def worst_falls(equity_T: Float, labels_T: Time, count: int = 5) -> tuple[Fall, ...]:
    """The deepest drawdowns that do not overlap, the deepest first."""
    below_T = drawdown(equity_T) < 0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], below_T, [False])).astype(np.int8)))
    falls = []
    for first, after in edges.reshape(-1, 2):
        trough = first + int(np.argmin(equity_T[first:after]))
        over = after < len(equity_T)
        falls.append(
            Fall(
                depth=float(equity_T[trough] / equity_T[first - 1] - 1),
                peak=labels_T[first - 1],
                trough=labels_T[trough],
                recovered=labels_T[after] if over else None,
                bars=int(min(after, len(equity_T) - 1) - (first - 1)),
            )
        )
    return tuple(sorted(falls, key=lambda fall: fall.depth)[:count])


def rolling(
    return_T: Float, benchmark_T: Float, window: int, periods: float, free_T: Float | None = None
) -> tuple[Float, Float, Float]:
    """(Sharpe ratio, volatility, beta) of each bar's last `window` returns; NaN before the first.

    As `metrics.sharpe`, `metrics.volatility` and `metrics.alpha_beta` of that window; NaN where it
    does not vary. free_T: risk-free return of each bar, which the Sharpe ratio is beyond; None: 0.
    """
    out = np.full((3, len(return_T)), np.nan)
    if window < 2 or len(return_T) < window:
        return out[0], out[1], out[2]
    mine = np.lib.stride_tricks.sliding_window_view(return_T, window)
    theirs = np.lib.stride_tricks.sliding_window_view(benchmark_T, window)
    mean, other = mine.mean(axis=1), theirs.mean(axis=1)
    deviation = mine.std(axis=1, ddof=1)
    spread = theirs.var(axis=1)
    together = np.einsum("tw,tw->t", mine, theirs) / window - mean * other
    if free_T is not None:
        beyond = np.lib.stride_tricks.sliding_window_view(return_T - free_T, window)
        excess, deviation_beyond = beyond.mean(axis=1), beyond.std(axis=1, ddof=1)
    else:
        excess, deviation_beyond = mean, deviation
    moves = deviation * np.sqrt(periods) > 1e-12
    out[0, window - 1 :] = np.where(moves, excess, np.nan) / np.where(moves, deviation_beyond, 1.0)
    out[0] *= np.sqrt(periods)
    out[1, window - 1 :] = deviation * np.sqrt(periods)
    varies = spread > 1e-24
    out[2, window - 1 :] = np.where(varies, together, np.nan) / np.where(varies, spread, 1.0)
    return out[0], out[1], out[2]


def rolling_window(bars: int, periods: float) -> int:
    """Half a year of bars where there are two years of them, else a quarter of what there is."""
    half = round(periods / 2)
    return half if bars >= 4 * half else max(bars // 4, 2)


def yearly(daily: pl.DataFrame) -> pl.DataFrame:
    """year, return: of each calendar year; the first and the last may be partial."""
    ends = daily.group_by(pl.col("timestamp").dt.year().alias("year"), maintain_order=True).agg(
        pl.col("equity").last()
    )
    start = float(daily["equity"][0])
    return ends.select(
        "year", (pl.col("equity") / pl.col("equity").shift(1, fill_value=start) - 1).alias("return")
    )


def monthly_profit(daily: pl.DataFrame) -> pl.DataFrame:
    """month, pnl: change of the equity in each month, in currency."""
    month = pl.col("timestamp").dt.truncate("1mo").alias("month")
    ends = daily.group_by(month, maintain_order=True).agg(pl.col("equity").last())
    start = float(daily["equity"][0])
    return ends.select(
        "month", (pl.col("equity") - pl.col("equity").shift(1, fill_value=start)).alias("pnl")
    )
