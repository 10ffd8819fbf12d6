"""Whole bars from sampled returns and the shapes of bars that were. Knows arrays alone.

A bar is taken apart in logs, so that bars put together again obey the rules of a bar by
construction: gap from the close before to the open, return from close to close, and the wicks
beyond open and close.

Legend: N donor bars, S paths, H horizon, F features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from forecaster.interface import CLOSE

Array = npt.NDArray[np.float64]
Int = npt.NDArray[np.integer]


class Donors(NamedTuple):
    """The lookback's bars behind its first, each relative to the close before."""

    return_N: Array
    gap_N: Array
    up_N: Array
    """Upper wick, >= 0."""
    down_N: Array
    """Lower wick, >= 0."""
    rest_N2: Array
    """Volume and amount."""
    last_close: float


def donors(window_LF: Array) -> Donors:
    """Every bar but the first of a window, (L - 1) of them."""
    log = np.log(window_LF[:, :4])
    open_, high, low, close = log[1:].T
    before = log[:-1, CLOSE]
    return Donors(
        return_N=close - before,
        gap_N=open_ - before,
        up_N=np.maximum(high - np.maximum(open_, close), 0.0),
        down_N=np.maximum(np.minimum(open_, close) - low, 0.0),
        rest_N2=window_LF[1:, 4:],
        last_close=float(window_LF[-1, CLOSE]),
    )


def whole_bars(
    parts: Donors, donor_SH: Int, return_SH: Array, scale_SH: Array | float = 1.0
) -> Array:
    """Bars (S, H, F) in price units whose closes follow the given log returns.

    donor_SH: which bar lends its gap, wicks, volume and amount. scale_SH: what gap and wicks are
    multiplied by, where volatility is another than on the donor's day.
    """
    close = np.cumsum(return_SH, axis=1)
    before = close - return_SH
    open_ = before + parts.gap_N[donor_SH] * scale_SH
    high = np.maximum(open_, close) + parts.up_N[donor_SH] * scale_SH
    low = np.minimum(open_, close) - parts.down_N[donor_SH] * scale_SH
    prices = parts.last_close * np.exp(np.stack((open_, high, low, close), axis=-1))
    return np.concatenate((prices, parts.rest_N2[donor_SH]), axis=-1)
