"""Caps on what a strategy wants: they only ever shrink exposure, or the move towards it.

Knows weights and what was known at each decision; nothing of scores, fills or costs.
"""

from __future__ import annotations

import numpy as np

from backtest.fills.inputs import Targets
from backtest.fills.targets import needed, one_set, starts
from backtest.weights.risk import portfolio_volatility
from backtest.weights.settings import Float, Int, Signals, StrategySettings
from market.errors import BacktestInputError


def capped(
    s: StrategySettings,
    signals: Signals,
    start_D1: Int,
    column_M: Int,
    weight_M: Float,
    bars_per_year: float,
    group_N: Int | None,
) -> Targets:
    """Entries with the position, group, volatility and turnover caps applied, in that order."""
    before_N = np.zeros(signals.score_DN.shape[1])
    columns, weights, sizes = [], [], []
    for d, row in enumerate(signals.row_D):
        span = slice(int(start_D1[d]), int(start_D1[d + 1]))
        column, weight = column_M[span], weight_M[span]
        if s.max_weight:
            weight = np.clip(weight, -s.max_weight, s.max_weight)
        if s.max_group:
            group = needed(group_N, "a group cap")[column]
            total = np.bincount(group, np.abs(weight))
            weight = weight * (s.max_group / np.maximum(total, s.max_group))[group]
        if s.volatility_target and len(column):
            if signals.window_return is None:
                raise BacktestInputError("a volatility target needs returns: signals.window_return")
            past = signals.window_return(int(row), column)
            per_bar, weight = portfolio_volatility(past, weight)
            estimate = per_bar * float(np.sqrt(bars_per_year))
            # Without an estimate nothing is known to be safe, so nothing is held.
            weight = weight * (min(1.0, s.volatility_target / estimate) if estimate > 0 else 0.0)
        if s.max_turnover and d > 0:
            wanted_N = np.zeros_like(before_N)
            wanted_N[column] = weight
            move = np.abs(wanted_N - before_N).sum() / 2
            if move > s.max_turnover:
                wanted_N = before_N + (wanted_N - before_N) * (s.max_turnover / move)
                others = np.setdiff1d(np.flatnonzero(wanted_N), column)
                column = np.concatenate((column, others))
                weight = wanted_N[column]
        before_N[:] = 0.0
        before_N[column] = weight
        columns.append(column)
        weights.append(weight)
        sizes.append(len(column))
    return one_set(
        signals.row_D,
        starts(np.array(sizes, np.int64)),
        np.concatenate([*columns, np.empty(0, np.int64)]).astype(np.int64),
        np.concatenate([*weights, np.empty(0)]),
    )
