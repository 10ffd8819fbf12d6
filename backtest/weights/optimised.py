"""Weights that skfolio finds: minimum variance, hierarchical risk parity, mean–CVaR.

Knows scores and scenarios of returns; skfolio (the extra of that name) is imported when it is asked
for. The names are the k best scored; how much of each follows from scenarios known at the close.

Legend: D decisions, K names chosen, W bars of a return window, P sample paths, S scenarios.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from backtest.fills.targets import starts
from backtest.weights.selection import best_nb
from backtest.weights.settings import Float, Int, Signals, StrategySettings
from market.errors import BacktestInputError, ConfigError

LEAST_SCENARIOS = 20
"""Bars on which all names chosen must have returns."""
CVAR_LEVEL = 0.95


def optimised(s: StrategySettings, signals: Signals) -> tuple[Int, Int, Float]:
    """(start_D1, column_M, weight_M): weights ≥ 0, at most max_weight, that add to gross.

    Names that know less than half of the window are left out. Where max_weight leaves no room for
    gross, each gets max_weight. A decision without a solution keeps the weights of the one before,
    and `signals.unsolved` hears of it. Raises ConfigError without skfolio, BacktestInputError where
    scenarios are to be paths and there are none.
    """
    _require()
    start_D1, column_M = best_nb(signals.score_DN, np.full(len(signals.row_D), s.k, np.int64))
    columns: list[Int] = [np.empty(0, np.int64)]
    weights: list[Float] = [np.empty(0)]
    for d in range(len(signals.row_D)):
        column_K = column_M[start_D1[d] : start_D1[d + 1]]
        if not len(column_K):
            columns.append(column_K)
            weights.append(np.empty(0))
            continue
        column_K, scenario_SK = _scenarios(s, signals, d, column_K)
        try:
            weight_K = _solve(s, scenario_SK)
        except _UnsolvedError as why:
            signals.unsolved(d, str(why))
            column_K, weight_K = columns[-1], weights[-1]
        columns.append(column_K)
        weights.append(weight_K)
    sizes = np.array([len(each) for each in columns[1:]], np.int64)
    return starts(sizes), np.concatenate(columns), np.concatenate(weights)


def joined(path_PK: Float, past_WK: Float) -> Float:
    """Sample paths of names forecast apart, (P, K), side by side as the names moved in the past.

    Each column keeps its values: they are put in the order of the past returns' ranks (the Schaake
    shuffle, Clark et al. 2004), the last rows of past_WK, repeated where there are fewer than
    paths; within a repeated row the paths keep their own order, which is that of chance.
    """
    place_P = np.arange(len(path_PK)) % len(past_WK)
    template_PK = past_WK[::-1][place_P]
    out = np.empty_like(path_PK)
    for k in range(path_PK.shape[1]):
        order = np.lexsort((path_PK[:, k], template_PK[:, k]))
        out[order, k] = np.sort(path_PK[:, k])
    return out


class _UnsolvedError(Exception):
    """No weights follow from these scenarios."""


def _scenarios(s: StrategySettings, signals: Signals, d: int, column_K: Int) -> tuple[Int, Float]:
    """The names that have scenarios, and these (S, K)."""
    past_of = signals.window_return
    if past_of is None:
        raise BacktestInputError(f"{s.name} needs past returns: signals.window_return")
    past_WK = past_of(int(signals.row_D[d]), column_K)
    known_WK = np.isfinite(past_WK)
    enough_K = known_WK.sum(axis=0) * 2 >= max(len(past_WK), LEAST_SCENARIOS)
    column_K, past_WK = column_K[enough_K], past_WK[:, enough_K]
    past_SK = past_WK[np.isfinite(past_WK).all(axis=1)]
    if not s.on_paths:
        return column_K, past_SK
    if signals.path_return is None:
        raise BacktestInputError(f"{s.name} needs sample paths: signals.path_return")
    if len(past_SK) < LEAST_SCENARIOS or not len(column_K):
        return column_K, past_SK
    path_PK = signals.path_return(d, column_K)
    if len(path_PK) < LEAST_SCENARIOS:
        raise BacktestInputError(
            f"{s.name} weighs sample paths, and forecasts have {len(path_PK)} (rule: "
            f"{LEAST_SCENARIOS} or more); forecast more paths, or set scenarios to past"
        )
    return column_K, joined(path_PK, past_SK)


def _solve(s: StrategySettings, scenario_SK: Float) -> Float:
    """Weights of the names, which add to gross as far as max_weight lets them."""
    count = scenario_SK.shape[1]
    if not count or len(scenario_SK) < LEAST_SCENARIOS:
        raise _UnsolvedError(
            f"fewer than {LEAST_SCENARIOS} bars on which the names all have returns"
        )
    most = s.max_weight / s.gross if s.max_weight else 1.0
    if most * count <= 1.0 + 1e-9:
        return np.full(count, min(most, 1.0 / count) * s.gross)
    if (scenario_SK.std(axis=0) == 0).any():
        raise _UnsolvedError("a name that did not move")
    # No weight depends on the unit of returns; the solver's tolerance does.
    scenario_SK = scenario_SK / scenario_SK.std()
    from skfolio.exceptions import SkfolioError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found_K = np.asarray(_model(s, min(most, 1.0)).fit(scenario_SK).weights_, np.float64)
    except (SkfolioError, ArithmeticError, ValueError) as error:
        raise _UnsolvedError(str(error).partition("\n")[0] or type(error).__name__) from error
    if not np.isfinite(found_K).all() or found_K.sum() <= 0:
        raise _UnsolvedError("the solver's weights are not numbers")
    # Solvers stop within a tolerance of their limits; accounts know none.
    weight_K = np.clip(found_K, 0.0, most)
    scaled_K: Float = np.minimum(weight_K * (s.gross / weight_K.sum()), most * s.gross)
    return scaled_K


def _model(s: StrategySettings, most: float) -> Any:
    from skfolio import RiskMeasure
    from skfolio.moments import LedoitWolf
    from skfolio.optimization import HierarchicalRiskParity, MeanRisk, ObjectiveFunction
    from skfolio.prior import EmpiricalPrior

    shrunk = EmpiricalPrior(covariance_estimator=LedoitWolf())
    if s.name == "hrp":
        return HierarchicalRiskParity(prior_estimator=shrunk, max_weights=most)
    if s.name == "min_variance":
        return MeanRisk(prior_estimator=shrunk, max_weights=most)
    return MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
        risk_measure=RiskMeasure.CVAR,
        cvar_beta=CVAR_LEVEL,
        risk_aversion=s.risk_aversion,
        max_weights=most,
    )


def _require() -> None:
    try:
        import skfolio  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "strategy: min_variance, hrp and cvar are skfolio's, which is not installed: "
            "pip install 'candlecast[skfolio]'"
        ) from error
