"""Fan charts: a forecast's quantile bands beside what happened. Knows scores and prices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from backtest.fills.prices import PriceTable
from backtest.results import Fan
from backtest.scores.forecasts import BAND_COLUMNS
from market.errors import BacktestInputError

LEAST_PAST_BARS = 20
DEFAULT_FANS = 4


def fan_charts(
    rows: pl.DataFrame,
    scores: pl.DataFrame,
    prices: PriceTable,
    wanted: Sequence[str],
    horizon: int,
    last_row: int,
) -> tuple[Fan, ...]:
    """Charts of the last date whose whole horizon has happened (the first date if none has).

    Without `wanted` symbols, four are taken at even distances in that date's score ranking, the
    best and the worst among them, so that nobody chose the pretty ones.
    Raises BacktestInputError for a wanted symbol without a forecast on that date.
    """
    at = prices.rows_at(scores["as_of"].to_numpy())
    done = scores.filter(pl.Series(at + horizon <= last_row))
    as_of = done["as_of"].max() if done.height else scores["as_of"].min()
    date_scores = scores.filter(pl.col("as_of") == as_of)
    ranked = (
        date_scores.filter(pl.col("score").is_finite())
        .sort(["score", "symbol"], descending=[True, False])["symbol"]
        .to_list()
    )
    day = str(date_scores["as_of_date"][0])
    forecast = date_scores["symbol"].to_list()
    unknown = [symbol for symbol in wanted if symbol not in forecast]
    if unknown:
        raise BacktestInputError(f"{unknown[0]}: no forecast of {day} to draw as a fan chart")
    pool = ranked or forecast
    even = np.unique(np.linspace(0, len(pool) - 1, min(DEFAULT_FANS, len(pool))).round())
    chosen = list(wanted) or [pool[int(i)] for i in even]
    in_sample = dict(date_scores.select("symbol", "in_sample").iter_rows())
    row = int(prices.rows_at(date_scores["as_of"].head(1).to_numpy())[0])
    return tuple(
        Fan(
            symbol=symbol,
            as_of_date=day,
            rank=ranked.index(symbol) + 1 if symbol in ranked else 0,
            ranked=len(ranked),
            in_sample=in_sample[symbol],
            past=_closes(prices, symbol, 0, row + 1).tail(max(2 * horizon, LEAST_PAST_BARS)),
            bands=rows.filter(
                (pl.col("as_of") == as_of)
                & (pl.col("symbol") == symbol)
                & (pl.col("step") <= horizon)
            ).select("timestamp", "close_mean", *BAND_COLUMNS),
            actual=_closes(prices, symbol, row + 1, min(row + horizon, last_row) + 1),
        )
        for symbol in chosen
    )


def _closes(prices: PriceTable, symbol: str, first: int, end: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "timestamp": prices.labels_T[first:end],
            "close": prices.close_TN[first:end, prices.column(symbol)],
        }
    ).filter(pl.col("close").is_finite())
