"""Many settings on one history: a grid or random draws, judged on the same bars.

Knows settings, decisions and the kernels; nothing of files, pages or clusters. A plan holds plain
arrays, so that its points can be evaluated anywhere, in any pieces, with the same result. What
points share is made when it is needed: memory grows with the bars and with one piece.

Legend: C points (configurations), K statistics, B blocks of bars, D decisions, N symbols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.figures.metrics import bars_per_year
from backtest.figures.outside import Axis, Series, rates_on
from backtest.figures.overfitting import block_edges
from backtest.fills.costs import Costs
from backtest.fills.inputs import Inputs, Targets, more_of
from backtest.fills.prices import PriceTable, kernel_inputs
from backtest.fills.rules import FillPrice, Rules, configs
from backtest.fills.stats import STATS
from backtest.fills.targets import check_targets, many_targets
from backtest.fills.terms import Terms
from backtest.scores.decisions import Decisions, Signal, signal_of
from backtest.settings import BacktestSettings
from backtest.sweep_grid import SIGNAL_KEYS, Grid, Maker
from backtest.sweep_keys import refuse_unread
from backtest.weights.build import targets_of
from backtest.weights.view import Strategy, plugin_targets, strategy_named
from market.errors import ConfigError

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

_NO_TARGETS = Targets(*(np.zeros(1, np.int64),) * 4, np.zeros(1))
MOST_ENTRIES = 16_000_000
"""(decision, symbol) entries of target sets that are evaluated together: 256 MB."""


@dataclass(frozen=True)
class SweepPlan:
    """Everything to evaluate."""

    points: Grid
    order: Int
    """Places of the points as they run."""
    base: BacktestSettings
    prices: PriceTable
    signals: dict[tuple[Any, ...], Signal]
    """By the values of SIGNAL_KEYS."""
    inputs: Mapping[FillPrice, Inputs]
    """By fill price."""
    more: bool | None
    """Whether any point needs more than the plain rules, see `inputs.more_of`."""
    groups: dict[str, str] | None
    first_row: int
    last_row: int
    periods: float
    edges: Int
    span: tuple[Any, Any]
    """First and last bar label judged."""
    free: float = 0.0
    """Risk-free return of a bar."""

    def settings_at(self, point: int) -> BacktestSettings:
        """Settings of a point by its place in `points`."""
        return Maker(self.base).at(self.points[point])


def plan_sweep(
    base: BacktestSettings,
    points: Grid,
    bars: pl.DataFrame,
    *,
    forecasts: pl.DataFrame | None = None,
    scores: pl.DataFrame | None = None,
    path_stats: pl.DataFrame | None = None,
    paths: pl.LazyFrame | None = None,
    groups: dict[str, str] | None = None,
    terms: Terms | None = None,
    actions: pl.DataFrame | None = None,
    sessions_per_year: float | None = None,
    rates: Series | None = None,
    blocks: int = 16,
) -> SweepPlan:
    """Signals once per distinct value; every point on the same bars.

    The bars judged run from the latest first decision of any signal to the earliest end, so that no
    point has an easier stretch. terms, actions, sessions_per_year: see `run_backtest`. rates: of
    them the mean over these bars is what all are judged beyond. Raises ConfigError for a value out
    of range, and for keys that no point reads; combinations that do not go together are refused
    when they are evaluated.
    """
    make = Maker(base)
    singles = [make.at(point) for point in points.one_by_one()]
    source = (
        "forecasts" if forecasts is not None else "scores" if scores is not None else "momentum"
    )
    readers = [make.at(point) for point in points.readers()]
    refuse_unread(points.values, readers, source)
    on_paths = any(each.strategy.on_paths for each in readers)
    made: dict[tuple[Any, ...], Signal] = {}
    prices: PriceTable | None = None
    for point in _distinct(points, SIGNAL_KEYS):
        each = make.at(point)
        made[_signal_key(each)] = signal = signal_of(
            bars,
            each,
            prices,
            forecasts=forecasts,
            scores=scores,
            path_stats=path_stats,
            paths=paths if on_paths else None,
            actions=actions,
        )
        prices = signal.prices
    assert prices is not None
    first_row = max(int(signal.row_D[0]) for signal in made.values())
    last_row = len(prices.close_utc_T) - 1
    if base.end is not None:
        end = np.datetime64(base.end, "D")
        last_row = int(np.searchsorted(prices.sessions_T, end, side="right")) - 1
    for signal in made.values():
        if isinstance(signal, Decisions) and signal.forecasts is not None:
            last_row = min(last_row, int(signal.row_D[-1]) + signal.horizon)
    edges = block_edges(last_row - first_row, blocks)
    periods = base.periods_per_year or bars_per_year(
        prices.labels_T, prices.sessions_T, sessions_per_year=sessions_per_year
    )
    walked = slice(first_row, last_row + 1)
    axis = Axis(prices.close_utc_T[walked], prices.labels_T[walked], prices.sessions_T[walked])
    rate = base.risk_free if rates is None else float(rates_on(rates, axis).mean())
    inputs = {
        fill: kernel_inputs(
            prices, _most_costs(singles), _most_rules(singles, fill), terms=terms,
            bars_per_year=periods,
        )
        for fill in {each.rules.fill for each in singles}
    }  # fmt: skip
    every = configs([(0, s.costs, s.effective_rules, s.cash) for s in singles], periods)
    return SweepPlan(
        points=points,
        order=points.order(),
        base=base,
        prices=prices,
        signals=made,
        inputs=inputs,
        more=more_of(next(iter(inputs.values())), _NO_TARGETS, every),
        groups=groups,
        first_row=first_row,
        last_row=last_row,
        periods=periods,
        edges=edges,
        span=(prices.labels_T[first_row], prices.labels_T[last_row]),
        free=rate / periods,
    )


def evaluate(plan: SweepPlan, chosen: slice = slice(None)) -> tuple[Float, Float]:
    """Statistics (C, K) and block sums (C, 2, B) of some places of `plan.order`, in that order.

    Raises ConfigError for a point whose settings do not go together.
    """
    make = Maker(plan.base)
    stats: list[Float] = []
    blocks: list[Float] = []
    pending = _Pending()
    for point in plan.order[chosen]:
        settings = make.at(plan.points[int(point)])
        key = (_signal_key(settings), settings.strategy, settings.effective_rules.short)
        new = key not in pending.place
        full = pending.entries > MOST_ENTRIES and new
        if pending.many and (full or settings.rules.fill != pending.fill):
            _flush(plan, pending, stats, blocks)
            pending = _Pending()
            new = True
        if new:
            pending.add(key, _targets(plan, settings))
        pending.fill = settings.rules.fill
        entry = (pending.place[key], settings.costs, settings.effective_rules, settings.cash)
        pending.many.append(entry)
    if pending.many:
        _flush(plan, pending, stats, blocks)
    if not stats:
        return np.empty((0, len(STATS))), np.empty((0, 2, len(plan.edges) - 1))
    return np.concatenate(stats), np.concatenate(blocks)


@dataclass
class _Pending:
    """Points gathered until they are evaluated together."""

    place: dict[Any, int] = field(default_factory=dict)
    sets: list[Targets] = field(default_factory=list)
    many: list[tuple[int, Costs, Rules, float]] = field(default_factory=list)
    entries: int = 0
    fill: FillPrice = "open"

    def add(self, key: Any, targets: Targets) -> None:
        self.place[key] = len(self.sets)
        self.sets.append(targets)
        self.entries += len(targets.column_M)


def _flush(plan: SweepPlan, pending: _Pending, stats: list[Float], blocks: list[Float]) -> None:
    from backtest.fills.many import simulate_many_nb

    for at, short, leverage in sorted({(s, r.short, r.leverage) for s, _, r, _ in pending.many}):
        check_targets(pending.sets[at], plan.prices, Rules(short=short, leverage=leverage))
    stats_CK, block_C2B = simulate_many_nb(
        plan.inputs[pending.fill],
        many_targets(pending.sets),
        configs(pending.many, plan.periods),
        plan.first_row,
        plan.last_row,
        plan.periods,
        plan.edges,
        plan.more,
        plan.free,
    )
    stats.append(stats_CK)
    blocks.append(block_C2B)


def _targets(plan: SweepPlan, settings: BacktestSettings) -> Targets:
    signal = plan.signals[_signal_key(settings)]
    if settings.strategy.plugin is not None:
        return plugin_targets(signal, _view_strategy(settings.strategy.plugin))
    short = settings.effective_rules.short
    return targets_of(signal, settings.strategy, plan.periods, plan.groups, short=short)


def _view_strategy(plugin: str) -> Strategy:
    function = strategy_named(plugin)
    if function.__dict__.get("on_history"):
        raise ConfigError(
            f"strategy.plugin: {plugin} takes all bars at once, which a sweep cannot vary; "
            "give it a function of a view, or backtest it alone"
        )
    return function


def _distinct(points: Grid, keys: Sequence[str]) -> list[dict[str, Any]]:
    """One point for every combination of these keys."""
    named = [key for key in points.values if key.rpartition(".")[2] in keys]
    seen: dict[tuple[str, ...], dict[str, Any]] = {}
    places = np.unravel_index(points.chosen, points.sizes)
    at = [i for i, key in enumerate(points.values) if key in named]
    rows = np.stack([places[i] for i in at], axis=1) if at else np.zeros((1, 0), np.int64)
    for row in np.unique(rows, axis=0):
        point = {key: values[0] for key, values in points.values.items()}
        for i, place in zip(at, row, strict=True):
            key = list(points.values)[i]
            point[key] = points.values[key][int(place)]
        seen[tuple(map(str, row))] = point
    return list(seen.values())


def _signal_key(settings: BacktestSettings) -> tuple[Any, ...]:
    return tuple(getattr(settings, name) for name in SIGNAL_KEYS)


def _most_costs(settings: Sequence[BacktestSettings]) -> Costs:
    """Costs that need all inputs that any of these need."""
    return Costs(
        slippage_volatility=max(each.costs.slippage_volatility for each in settings),
        impact=max(each.costs.impact for each in settings),
    )


def _most_rules(settings: Sequence[BacktestSettings], fill: FillPrice) -> Rules:
    """Rules that need all inputs that any of these need."""
    return Rules(fill=fill, participation=max(each.rules.participation for each in settings))
