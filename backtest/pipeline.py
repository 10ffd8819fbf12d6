"""Forecasts and bars to a backtest with its benchmarks. Knows the rooms beside it; stores nothing.

Legend: T bars, N symbols, D forecast dates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.caveats import caveats
from backtest.costs import Costs
from backtest.fans import fan_charts
from backtest.metrics import bars_per_year, overlap, rank_ic, summarise_book
from backtest.prices import PriceTable, price_table
from backtest.results import BacktestResult, Book
from backtest.settings import BacktestSettings
from backtest.signals import expected_return, horizon_of, select_forecasts
from backtest.simulate import Simulation, simulate
from backtest.strategies import TargetWeights, buy_and_hold, equal_weight, top_k
from market.errors import BacktestInputError
from market.flags import Flag

Int = npt.NDArray[np.int64]
Time = npt.NDArray[np.datetime64]


def run_backtest(
    bars: pl.DataFrame,
    forecasts: pl.DataFrame,
    settings: BacktestSettings,
    *,
    provenance: Mapping[str, str] | None = None,
) -> BacktestResult:
    """Trade a forecast table and its two benchmarks under the same costs.

    bars: the lake's rows (at least backtest.prices.BAR_COLUMNS) of *all* symbols of the venue, from
    some time before the first forecast: they are the bar axis and tell which names were delisted.
    forecasts: rows of the forecast table (at least backtest.signals.FORECAST_COLUMNS).
    provenance: words on where both came from, printed on the tear sheet.

    The book starts in cash at the close of the first forecast date and ends `horizon` bars after
    the last one, at `settings.end`, or with the bars. Raises BacktestInputError naming symbol and
    date where forecasts leak, repeat, or do not fit the bars.
    """
    rows = select_forecasts(forecasts, settings)
    horizon = horizon_of(rows, settings)
    scores = expected_return(rows, horizon)
    symbols = scores["symbol"].unique().sort().to_list()
    prices = price_table(
        bars, symbols, recovery=settings.recovery, max_gap_sessions=settings.max_gap_sessions
    )
    row_D = _rows_of_dates(scores, prices)
    first_row = int(row_D[0])
    last_row = min(int(row_D[-1]) + horizon, _last_allowed_row(prices, settings))
    if last_row <= first_row:
        raise BacktestInputError(
            f"no bar after the first forecast date {scores['as_of_date'][0]} to trade on. Forecast "
            "an earlier date, or import newer bars."
        )
    periods = settings.periods_per_year or bars_per_year(prices.labels_T)

    plans = {
        "Top-k": top_k(scores, symbols, settings.k),
        "Equal weight": equal_weight(scores, symbols),
        "Buy & hold": buy_and_hold(scores, symbols),
    }
    costs = Costs(settings.commission_bps, settings.min_fee, settings.slippage_bps)
    strategy, equal, hold = (
        _book(
            name,
            simulate(
                plan, prices, costs, cash=settings.cash, first_row=first_row, last_row=last_row
            ),
            periods,
        )
        for name, plan in plans.items()
    )

    scores = _with_outcomes(scores, plans["Top-k"], prices, row_D, horizon, last_row)
    in_sample = scores.filter("in_sample").select("as_of", "as_of_date").unique().sort("as_of")
    return BacktestResult(
        settings=settings,
        model_id=str(rows["model_id"][0]),
        run_ids=tuple(sorted(rows["run_id"].unique())),
        n_paths=tuple(rows["n_paths"].unique().sort()),
        horizon=horizon,
        periods_per_year=periods,
        strategy=strategy,
        equal_weight=equal,
        buy_and_hold=hold,
        scores=scores,
        ic=rank_ic(scores, overlap(row_D, horizon)),
        picks_above_median=_picks_above_median(scores),
        fans=fan_charts(rows, scores, prices, settings.fan_symbols, horizon, last_row),
        in_sample_dates=tuple(str(day) for day in in_sample["as_of_date"]),
        in_sample_spans=_spans(scores, prices, row_D, last_row),
        caveats=caveats(rows, scores, prices, settings, strategy, horizon, last_row),
        provenance=dict(provenance or {}),
    )


def _rows_of_dates(scores: pl.DataFrame, prices: PriceTable) -> Int:
    dates = scores.select("as_of", "as_of_date").unique().sort("as_of")
    row_D = prices.rows_at(dates["as_of"].to_numpy())
    if (row_D < 0).any():
        lost = dates.row(int(np.flatnonzero(row_D < 0)[0]), named=True)
        symbol = scores.filter(pl.col("as_of") == lost["as_of"])["symbol"][0]
        raise BacktestInputError(
            f"{symbol}: forecast as of {lost['as_of']}, but no bar closes then; the bars run from "
            f"{prices.sessions_T[0]} to {prices.sessions_T[-1]}. Backtest with the store the "
            "forecasts were made from."
        )
    return row_D


def _last_allowed_row(prices: PriceTable, settings: BacktestSettings) -> int:
    if settings.end is None:
        return len(prices.close_utc_T) - 1
    end = np.datetime64(settings.end, "D")
    return int(np.searchsorted(prices.sessions_T, end, side="right")) - 1


def _book(name: str, simulation: Simulation, periods: float) -> Book:
    frames = {field.name: getattr(simulation, field.name) for field in fields(simulation)}
    metrics = summarise_book(simulation.daily, simulation.orders, simulation.rebalances, periods)
    return Book(name=name, metrics=metrics, **frames)


def _with_outcomes(
    scores: pl.DataFrame,
    plan: TargetWeights,
    prices: PriceTable,
    row_D: Int,
    horizon: int,
    last_row: int,
) -> pl.DataFrame:
    """Scores with what followed: `realised`, `picked` and `in_sample`.

    realised: mark after `horizon` bars / close at as_of − 1; a suspended name at its last close, a
    delisted one at its settlement (leaving it out would forget the worst), NaN where the window
    runs past the end.
    """
    row_M = prices.rows_at(scores["as_of"].to_numpy())
    column_M = np.searchsorted(np.array(prices.symbols), scores["symbol"].to_numpy().astype(str))
    end_M = row_M + horizon
    realised_M = prices.mark_TN[np.minimum(end_M, last_row), column_M]
    realised_M = realised_M / prices.mark_TN[row_M, column_M] - 1
    realised_M[end_M > last_row] = np.nan
    picked_RN = {(row_D[r], c) for r in range(len(plan)) for c in plan.entries(r)[0]}
    return scores.with_columns(
        pl.Series("realised", realised_M),
        pl.Series("picked", [pair in picked_RN for pair in zip(row_M, column_M, strict=True)]),
        ((pl.col("flags") & int(Flag.IN_SAMPLE)) != 0).alias("in_sample"),
    )


def _picks_above_median(scores: pl.DataFrame) -> float:
    known = scores.filter(pl.col("realised").is_finite())
    beat = known.select(
        "picked", (pl.col("realised") > pl.col("realised").median().over("as_of")).alias("beat")
    ).filter("picked")["beat"]
    return float(beat.mean()) if len(beat) else float("nan")  # type: ignore[arg-type]


def _spans(
    scores: pl.DataFrame, prices: PriceTable, row_D: Int, last_row: int
) -> tuple[tuple[np.datetime64, np.datetime64], ...]:
    """Label ranges traded on in-sample forecasts: from each date to the next one's."""
    by_date = scores.group_by("as_of").agg(pl.col("in_sample").any()).sort("as_of")
    marked = by_date["in_sample"].to_numpy()
    ends = np.minimum(np.append(row_D[1:], last_row), last_row)
    spans: list[tuple[np.datetime64, np.datetime64]] = []
    for row, end, inside in zip(row_D, ends, marked, strict=True):
        if not inside:
            continue
        first, last = prices.labels_T[min(row, last_row)], prices.labels_T[end]
        if spans and spans[-1][1] == first:
            first = spans.pop()[0]
        spans.append((first, last))
    return tuple(spans)
