"""Thresholds per symbol, each symbol with an account of its own: many settings at once.

For asking how a signal does name by name, before any portfolio. Decided at the close of bar t,
filled at the open of t + 1: all cash into the name while its score is above `enter`, until it is at
or below `leave`. Knows matrices alone.

Legend: T bars, N symbols, K settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from backtest.fills.costs import Costs
from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]
BLOCK = 64
"""Symbols walked together: a bar of a block is a run of memory, its state stays in cache."""


@dataclass(frozen=True)
class PerSymbol:
    """Figures of each account, (K, N); NaN where not defined, as without a single trade."""

    total_return_KN: Float
    sharpe_KN: Float
    max_drawdown_KN: Float
    trades_KN: Float


def thresholds_per_symbol(
    score_TN: Float,
    open_TN: Float,
    close_TN: Float,
    enter_K: Float,
    leave_K: Float,
    costs: Costs,
    *,
    bars_per_year: float,
) -> PerSymbol:
    """Run every pair of thresholds on every symbol, in parallel.

    A NaN score changes nothing; a bar without an open fills nothing, and the order is tried again
    while the score asks for it; without a close the account is carried at the last one. Of the
    costs, commission_bps and slippage_bps are read; others must be 0, since accounts hold one unit
    of currency. Raises BacktestInputError otherwise, or where leave > enter.
    """
    extra = ("commission_per_share", "min_fee", "slippage_volatility", "impact", "borrow_bps")
    for name in (*extra, "cash_rate", "debit_rate"):
        if getattr(costs, name):
            raise BacktestInputError(f"{name} {getattr(costs, name)}: must be 0 per symbol")
    if (leave_K > enter_K).any():
        k = int(np.flatnonzero(leave_K > enter_K)[0])
        raise BacktestInputError(
            f"leave {leave_K[k]:g} is above enter {enter_K[k]:g}: a name would be sold at once"
        )
    out = np.empty((4, len(enter_K), score_TN.shape[1]))
    _walk_nb(
        score_TN, open_TN, close_TN, enter_K, leave_K,
        costs.commission_bps / 10_000, costs.slippage_bps / 10_000, bars_per_year, out,
    )  # fmt: skip
    total, sharpe, deepest, trades = out
    return PerSymbol(total, sharpe, deepest, trades)


@njit(cache=True, parallel=True, nogil=True, error_model="numpy")
def _walk_nb(
    score_TN: Any,
    open_TN: Any,
    close_TN: Any,
    enter_K: Any,
    leave_K: Any,
    rate: float,
    slippage: float,
    periods: float,
    out: Any,
) -> None:
    n_bars, n = score_TN.shape
    blocks = (n + BLOCK - 1) // BLOCK
    for job in prange(len(enter_K) * blocks):
        k, first = job // blocks, job % blocks * BLOCK
        width = min(BLOCK, n - first)
        enter, leave = enter_K[k], leave_K[k]
        cash, shares, mark = np.ones(BLOCK), np.zeros(BLOCK), np.zeros(BLOCK)
        worth, peak, deepest = np.ones(BLOCK), np.ones(BLOCK), np.zeros(BLOCK)
        total, squares, trades = np.zeros(BLOCK), np.zeros(BLOCK), np.zeros(BLOCK)
        for t in range(1, n_bars):
            for i in range(width):
                score, price = score_TN[t - 1, first + i], open_TN[t, first + i]
                if shares[i] == 0:
                    if score > enter and not isnan(price):
                        shares[i] = cash[i] / (price * (1 + slippage) * (1 + rate))
                        cash[i] = 0.0
                        mark[i] = price
                        trades[i] += 1
                elif score <= leave and not isnan(price):
                    cash[i] = shares[i] * (price * (1 - slippage) * (1 - rate))
                    shares[i] = 0.0
                    trades[i] += 1
            for i in range(width):
                close = close_TN[t, first + i]
                mark[i] = mark[i] if isnan(close) else close
                now = cash[i] + shares[i] * mark[i]
                change = now / worth[i] - 1
                total[i] += change
                squares[i] += change * change
                worth[i] = now
                peak[i] = max(peak[i], now)
                deepest[i] = min(deepest[i], now / peak[i] - 1)
        bars = n_bars - 1
        for i in range(width):
            mean = total[i] / bars
            variance = (squares[i] - bars * mean * mean) / (bars - 1)
            out[0, k, first + i] = worth[i] - 1
            out[1, k, first + i] = np.nan
            if trades[i] > 0 and variance > 1e-24:
                out[1, k, first + i] = mean / sqrt(variance) * sqrt(periods)
            out[2, k, first + i] = deepest[i]
            out[3, k, first + i] = trades[i]
