"""From a source of scores to decisions: which dates, which names, what was known of them.

Knows forecasts, score files and bars; nothing of fills.

Legend: T bars, N symbols, D decisions, M (decision, symbol) scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.fills.prices import PriceTable, price_table
from backtest.scores.calendar import rebalance_rows
from backtest.scores.forecasts import horizon_of, score_column, select_forecasts
from backtest.scores.momentum import momentum_scores
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

    def places(self) -> tuple[Int, Int]:
        """(row of the price table, column) of each score."""
        row_M = self.prices.rows_at(self.scores["as_of"].to_numpy())
        names = np.array(self.prices.symbols)
        return row_M, np.searchsorted(names, self.scores["symbol"].to_numpy().astype(str))

    def matrix(self, column: str) -> Float:
        """A column of `scores` as (D, N); NaN where a symbol has no row."""
        row_M, column_M = self.places()
        out = np.full((len(self.row_D), len(self.prices.symbols)), np.nan)
        out[np.searchsorted(self.row_D, row_M), column_M] = self.scores[column].to_numpy()
        return out


def decide(
    bars: pl.DataFrame,
    settings: BacktestSettings,
    *,
    forecasts: pl.DataFrame | None = None,
    scores: pl.DataFrame | None = None,
    path_stats: pl.DataFrame | None = None,
) -> Decisions:
    """Scores of the one source given, on the dates the calendar keeps.

    Raises BacktestInputError as `scores.forecasts` and `scores.own` do, and where none is left.
    """
    if forecasts is not None:
        forecasts = _with_path_stats(forecasts, path_stats)
        rows = select_forecasts(forecasts, settings)
        horizon = horizon_of(rows, settings)
        frame = score_column(rows, horizon, settings.score)
        prices = _prices(bars, _names(frame), settings)
        return _kept(frame, prices, settings, horizon, rows, str(rows["model_id"][0]))
    if scores is not None:
        frame = _within(user_scores(scores, bars), settings)
        prices = _prices(bars, _names(frame), settings)
        return _kept(frame, prices, settings, None, None, "own scores")
    if settings.momentum is None:
        raise BacktestInputError("no scores: give forecasts, scores or a momentum")
    prices = _prices(bars, bars["symbol"].unique().sort().to_list(), settings)
    allowed = np.ones(len(prices.sessions_T), np.bool_)
    if settings.start is not None:
        allowed &= prices.sessions_T >= np.datetime64(settings.start, "D")
    if settings.end is not None:
        allowed &= prices.sessions_T <= np.datetime64(settings.end, "D")
    every = "weekly" if settings.rebalance is None else settings.rebalance
    row_D = rebalance_rows(prices.sessions_T, np.flatnonzero(allowed).astype(np.int64), every)
    frame = momentum_scores(prices, row_D, settings.momentum, settings.momentum_skip)
    name = f"momentum {settings.momentum}:{settings.momentum_skip}"
    each = settings.model_copy(update={"rebalance": "each"})
    return _kept(frame, prices, each, None, None, name)


def _with_path_stats(forecasts: pl.DataFrame, stats: pl.DataFrame | None) -> pl.DataFrame:
    if stats is None or "expected_drawdown" in forecasts.columns:
        return forecasts
    keys = ["run_id", "as_of", "symbol"]
    return forecasts.join(stats.select(*keys, "expected_drawdown"), on=keys, how="left")


def _prices(bars: pl.DataFrame, symbols: list[str], settings: BacktestSettings) -> PriceTable:
    return price_table(
        bars, symbols, recovery=settings.recovery, max_gap_sessions=settings.max_gap_sessions
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
    kept_D = rebalance_rows(prices.sessions_T, row_D, settings.rebalance or "each")
    if len(kept_D) < len(row_D):
        instants = dates.filter(pl.Series(np.isin(row_D, kept_D)))["as_of"]
        frame = frame.filter(pl.col("as_of").is_in(instants.implode()))
        if rows is not None:
            rows = rows.filter(pl.col("as_of").is_in(instants.implode()))
    if horizon is None:
        gap = int(np.median(np.diff(kept_D))) if len(kept_D) > 1 else 1
        horizon = settings.horizon or max(gap, 1)
    return Decisions(prices, frame, kept_D, horizon, rows, source)
