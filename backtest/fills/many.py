"""Many configurations at once, in parallel, each reduced to its statistics while in cache.

Legend: T bars, N symbols, C configurations, K statistics, B blocks of bars.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from backtest.fills.inputs import MISS, ORDER, Inputs, Recorded, Targets
from backtest.fills.kernels import simulate_nb
from backtest.fills.stats import N_STATS, N_TOTALS, block_sums_nb, summarise_nb


@njit(cache=True, parallel=True, nogil=True, error_model="numpy")
def simulate_many_nb(
    m: Inputs,
    targets: Targets,
    configs_C: Any,
    first: int,
    last: int,
    periods: float,
    edge_B1: Any,
    more: bool | None,
    free: float = 0.0,
) -> tuple[Any, Any]:
    """Many configurations in parallel; nothing per bar is kept.

    Returns statistics (C, K) and, per block of returns edge_B1[b]:edge_B1[b + 1], their sum and sum
    of squares (C, 2, B). more: as for `simulate_nb`, None where no configuration needs more.
    free: risk-free return of a bar.
    """
    out_CK = np.empty((len(configs_C), N_STATS))
    block_C2B = np.empty((len(configs_C), 2, len(edge_B1) - 1))
    for i in prange(len(configs_C)):
        equity_T = np.empty(last - first + 1)
        cash_T, short_T = np.empty(last - first + 1), np.empty(last - first + 1)
        totals = np.zeros(N_TOTALS)
        nothing = Recorded(np.empty(0, ORDER), np.empty(0, MISS))
        simulate_nb(
            m, targets, configs_C[i], first, last, equity_T, cash_T, short_T, totals, nothing, more
        )
        summarise_nb(equity_T, cash_T, short_T, totals, periods, out_CK[i], free)
        block_sums_nb(equity_T, edge_B1, block_C2B[i])
    return out_CK, block_C2B
