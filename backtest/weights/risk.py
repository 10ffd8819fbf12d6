"""Volatility, beta and past returns as known at a decision's close. Knows marks alone.

Row t reads marks up to t and, whatever history is loaded before, only the window before it.
Legend: T bars, N symbols, D decisions, W bars of a window.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from backtest.fills.prices import LEAST_RETURNS

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

WINDOW = 60
"""Bars of the volatility and beta that strategies use."""


def window_returns(mark_TN: Float, row: int, column_K: Int, window: int = WINDOW) -> Float:
    """Simple returns (W, K) of the bars up to `row`; 0 where a name had no price."""
    first = max(row - window, 0)
    marks = mark_TN[first : row + 1, column_K]
    return np.nan_to_num(marks[1:] / marks[:-1] - 1)


def volatility_and_beta(mark_TN: Float, row_D: Int, window: int = WINDOW) -> tuple[Float, Float]:
    """Volatility of one bar and beta against the equal-weight market, each (D, N).

    NaN for names with fewer than LEAST_RETURNS returns in the window.
    """
    shape = (len(row_D), mark_TN.shape[1])
    volatility_DN, beta_DN = np.full(shape, np.nan), np.full(shape, np.nan)
    for d, row in enumerate(row_D):
        marks = mark_TN[max(row - window, 0) : row + 1]
        if len(marks) < 2:
            continue
        change = marks[1:] / marks[:-1] - 1
        known = np.isfinite(change)
        count_N = known.sum(axis=0)
        change = np.where(known, change, 0.0)
        market = change.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        off = market - market.mean()
        enough = count_N >= LEAST_RETURNS
        square = np.sqrt((change**2).sum(axis=0) / np.maximum(count_N, 1))
        volatility_DN[d] = np.where(enough & (square > 0), square, np.nan)
        spread = off @ off
        if spread > 0:
            beta_DN[d] = np.where(enough, off @ change / spread, np.nan)
    return volatility_DN, beta_DN
