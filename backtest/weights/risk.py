"""Volatility, beta and past returns as known at a decision's close. Knows returns alone.

Row t reads returns up to t and, whatever history is loaded before, only the window before it.
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


def window_returns(return_TN: Float, row: int, column_K: Int, window: int = WINDOW) -> Float:
    """Simple returns (W, K) of the bars up to `row`; NaN where a name has none."""
    return return_TN[max(row - window, 0) + 1 : row + 1, column_K]


def portfolio_volatility(past_WK: Float, weight_K: Float) -> tuple[float, Float]:
    """(volatility of one bar of the portfolio, its weights) from the returns that are known.

    A name with fewer than LEAST_RETURNS of them has no estimate: its weight becomes 0. Second
    moments are of the bars that both names of a pair know; a pair with fewer than LEAST_RETURNS in
    common counts as moving together against the holder. With every return known this is the root
    mean square of the portfolio's own returns. NaN where nothing is left.
    """
    known_WK = np.isfinite(past_WK)
    enough_K = known_WK.sum(axis=0) >= LEAST_RETURNS
    weight_K = np.where(enough_K, weight_K, 0.0)
    if not weight_K.any():
        return float("nan"), weight_K
    filled = np.where(known_WK, past_WK, 0.0)
    held = weight_K != 0
    own = (filled @ weight_K) ** 2
    if known_WK[:, held].all():
        return float(np.sqrt(np.mean(own))), weight_K
    seen, values, signed = known_WK[:, held].astype(float), filled[:, held], weight_K[held]
    count = seen.T @ seen
    deviation = np.sqrt((values**2).sum(axis=0) / seen.sum(axis=0))
    together = np.outer(deviation, deviation) * np.sign(np.outer(signed, signed))
    moment = np.where(count >= LEAST_RETURNS, values.T @ values / np.maximum(count, 1), together)
    # Pairs seen over different bars need not fit together; what was seen is the least there is.
    return float(np.sqrt(max(signed @ moment @ signed, np.mean(own)))), weight_K


def volatility_and_beta(return_TN: Float, row_D: Int, window: int = WINDOW) -> tuple[Float, Float]:
    """Volatility of one bar and beta against the equal-weight market, each (D, N).

    return_TN: simple returns, NaN where not known. NaN for names with fewer than LEAST_RETURNS
    returns in the window; beta is over the bars a name has returns of.
    """
    shape = (len(row_D), return_TN.shape[1])
    volatility_DN, beta_DN = np.full(shape, np.nan), np.full(shape, np.nan)
    for d, row in enumerate(row_D):
        change = return_TN[max(row - window, 0) + 1 : row + 1]
        if not len(change):
            continue
        known = np.isfinite(change)
        count_N = known.sum(axis=0)
        change = np.where(known, change, 0.0)
        market = change.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        enough = count_N >= LEAST_RETURNS
        square = np.sqrt((change**2).sum(axis=0) / np.maximum(count_N, 1))
        volatility_DN[d] = np.where(enough & (square > 0), square, np.nan)
        mean_N = (market @ known) / np.maximum(count_N, 1)
        off = np.where(known, market[:, None] - mean_N, 0.0)
        spread_N = (off**2).sum(axis=0)
        slope = (off * change).sum(axis=0) / np.where(spread_N > 0, spread_N, 1.0)
        beta_DN[d] = np.where(enough & (spread_N > 0), slope, np.nan)
    return volatility_DN, beta_DN
