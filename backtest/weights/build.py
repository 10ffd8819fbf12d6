"""Decisions to target weights: what a strategy may see is gathered here, then it decides.

Legend: D decisions, N symbols.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from backtest.fills.inputs import Targets
from backtest.fills.prices import known_returns
from backtest.scores.decisions import Decisions, Signal
from backtest.weights.risk import volatility_and_beta, window_returns
from backtest.weights.settings import Signals, StrategySettings
from backtest.weights.strategies import build_targets
from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


def targets_of(
    decisions: Signal,
    strategy: StrategySettings,
    periods: float,
    groups: dict[str, str] | None = None,
    *,
    short: bool = False,
    unsolved: Callable[[int, str], None] | None = None,
) -> Targets:
    """Target weights of the strategy on these decisions.

    short: kelly may go below zero. unsolved: is told the decision and why, where an optimiser
    found no weights and those before are kept.
    """
    volatility_DN = beta_DN = return_TN = None
    by_risk = strategy.weighting == "inverse_volatility" or strategy.neutral == "beta"
    if by_risk or strategy.volatility_target or strategy.optimised:
        return_TN = known_returns(decisions.prices)
        if by_risk:
            volatility_DN, beta_DN = volatility_and_beta(return_TN, decisions.row_D)
    kelly = strategy.name == "kelly"
    signals = Signals(
        row_D=decisions.row_D,
        score_DN=decisions.matrix("score"),
        volatility_DN=volatility_DN,
        beta_DN=beta_DN,
        mean_DN=decisions.matrix("mean") if kelly else None,
        deviation_DN=_deviations(decisions) if kelly else None,
        window_return=None if return_TN is None else partial(window_returns, return_TN),
        path_return=_path_returns(decisions) if strategy.on_paths else None,
        short=short,
    )
    if unsolved is not None:
        signals = replace(signals, unsolved=unsolved)
    return build_targets(
        strategy,
        signals,
        bars_per_year=periods,
        group_N=_group_numbers(strategy, decisions, groups),
    )


def _deviations(decisions: Signal) -> Float:
    deviation_DN = decisions.matrix("deviation")
    if not np.isfinite(deviation_DN).any():
        raise BacktestInputError(
            "Kelly weights need the mean and deviation of a path distribution: use --forecasts "
            "with the column close_std"
        )
    return deviation_DN


def _path_returns(decisions: Signal) -> Callable[[int, Int], Float]:
    """Returns (P, names) of the paths of a decision, in the order of the paths."""
    if not isinstance(decisions, Decisions) or decisions.paths is None:
        raise BacktestInputError(
            "sample paths as scenarios: these scores have none; give forecasts made with "
            "keep_paths, or set scenarios to past"
        )
    row_M, column_M = decisions.path_places()
    value_M = decisions.paths["returns"]
    at = {place: m for m, place in enumerate(zip(row_M.tolist(), column_M.tolist(), strict=True))}

    def read(d: int, column_K: Int) -> Float:
        row = int(decisions.row_D[d])
        lost = [c for c in column_K.tolist() if (row, c) not in at]
        if lost:
            raise BacktestInputError(
                f"{decisions.prices.symbols[lost[0]]}: no sample paths as of "
                f"{decisions.prices.sessions_T[row]} (rule: every forecast keeps its paths); "
                "forecast again with keep_paths, or set scenarios to past"
            )
        paths = [value_M[at[row, c]].to_numpy() for c in column_K.tolist()]
        if len({len(each) for each in paths}) > 1:
            raise BacktestInputError(
                f"forecasts as of {decisions.prices.sessions_T[row]} differ in their number of "
                "paths (rule: scenarios are as many for every name)"
            )
        return np.array(paths, np.float64).reshape(len(paths), -1).T

    return read


def _group_numbers(
    strategy: StrategySettings, decisions: Signal, groups: dict[str, str] | None
) -> Int | None:
    if groups is None:
        if strategy.max_group:
            raise BacktestInputError(
                "max_group needs the group of every symbol: give --groups, a CSV file of "
                "symbol and group"
            )
        return None
    missing = [symbol for symbol in decisions.prices.symbols if symbol not in groups]
    if missing:
        raise BacktestInputError(
            f"{missing[0]}: has no group, and {len(missing) - 1} more have none (rule: max_group "
            "needs the group of every symbol)"
        )
    labels = np.array([groups[symbol] for symbol in decisions.prices.symbols])
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)
