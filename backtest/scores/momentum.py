"""Scores by past return. Knows price tables, nothing of portfolios."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.fills.prices import PriceTable
from market.errors import BacktestInputError

Int = npt.NDArray[np.int64]


def momentum_scores(prices: PriceTable, row_D: Int, bars: int, skip: int) -> pl.DataFrame:
    """A row per name and decision that has a momentum, see `momentum_matrix`."""
    row_D = momentum_rows(prices, row_D, bars, skip)
    value_DN = momentum_matrix(prices, row_D, bars, skip)
    return _frame(prices, row_D, value_DN, np.isfinite(value_DN))


def momentum_rows(prices: PriceTable, row_D: Int, bars: int, skip: int) -> Int:
    """The decision rows with enough bars before them. Raises BacktestInputError without any."""
    if not 0 <= skip < bars:
        raise BacktestInputError(f"momentum of {bars} bars with skip {skip}: rule 0 <= skip < bars")
    row_D = row_D[row_D >= bars]
    if not len(row_D):
        raise BacktestInputError(
            f"momentum of {bars} bars needs as many before the first decision; the bars given end "
            f"{prices.sessions_T[-1]}. Load earlier bars, or choose fewer."
        )
    return row_D


def momentum_matrix(
    prices: PriceTable, row_D: Int, bars: int, skip: int
) -> npt.NDArray[np.float64]:
    """close[t − skip] / close[t − bars] − 1 at each decision row t, (D, N); reads nothing after t.

    NaN for names without a bar at t or a close at either end (Jegadeesh & Titman 1993 skip the most
    recent month: bars 252, skip 21 on daily bars).
    """
    total_TN = prices.total_marks
    value_DN = total_TN[row_D - skip] / total_TN[row_D - bars] - 1
    value_DN[~(np.isfinite(value_DN) & np.isfinite(prices.close_TN[row_D]))] = np.nan
    return value_DN


def unscored(prices: PriceTable, row_D: Int) -> pl.DataFrame:
    """A row without a score for every name with a bar at each decision row."""
    known_DN = np.isfinite(prices.close_TN[row_D])
    return _frame(prices, row_D, np.full(known_DN.shape, np.nan), known_DN)


def _frame(
    prices: PriceTable,
    row_D: Int,
    value_DN: npt.NDArray[np.float64],
    known_DN: npt.NDArray[np.bool_],
) -> pl.DataFrame:
    d, c = np.nonzero(known_DN)
    return pl.DataFrame(
        {
            "as_of": prices.close_utc_T[row_D[d]],
            "as_of_date": prices.sessions_T[row_D[d]],
            "symbol": np.array(prices.symbols)[c].tolist(),
            "score": value_DN[d, c],
            "mean": np.full(len(d), np.nan),
            "deviation": np.full(len(d), np.nan),
            "last_close": prices.close_TN[row_D[d], c],
            "flags": np.zeros(len(d), np.int32),
        }
    ).with_columns(pl.col("as_of").dt.replace_time_zone("UTC"))
