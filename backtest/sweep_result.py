"""What the points of a sweep earned, and what choosing among them is worth. Knows figures alone.

Legend: C points (configurations), K statistics, B blocks of bars.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.figures.overfitting import (
    Overfitting,
    deflated_sharpe,
    distinct,
    probability_of_overfitting,
    walk_forward_sharpe,
)
from backtest.fills.stats import STATS
from backtest.sweep import SweepPlan
from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SweepResult:
    """What the points earned, and what choosing among them is worth."""

    table: pl.DataFrame
    """One row per point, in the plan's order: what varied, then backtest.fills.stats.STATS."""
    varied: tuple[str, ...]
    best: int
    """Row with the highest Sharpe ratio."""
    trials: int
    """Points that differ and traded, and those tried before."""
    identical: int
    """Points whose returns are those of an earlier point: no trials of their own."""
    idle: int
    """Points that never held anything: no trials either."""
    sharpe_variance: float
    """Of the per-bar Sharpe ratios across the points."""
    deflated_sharpe: float
    """Of the best, for this many trials with this variance."""
    overfitting: Overfitting
    """Among the points that are trials; NaN with fewer than two."""
    walk_forward_sharpe: float
    """Annualised: always trading the point that was best in all blocks before."""


def collect(
    plan: SweepPlan, stats: Float, blocks: Float, *, earlier_trials: int = 0
) -> SweepResult:
    """One result from what `evaluate` said of all places."""
    n = len(plan.points)
    stats_CK, block_C2B = np.empty_like(stats), np.empty_like(blocks)
    stats_CK[plan.order], block_C2B[plan.order] = stats, blocks
    count_B = np.diff(plan.edges).astype(np.float64)
    sum_BC, square_BC = block_C2B[:, 0].T, block_C2B[:, 1].T
    figure = dict(zip(STATS, stats_CK.T, strict=True))
    varied = tuple(plan.points.values)
    table = plan.points.columns().with_columns(
        pl.Series(name, values) for name, values in figure.items()
    )
    sharpe_C = figure["sharpe"]
    known = np.isfinite(sharpe_C)
    trial_C, idle_C = distinct(sum_BC, square_BC)
    sum_BC, square_BC = sum_BC[:, trial_C], square_BC[:, trial_C]
    if plan.free:  # all choosing is by what is earned beyond it
        square_BC = square_BC - plan.free * (2 * sum_BC - plan.free * count_B[:, None])
        sum_BC = sum_BC - plan.free * count_B[:, None]
    apart = np.zeros(n, np.bool_)
    apart[trial_C] = True
    apart &= known
    if not known.any():
        raise BacktestInputError("no point of the sweep traded: every Sharpe ratio is undefined")
    best = int(np.nanargmax(sharpe_C))
    variance = (
        float(np.var(sharpe_C[apart] / plan.periods**0.5, ddof=1)) if apart.sum() > 1 else 0.0
    )
    trials = len(trial_C) + earlier_trials
    ahead, _ = walk_forward_sharpe(count_B, sum_BC, square_BC)
    return SweepResult(
        table=table,
        varied=varied,
        best=best,
        trials=trials,
        identical=n - len(trial_C) - int(idle_C.sum()),
        idle=int(idle_C.sum()),
        sharpe_variance=variance,
        deflated_sharpe=deflated_sharpe(
            float(sharpe_C[best]) / plan.periods**0.5,
            int(plan.edges[-1]),
            trials,
            variance=variance,
            skew=float(figure["skew"][best]),
            kurtosis=float(figure["kurtosis"][best]),
        ),
        overfitting=(
            probability_of_overfitting(count_B, sum_BC, square_BC)
            if len(trial_C) > 1
            else Overfitting(float("nan"), np.empty(0), 0)
        ),
        walk_forward_sharpe=ahead * plan.periods**0.5,
    )
