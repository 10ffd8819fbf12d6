"""Many settings on one history: a grid or random draws, judged on the same bars.

Knows settings, decisions and the kernels; nothing of files, pages or clusters. A plan holds plain
arrays, so that its configurations can be evaluated anywhere, in any chunks, with the same result.

Legend: C configurations, K statistics, B blocks of bars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.figures.metrics import bars_per_year
from backtest.figures.outside import Axis, Series, rates_on
from backtest.figures.overfitting import (
    Overfitting,
    block_edges,
    deflated_sharpe,
    distinct,
    probability_of_overfitting,
    walk_forward_sharpe,
)
from backtest.fills.costs import Costs
from backtest.fills.inputs import Inputs, Targets, more_of
from backtest.fills.rules import Rules, configs
from backtest.fills.simulate import shared_inputs
from backtest.fills.stats import STATS
from backtest.fills.targets import many_targets
from backtest.fills.terms import Terms
from backtest.scores.decisions import Decisions, decide
from backtest.settings import BacktestSettings
from backtest.sweep_keys import refuse_unread
from backtest.weights.build import targets_of
from backtest.weights.settings import StrategySettings
from backtest.weights.view import Strategy, plugin_targets, strategy_named
from market.errors import BacktestInputError, ConfigError
from market.settings import overlay, place

Float = npt.NDArray[np.float64]
Point = dict[str, Any]

SIGNAL_KEYS = ("score", "momentum", "momentum_skip", "horizon", "rebalance")
STRATEGY_KEYS = ("strategy", *(name for name in StrategySettings.model_fields if name != "name"))
ENGINE_KEYS = ("cash", *Costs.model_fields, *Rules.model_fields)
KEYS = (*SIGNAL_KEYS, *STRATEGY_KEYS, *ENGINE_KEYS)
"""Settings a sweep may vary; with or without the names of their groups."""


@dataclass(frozen=True)
class Part:
    """Configurations that share a fill price, as the kernels read them."""

    at: npt.NDArray[np.int64]
    """Their places among the points."""
    inputs: Inputs
    targets: Targets
    configs: npt.NDArray[np.void]


@dataclass(frozen=True)
class SweepPlan:
    """Everything to evaluate."""

    points: tuple[Point, ...]
    settings: tuple[BacktestSettings, ...]
    parts: tuple[Part, ...]
    first_row: int
    last_row: int
    periods: float
    edges: npt.NDArray[np.int64]
    span: tuple[Any, Any]
    """First and last bar label judged."""
    free: float = 0.0
    """Risk-free return of a bar."""


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


def expand(grid: Mapping[str, Sequence[Any]], samples: int = 0, seed: int = 0) -> list[Point]:
    """Every combination of the grid, or `samples` different random ones in a fixed order."""
    for key, values in grid.items():
        path = place(BacktestSettings, key)
        if path is None or (path[-1] if len(path) > 1 else key) not in KEYS:
            raise ConfigError(f"grid: {key}: a sweep cannot vary it; it can vary {', '.join(KEYS)}")
        if not values:
            raise ConfigError(f"grid: {key}: no value to try")
    sizes = [len(values) for values in grid.values()]
    total = int(np.prod(sizes, dtype=np.int64)) if sizes else 0
    if total < 2:
        raise ConfigError("grid: a sweep needs at least two combinations")
    if not samples or samples >= total:
        return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    rng = np.random.default_rng(seed)
    chosen: dict[int, None] = {}
    while len(chosen) < samples:
        chosen[int(rng.integers(total))] = None
    places = [np.unravel_index(number, sizes) for number in chosen]
    return [
        {key: values[int(i)] for (key, values), i in zip(grid.items(), place, strict=True)}
        for place in places
    ]


def plan_sweep(
    base: BacktestSettings,
    points: Sequence[Point],
    bars: pl.DataFrame,
    *,
    forecasts: pl.DataFrame | None = None,
    scores: pl.DataFrame | None = None,
    path_stats: pl.DataFrame | None = None,
    groups: dict[str, str] | None = None,
    terms: Terms | None = None,
    actions: pl.DataFrame | None = None,
    sessions_per_year: float | None = None,
    rates: Series | None = None,
    blocks: int = 16,
) -> SweepPlan:
    """Decisions and targets once per distinct signal and strategy; every point on the same bars.

    The bars judged run from the latest first decision of any signal to the earliest end, so that no
    point has an easier stretch. terms, actions, sessions_per_year: see `run_backtest`. rates: of
    them the mean over these bars is what all are judged beyond. Raises ConfigError for a point
    whose settings do not go together, and for keys that no point reads.
    """
    settings = tuple(_at(base, point) for point in points)
    source = (
        "forecasts" if forecasts is not None else "scores" if scores is not None else "momentum"
    )
    refuse_unread(points, settings, source)
    made: dict[tuple[Any, ...], Decisions] = {}
    for each in settings:
        key = _signal_key(each)
        if key not in made:
            made[key] = decide(
                bars,
                each,
                forecasts=forecasts,
                scores=scores,
                path_stats=path_stats,
                actions=actions,
            )
    prices = next(iter(made.values())).prices
    first_row = max(int(decisions.row_D[0]) for decisions in made.values())
    last_row = len(prices.close_utc_T) - 1
    if base.end is not None:
        end = np.datetime64(base.end, "D")
        last_row = int(np.searchsorted(prices.sessions_T, end, side="right")) - 1
    if forecasts is not None:
        ends = [int(decisions.row_D[-1]) + decisions.horizon for decisions in made.values()]
        last_row = min(last_row, *ends)
    edges = block_edges(last_row - first_row, blocks)
    periods = base.periods_per_year or bars_per_year(
        prices.labels_T, prices.sessions_T, sessions_per_year=sessions_per_year
    )

    walked = slice(first_row, last_row + 1)
    axis = Axis(prices.close_utc_T[walked], prices.labels_T[walked], prices.sessions_T[walked])
    rate = base.risk_free if rates is None else float(rates_on(rates, axis).mean())
    free = rate / periods

    place: dict[tuple[Any, ...], int] = {}
    sets: list[Targets] = []
    set_at = []
    for each in settings:
        key = _targets_key(each)
        if key not in place:
            place[key] = len(sets)
            signal = made[_signal_key(each)]
            short = each.effective_rules.short
            plugin = each.strategy.plugin
            if plugin is not None:
                sets.append(plugin_targets(signal, _view_strategy(plugin)))
            else:
                sets.append(targets_of(signal, each.strategy, periods, groups, short=short))
        set_at.append(place[key])
    targets = many_targets(sets)
    parts = []
    for fill in sorted({each.rules.fill for each in settings}):
        at = np.array([i for i, each in enumerate(settings) if each.rules.fill == fill], np.int64)
        many = [
            (set_at[i], settings[i].costs, settings[i].effective_rules, settings[i].cash)
            for i in at
        ]
        inputs = shared_inputs(targets, prices, many, terms=terms, bars_per_year=periods)
        parts.append(Part(at, inputs, targets, configs(many, periods)))
    span = (prices.labels_T[first_row], prices.labels_T[last_row])
    return SweepPlan(
        tuple(points), settings, tuple(parts), first_row, last_row, periods, edges, span, free
    )


def _view_strategy(plugin: str) -> Strategy:
    function = strategy_named(plugin)
    if function.__dict__.get("on_history"):
        raise ConfigError(
            f"strategy.plugin: {plugin} takes all bars at once, which a sweep cannot vary; "
            "give it a function of a view, or backtest it alone"
        )
    return function


def evaluate(plan: SweepPlan, part: Part, chosen: slice = slice(None)) -> tuple[Float, Float]:
    """Statistics (C, K) and block sums (C, 2, B) of some of a part's configurations."""
    from backtest.fills.many import simulate_many_nb

    stats_CK, block_C2B = simulate_many_nb(
        part.inputs,
        part.targets,
        part.configs[chosen],
        plan.first_row,
        plan.last_row,
        plan.periods,
        plan.edges,
        more_of(part.inputs, part.targets, part.configs),
        plan.free,
    )
    return stats_CK, block_C2B


def collect(
    plan: SweepPlan, evaluated: Sequence[tuple[Float, Float]], *, earlier_trials: int = 0
) -> SweepResult:
    """One result from the evaluated parts, in the order of `plan.parts`."""
    n = len(plan.points)
    stats_CK = np.empty((n, len(STATS)))
    block_C2B = np.empty((n, 2, len(plan.edges) - 1))
    for part, (stats, sums) in zip(plan.parts, evaluated, strict=True):
        stats_CK[part.at], block_C2B[part.at] = stats, sums
    count_B = np.diff(plan.edges).astype(np.float64)
    sum_BC, square_BC = block_C2B[:, 0].T, block_C2B[:, 1].T
    figure = dict(zip(STATS, stats_CK.T, strict=True))
    varied = tuple(plan.points[0])
    table = pl.DataFrame(
        {key: [point[key] for point in plan.points] for key in varied}, strict=False
    ).with_columns(pl.Series(name, values) for name, values in figure.items())
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


def _at(base: BacktestSettings, point: Point) -> BacktestSettings:
    """The base with a point's settings; validated again, since a point may hold any value."""
    shared = base.model_dump(include=set(BacktestSettings.model_fields))
    try:
        return BacktestSettings.model_validate(overlay(BacktestSettings, shared, point))
    except ValueError as error:
        words = ", ".join(f"{name} {value}" for name, value in point.items())
        raise ConfigError(f"grid: {error} (at {words})") from error


def _signal_key(settings: BacktestSettings) -> tuple[Any, ...]:
    return tuple(getattr(settings, name) for name in SIGNAL_KEYS)


def _targets_key(settings: BacktestSettings) -> tuple[Any, ...]:
    return (*_signal_key(settings), settings.strategy, settings.effective_rules.short)
