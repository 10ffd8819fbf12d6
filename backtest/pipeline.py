"""Scores and bars to a backtest with its benchmarks. Knows the rooms beside it; stores nothing.

Legend: T bars, N symbols, D decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.figures.fans import fan_charts
from backtest.figures.ic import overlap, rank_ic
from backtest.figures.metrics import bars_per_year
from backtest.figures.noise import sampling_noise
from backtest.figures.outside import Judging, Series, judging_on
from backtest.figures.ranking import ic_decay, quantile_returns
from backtest.figures.summary import summarise_book
from backtest.figures.trades import trade_figures, trades_of
from backtest.figures.widths import interval_widths
from backtest.fills.inputs import Targets
from backtest.fills.qlib_book import simulate_qlib
from backtest.fills.simulate import simulate
from backtest.fills.simulation import Simulation
from backtest.fills.terms import Terms
from backtest.outcomes import (
    held_nothing,
    in_sample_spans,
    kept_weights,
    picks_above_median,
    with_outcomes,
)
from backtest.report.caveats import caveats, judged_by, suspected
from backtest.results import BacktestResult, Book
from backtest.scores.brought import Kind
from backtest.scores.decisions import Decisions, decide
from backtest.settings import BacktestSettings
from backtest.weights.build import targets_of
from backtest.weights.strategies import equal_weight
from backtest.weights.view import history_weights, plugin_targets, strategy_named
from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

TITLES = {
    "topk": "Top-k",
    "dropout": "Top-k dropout",
    "longshort": "Long-short",
    "threshold": "Threshold",
    "kelly": "Kelly",
    "min_variance": "Minimum variance",
    "hrp": "Hierarchical risk parity",
    "cvar": "Mean–CVaR",
}


def run_backtest(
    bars: pl.DataFrame,
    forecasts: pl.DataFrame | None,
    settings: BacktestSettings,
    *,
    scores: pl.DataFrame | None = None,
    path_stats: pl.DataFrame | None = None,
    paths: pl.LazyFrame | None = None,
    groups: dict[str, str] | None = None,
    weights: pl.DataFrame | None = None,
    orders: pl.DataFrame | None = None,
    signals: pl.DataFrame | None = None,
    terms: Terms | None = None,
    actions: pl.DataFrame | None = None,
    sessions_per_year: float | None = None,
    benchmark: Series | None = None,
    rates: Series | None = None,
    provenance: Mapping[str, str] | None = None,
) -> BacktestResult:
    """Trade one source of scores and two benchmarks under the same costs.

    bars: the lake's rows (at least backtest.fills.prices.BAR_COLUMNS) of *all* symbols of the
    venue, from some time before the first decision: they are the bar axis and tell which names were
    delisted. forecasts: rows of the forecast table (at least
    backtest.scores.forecasts.FORECAST_COLUMNS); or None with `scores` (see
    backtest.scores.own.user_scores) or `settings.momentum`. path_stats: the table's path
    statistics, for the score expected_drawdown; paths: its kept paths, for scenarios. weights,
    orders, signals: instead of scores, see `backtest.scores.brought`; no strategy is asked then.
    groups: group of each symbol, for max_group.
    terms: what differs from symbol to symbol (boards, fees, borrow). actions: splits and dividends
    of raw prices, see `PriceTable.with_actions`. sessions_per_year: of the venue's calendar, for
    annualised figures; None: see `figures.metrics.bars_per_year`.
    benchmark: levels of a series from outside to judge against; rates: yearly risk-free rates,
    instead of `settings.risk_free`; see `figures.outside`.
    provenance: words on where all came from, printed on the tear sheet.

    The book starts in cash at the close of the first decision and ends at `settings.end`, with the
    bars, or, for forecasts, `horizon` bars after the last one. Raises BacktestInputError naming
    symbol and date where scores leak, repeat, or do not fit the bars.
    """
    plugin = settings.strategy.plugin
    if plugin is not None and (function := strategy_named(plugin)).__dict__.get("on_history"):
        weights = history_weights(bars, function)
    brought = _one_of(settings, weights=weights, orders=orders, signals=signals)
    made = decide(
        bars, settings, forecasts=forecasts, scores=scores, path_stats=path_stats,
        paths=paths if settings.strategy.on_paths else None, actions=actions, brought=brought,
    )  # fmt: skip
    prices, row_D = made.prices, made.row_D
    first_row, last_row = _span(made, settings)
    periods = settings.periods_per_year or bars_per_year(
        prices.labels_T, prices.sessions_T, sessions_per_year=sessions_per_year
    )
    targets, title, unsolved = _plan(made, settings, periods, groups)
    forecast_DN = np.isfinite(made.matrix("last_close"))
    if made.brought is not None and len(made.brought.unit_M):
        # Orders name few symbols at a time; the benchmarks hold all that trade.
        forecast_DN = np.isfinite(prices.close_TN[row_D])
    span = (first_row, last_row)
    judging = judging_on(prices, span, periods, settings.risk_free, benchmark, rates)
    books = _books(made, settings, {title: targets}, forecast_DN, span, judging, terms)

    judged = with_outcomes(made, targets, last_row)
    in_sample = judged.filter("in_sample").select("as_of", "as_of_date").unique().sort("as_of")
    strategy_book = books[title]
    trades = trades_of(strategy_book.simulation, prices)
    rows = made.forecasts
    drawn = settings.fan_symbols
    return BacktestResult(
        settings=settings,
        model_id=made.source,
        run_ids=() if rows is None else tuple(sorted(rows["run_id"].unique())),
        n_paths=() if rows is None else tuple(rows["n_paths"].unique().sort()),
        horizon=made.horizon,
        periods_per_year=periods,
        strategy=strategy_book,
        equal_weight=books["Equal weight"],
        buy_and_hold=books["Buy & hold"],
        scores=judged,
        ic=rank_ic(judged, overlap(row_D, made.horizon)),
        picks_above_median=picks_above_median(judged),
        fans=()
        if rows is None
        else fan_charts(rows, judged, prices, drawn, made.horizon, last_row),
        widths=() if rows is None else interval_widths(rows, judged, made.horizon),
        in_sample_dates=tuple(str(day) for day in in_sample["as_of_date"]),
        in_sample_spans=in_sample_spans(judged, prices, row_D, last_row),
        caveats=_caveats(made, bars, actions, settings, strategy_book, judged, judging, targets)
        + kept_weights(unsolved, made),
        provenance=dict(provenance or {}),
        prices=prices,
        trades=trades,
        trade_figures=trade_figures(trades),
        quantiles=quantile_returns(judged),
        decay=ic_decay(made.matrix("score"), row_D, prices.total_marks, last_row),
        groups=dict(groups or {}),
        noise=sampling_noise(rows, made.horizon) if rows is not None else None,
        rate_T=judging.rate_T,
        rates=None if rates is None else rates.name,
        outside=_outside(strategy_book, judging),
    )


def _caveats(
    made: Decisions,
    bars: pl.DataFrame,
    actions: pl.DataFrame | None,
    settings: BacktestSettings,
    strategy: Book,
    judged: pl.DataFrame,
    judging: Judging,
    targets: Targets,
) -> tuple[str, ...]:
    first_row, last_row = _span(made, settings)
    return (
        *suspected(bars, actions),
        *judged_by(judging.against, made.prices.labels_T[first_row : last_row + 1]),
        *caveats(
            made.forecasts,
            judged,
            made.prices,
            settings,
            strategy,
            made.horizon,
            last_row,
            held_nothing=held_nothing(made, targets),
            left_out=made.left_out,
        ),
    )


def _plan(
    made: Decisions, settings: BacktestSettings, periods: float, groups: dict[str, str] | None
) -> tuple[Targets, str, dict[int, str]]:
    """What the strategy wants on every decision, what to call it, and the decisions that no
    weights were found for, with why."""
    if made.brought is not None:
        return made.brought, made.source.capitalize(), {}
    plugin = settings.strategy.plugin
    if plugin is not None:
        return plugin_targets(made, strategy_named(plugin)), plugin.rpartition(":")[2], {}
    short = settings.effective_rules.short
    unsolved: dict[int, str] = {}
    targets = targets_of(
        made, settings.strategy, periods, groups, short=short, unsolved=unsolved.__setitem__
    )
    return targets, TITLES[settings.strategy.name], unsolved


def _books(
    made: Decisions,
    settings: BacktestSettings,
    strategy: Mapping[str, Targets],
    forecast_DN: npt.NDArray[np.bool_],
    span: tuple[int, int],
    judging: Judging,
    terms: Terms | None,
) -> dict[str, Book]:
    """The benchmarks, which have no exits, and the strategy, by name.

    forecast_DN: names the benchmarks hold. span: first and last row.
    """
    rules = settings.effective_rules
    held = rules.model_copy(
        update={"stop_loss": 0.0, "trailing_stop": 0.0, "take_profit": 0.0, "max_bars": 0}
    )
    plans = {
        "Equal weight": equal_weight(made.row_D, forecast_DN),
        "Buy & hold": equal_weight(made.row_D[:1], forecast_DN[:1]),
        **strategy,
    }
    books: dict[str, Book] = {}
    for name, plan in plans.items():
        if settings.compat == "qlib" and name in strategy:
            simulation = simulate_qlib(
                made.matrix("score"), made.row_D, made.prices, settings.costs, rules,
                topk=settings.strategy.k, n_drop=settings.strategy.n_drop, cash=settings.cash,
                first_row=span[0], last_row=span[1],
            )  # fmt: skip
        else:
            simulation = simulate(
                plan,
                made.prices,
                settings.costs,
                rules if name in strategy else held,
                cash=settings.cash,
                first_row=span[0],
                last_row=span[1],
                bars_per_year=judging.periods,
                compat="none" if settings.compat == "qlib" else settings.compat,
                terms=terms,
            )
        equal_T = books["Equal weight"].daily["equity"].to_numpy() if books else None
        tried = (settings.trials, settings.trials_variance) if name in strategy else (1, None)
        books[name] = _book(name, simulation, judging, equal_T, tried)
    return books


def _outside(strategy: Book, judging: Judging) -> Book | None:
    """A benchmark as the account that holds it from the first bar, without costs."""
    against = judging.against
    if against is None:
        return None
    daily = strategy.daily
    level_T = against.level_T[: daily.height]
    equity = pl.Series(level_T / level_T[0] * float(daily["equity"][0]))
    nothing = pl.lit(0.0)
    held = Simulation(
        daily=daily.select(
            "timestamp", "close_utc", equity.alias("equity"), nothing.alias("cash"),
            equity.alias("invested"), equity.alias("long"), nothing.alias("short"),
        ),
        orders=strategy.orders.head(0),
        rebalances=strategy.rebalances.head(0),
        untraded=strategy.untraded.head(0),
        unfilled_decisions=0,
        totals=dict.fromkeys(strategy.simulation.totals, 0.0),
    )  # fmt: skip
    return _book(against.name, held, judging, None, (1, None))


def _one_of(
    settings: BacktestSettings, **given: pl.DataFrame | None
) -> tuple[Kind, pl.DataFrame] | None:
    found: list[tuple[Any, pl.DataFrame]] = [
        (name, frame) for name, frame in given.items() if frame is not None
    ]
    if found and settings.compat == "qlib":
        raise BacktestInputError(f"compat qlib chooses by scores: {found[0][0]} leave no choice")
    if len(found) > 1:
        names = " and ".join(name for name, _ in found)
        raise BacktestInputError(f"{names} given: a backtest trades one of them")
    return found[0] if found else None


def _span(made: Decisions, settings: BacktestSettings) -> tuple[int, int]:
    """First and last bar of the walk. Raises BacktestInputError where there is nothing to trade."""
    first_row, last_row = int(made.row_D[0]), _last_row(made, settings)
    if last_row <= first_row:
        raise BacktestInputError(
            f"no bar after the first forecast date {made.scores['as_of_date'][0]} to trade on. "
            "Forecast an earlier date, or import newer bars."
        )
    return first_row, last_row


def _last_row(made: Decisions, settings: BacktestSettings) -> int:
    last = len(made.prices.close_utc_T) - 1
    if settings.end is not None:
        end = np.datetime64(settings.end, "D")
        last = int(np.searchsorted(made.prices.sessions_T, end, side="right")) - 1
    return last if made.forecasts is None else min(int(made.row_D[-1]) + made.horizon, last)


def _book(
    name: str,
    simulation: Simulation,
    judging: Judging,
    equal_T: Float | None,
    tried: tuple[int, float | None],
) -> Book:
    """equal_T: equity of the benchmark where none was given."""
    against = judging.against
    metrics = summarise_book(
        simulation.daily,
        simulation.orders,
        simulation.rebalances,
        judging.periods,
        totals=simulation.totals,
        benchmark_T=equal_T if against is None else against.level_T,
        own_T=None if against is None else against.own_T,
        rate_T=judging.rate_T,
        trials=tried[0],
        trials_variance=tried[1],
    )
    return Book(name=name, simulation=simulation, metrics=metrics)
