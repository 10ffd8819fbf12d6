"""Statistics of one simulation, computed while its equity is in cache. Knows an equity path alone.

Definitions are those of `backtest.figures.metrics`, which a test holds these to.
"""

from __future__ import annotations

from enum import IntEnum
from math import sqrt
from typing import Any

from numba import njit


class Total(IntEnum):
    """Sums a simulation keeps."""

    FEES = 0
    SLIPPAGE = 1
    """What fills were worse than their reference prices, impact included."""
    IMPACT = 2
    TRADED = 3
    TURNOVER = 4
    """Σ per bar of traded value / (2 · equity at the last close)."""
    INTEREST = 5
    BORROW = 6
    DIVIDENDS = 7
    ORDERS = 8
    MISSES = 9
    CALLS = 10
    FUNDING = 11
    """Paid on positions, net of what shorts received."""
    EXITS = 12
    """Fills of stops, take-profits and time exits."""
    BANDED = 13
    """Changes within the no-trade band."""
    RUIN = 14
    """Bars walked, the last included, when nothing was left; 0: never."""


N_TOTALS = 15

STATS = (
    "final_equity",
    "total_return",
    "mean",
    "deviation",
    "sharpe",
    "sortino",
    "max_drawdown",
    "longest_drawdown",
    "skew",
    "kurtosis",
    "exposure",
    "fees",
    "slippage",
    "turnover",
    "orders",
    "misses",
)
"""Columns of `many.simulate_many_nb`: mean and deviation per bar, Sharpe and Sortino annualised,
kurtosis not in excess, exposure gross (longs and shorts, over equity), turnover over the whole
walk."""
N_STATS = len(STATS)


@njit(cache=True, nogil=True, error_model="numpy")
def _return(equity_T: Any, t: int) -> float:
    return equity_T[t] / equity_T[t - 1] - 1 if equity_T[t - 1] > 0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def summarise_nb(
    equity_T: Any,
    cash_T: Any,
    short_T: Any,
    totals: Any,
    periods: float,
    out_K: Any,
    free: float = 0.0,
) -> None:
    """Fill out_K with STATS; NaN where a figure is not defined, as ratios of a ruined account.

    free: risk-free return of a bar, which Sharpe and Sortino ratios are beyond.
    """
    n = len(equity_T) - 1
    mean, below = 0.0, 0.0
    peak, deepest = equity_T[0], 0.0
    longest, spell, exposure = 0, 0, 0.0
    for t in range(1, n + 1):
        change = _return(equity_T, t)
        mean += change
        below += min(change - free, 0.0) ** 2
        peak = max(peak, equity_T[t])
        deepest = min(deepest, equity_T[t] / peak - 1)
        spell = spell + 1 if equity_T[t] < peak else 0
        longest = max(longest, spell)
        if equity_T[t] > 0:
            exposure += (equity_T[t] - cash_T[t] + 2 * short_T[t]) / equity_T[t]
    mean /= n
    m2, m3, m4 = 0.0, 0.0, 0.0
    for t in range(1, n + 1):
        off = _return(equity_T, t) - mean
        m2 += off * off
        m3 += off * off * off
        m4 += off * off * off * off
    deviation = sqrt(m2 / (n - 1)) if n > 1 else float("nan")
    ruined = totals[Total.RUIN] > 0
    defined = deviation * sqrt(periods) > 1e-12 and not ruined
    out_K[0] = equity_T[n]
    out_K[1] = equity_T[n] / equity_T[0] - 1
    out_K[2] = mean
    out_K[3] = deviation
    out_K[4] = (mean - free) / deviation * sqrt(periods) if defined else float("nan")
    risky = below > 0 and not ruined
    out_K[5] = (mean - free) / sqrt(below / n) * sqrt(periods) if risky else float("nan")
    out_K[6] = deepest
    out_K[7] = longest
    out_K[8] = m3 / n / (m2 / n) ** 1.5 if defined else float("nan")
    out_K[9] = m4 / n / (m2 / n) ** 2 if defined else float("nan")
    out_K[10] = exposure / n
    out_K[11] = totals[0]
    out_K[12] = totals[1]
    out_K[13] = totals[4]
    out_K[14] = totals[8]
    out_K[15] = totals[9]


@njit(cache=True, nogil=True, error_model="numpy")
def block_sums_nb(equity_T: Any, edge_B1: Any, out_2B: Any) -> None:
    """Sum and sum of squares of the returns of each block; return i is that of bar i + 1."""
    for b in range(len(edge_B1) - 1):
        total, squares = 0.0, 0.0
        for i in range(edge_B1[b], edge_B1[b + 1]):
            change = _return(equity_T, i + 1)
            total += change
            squares += change * change
        out_2B[0, b], out_2B[1, b] = total, squares
