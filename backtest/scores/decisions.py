"""From a source of scores to decisions: which dates, which names, what was known of them.

Knows forecasts, score files and bars; nothing of fills.

Legend: T bars, N symbols, D decisions, M (decision, symbol) scores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.fills.inputs import Targets
from backtest.fills.prices import PriceTable, price_table
from backtest.scores.brought import (
    Kind,
    entry_arrays,
    order_entries,
    signal_entries,
    weight_entries,
)
from backtest.scores.calendar import rebalance_rows
from backtest.scores.forecasts import (
    horizon_of,
    path_returns,
    score_column,
    select_forecasts,
)
from backtest.scores.momentum import momentum_matrix, momentum_rows, momentum_scores, unscored
from backtest.scores.own import user_scores
from backtest.settings import BacktestSettings
from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Decisions:
    """Scores on the bar axis, and where they came from."""

    prices: PriceTable
    scores: pl.DataFrame
    """as_of, as_of_date, symbol, score, mean, deviation, last_close, flags."""
    row_D: Int
    """Row of each decision, increasing."""
    horizon: int
    forecasts: pl.DataFrame | None
    """The forecast rows traded on; None where scores are not forecasts."""
    source: str
    """What the scores are, in a word or an id."""
    brought: Targets | None = None
    """Weights, orders or signals of one's own, which need no strategy."""
    left_out: int = 0
    """Rows of names that had no bar in the session they were decided at."""
    paths: pl.DataFrame | None = None
    """as_of, symbol, returns: those of the sample paths from the last close to the horizon."""

    def places(self) -> tuple[Int, Int]:
        """(row of the price table, column) of each score."""
        return self._places(self.scores)

    def path_places(self) -> tuple[Int, Int]:
        """(row of the price table, column) of each row of `paths`."""
        assert self.paths is not None
        return self._places(self.paths)

    def _places(self, frame: pl.DataFrame) -> tuple[Int, Int]:
        row_M = self.prices.rows_at(frame["as_of"].to_numpy())
        names = np.array(self.prices.symbols)
        return row_M, np.searchsorted(names, frame["symbol"].to_numpy().astype(str))

    def matrix(self, column: str) -> Float:
        """A column of `scores` as (D, N); NaN where a symbol has no row."""
        row_M, column_M = self.places()
        out = np.full((len(self.row_D), len(self.prices.symbols)), np.nan)
        out[np.searchsorted(self.row_D, row_M), column_M] = self.scores[column].to_numpy()
        return out


@dataclass(frozen=True)
class Momentum:
    """Scores by past return, made when asked for."""

    prices: PriceTable
    row_D: Int
    bars: int
    skip: int

    def matrix(self, column: str) -> Float:
        """The scores (D, N); of anything else there is none."""
        if column != "score":
            return np.broadcast_to(np.nan, (len(self.row_D), len(self.prices.symbols)))
        return momentum_matrix(self.prices, self.row_D, self.bars, self.skip)


Signal = Decisions | Momentum
"""Scores on the bar axis: prices, row_D and matrix of both mean the same."""


def signal_of(
    bars: pl.DataFrame,
    settings: BacktestSettings,
    prices: PriceTable | None = None,
    *,
    forecasts: pl.DataFrame | None = None,
    scores: pl.DataFrame | None = None,
    path_stats: pl.DataFrame | None = None,
    paths: pl.LazyFrame | None = None,
    actions: pl.DataFrame | None = None,
) -> Signal:
    """As `decide`, but momentum is not made yet. prices: of an earlier signal of the same bars and
    source, laid out once for all."""
    if forecasts is None and scores is None and settings.momentum is not None:
        if prices is None:
            names = bars["symbol"].unique().sort().to_list()
            prices = _prices(bars, names, settings, actions)
        length, skip = settings.momentum, settings.momentum_skip
        row_D = momentum_rows(prices, _calendar_rows(prices, settings), length, skip)
        return Momentum(prices, row_D, length, skip)
    return decide(
        bars, settings, forecasts=forecasts, scores=scores, path_stats=path_stats, paths=paths,
        actions=actions, prices=prices,
    )  # fmt: skip


def decide(
    bars: pl.DataFrame,
    settings: BacktestSettings,
    *,
    forecasts: pl.DataFrame | None = None,
    scores: pl.DataFrame | None = None,
    path_stats: pl.DataFrame | None = None,
    paths: pl.LazyFrame | None = None,
    actions: pl.DataFrame | None = None,
    brought: tuple[Kind, pl.DataFrame] | None = None,
    prices: PriceTable | None = None,
) -> Decisions:
    """Scores of the one source given, on the dates the calendar keeps; or what is `brought`.

    actions: of raw prices, see `PriceTable.with_actions`. prices: of these bars and this source,
    where they are laid out already.
    Raises BacktestInputError as `scores.forecasts` and `scores.own` do, and where none is left.
    """
    if forecasts is not None:
        forecasts = _with_path_stats(forecasts, path_stats)
        rows = select_forecasts(forecasts, settings)
        horizon = horizon_of(rows, settings)
        frame = score_column(rows, horizon, settings.score)
        prices = prices or _prices(bars, _names(frame), settings, actions)
        made = _kept(frame, prices, settings, horizon, rows, str(rows["model_id"][0]))
        if paths is None:
            return made
        return replace(made, paths=path_returns(paths, made.forecasts, horizon))
    if brought is not None:
        return _brought(bars, settings, *brought, actions)
    if scores is not None:
        frame = user_scores(scores, bars, on_closed=settings.on_closed)
        left_out = scores.height - frame.height
        frame = _within(frame, settings)
        prices = prices or _prices(bars, _names(frame), settings, actions)
        made = _kept(frame, prices, settings, None, None, "own scores")
        return replace(made, left_out=left_out)
    if settings.momentum is None and settings.strategy.plugin is None:
        raise BacktestInputError("no scores: give forecasts, scores or a momentum")
    prices = prices or _prices(bars, bars["symbol"].unique().sort().to_list(), settings, actions)
    row_D = _calendar_rows(prices, settings)
    if settings.momentum is None:
        frame, name = unscored(prices, row_D), f"strategy {settings.strategy.plugin}"
    else:
        frame = momentum_scores(prices, row_D, settings.momentum, settings.momentum_skip)
        name = f"momentum {settings.momentum}:{settings.momentum_skip}"
    each = settings.model_copy(update={"rebalance": "each"})
    return _kept(frame, prices, each, None, None, name)


def _calendar_rows(prices: PriceTable, settings: BacktestSettings) -> Int:
    """Rows within start and end that the calendar keeps: weekly unless told."""
    allowed = np.ones(len(prices.sessions_T), np.bool_)
    if settings.start is not None:
        allowed &= prices.sessions_T >= np.datetime64(settings.start, "D")
    if settings.end is not None:
        allowed &= prices.sessions_T <= np.datetime64(settings.end, "D")
    every = "weekly" if settings.rebalance is None else settings.rebalance
    return rebalance_rows(prices.sessions_T, np.flatnonzero(allowed).astype(np.int64), every)


def _with_path_stats(forecasts: pl.DataFrame, stats: pl.DataFrame | None) -> pl.DataFrame:
    if stats is None or "expected_drawdown" in forecasts.columns:
        return forecasts
    keys = ["run_id", "as_of", "symbol"]
    return forecasts.join(stats.select(*keys, "expected_drawdown"), on=keys, how="left")


def _brought(
    bars: pl.DataFrame,
    settings: BacktestSettings,
    kind: Kind,
    given: pl.DataFrame,
    actions: pl.DataFrame | None,
) -> Decisions:
    closed = settings.on_closed
    if kind == "signals":
        frame = signal_entries(given, bars, closed, settings.strategy.gross / settings.strategy.k)
    else:
        frame = (weight_entries if kind == "weights" else order_entries)(given, bars, closed)
    frame = _within(frame, settings)
    prices = _prices(bars, _names(frame), settings, actions)
    each = settings.model_copy(update={"rebalance": settings.rebalance or "each"})
    made = _kept(frame, prices, each, None, None, f"own {kind}")
    arrays = entry_arrays(made.scores, *made.places())
    targets = Targets(np.array([0, len(made.row_D)]), *arrays)
    return replace(made, brought=targets, left_out=0)


def _prices(
    bars: pl.DataFrame,
    symbols: list[str],
    settings: BacktestSettings,
    actions: pl.DataFrame | None,
) -> PriceTable:
    return price_table(
        bars,
        symbols,
        recovery=settings.recovery,
        max_gap_sessions=settings.max_gap_sessions,
        actions=actions,
    )


def _names(frame: pl.DataFrame) -> list[str]:
    return frame["symbol"].unique().sort().to_list()


def _within(frame: pl.DataFrame, settings: BacktestSettings) -> pl.DataFrame:
    if settings.start is not None:
        frame = frame.filter(pl.col("as_of_date") >= settings.start)
    if settings.end is not None:
        frame = frame.filter(pl.col("as_of_date") <= settings.end)
    if frame.is_empty():
        raise BacktestInputError(
            f"no score to trade from {settings.start or 'the first'} to "
            f"{settings.end or 'the last'}"
        )
    return frame


def _kept(
    frame: pl.DataFrame,
    prices: PriceTable,
    settings: BacktestSettings,
    horizon: int | None,
    rows: pl.DataFrame | None,
    source: str,
) -> Decisions:
    """Decisions on the dates the calendar keeps; the horizon of plain scores is their distance."""
    dates = frame.select("as_of", "as_of_date").unique().sort("as_of")
    row_D = prices.rows_at(dates["as_of"].to_numpy())
    if (row_D < 0).any():
        lost = dates.row(int(np.flatnonzero(row_D < 0)[0]), named=True)
        symbol = frame.filter(pl.col("as_of") == lost["as_of"])["symbol"][0]
        raise BacktestInputError(
            f"{symbol}: forecast as of {lost['as_of']}, but no bar closes then; the bars run from "
            f"{prices.sessions_T[0]} to {prices.sessions_T[-1]}. Backtest with the store the "
            "forecasts were made from."
        )
    venue = rows["venue"][0] if rows is not None and "venue" in rows.columns else None
    kept_D = rebalance_rows(prices.sessions_T, row_D, settings.rebalance or "each", venue)
    if len(kept_D) < len(row_D):
        instants = dates.filter(pl.Series(np.isin(row_D, kept_D)))["as_of"]
        frame = frame.filter(pl.col("as_of").is_in(instants.implode()))
        if rows is not None:
            rows = rows.filter(pl.col("as_of").is_in(instants.implode()))
    if horizon is None:
        gap = int(np.median(np.diff(kept_D))) if len(kept_D) > 1 else 1
        horizon = settings.horizon or max(gap, 1)
    return Decisions(prices, frame, kept_D, horizon, rows, source)
