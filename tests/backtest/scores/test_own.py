"""Scores from a user's column and from momentum, and the calendars that pick dates."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backtest import BacktestSettings, run_backtest
from backtest.scores.calendar import rebalance_rows
from backtest.scores.own import read_scores, user_scores
from market.errors import BacktestInputError
from tests.backtest.made_up import Market, random_market, random_scores

FREE = {"commission_bps": 0.0, "min_fee": 0.0, "slippage_bps": 0.0}


@pytest.fixture(scope="module")
def market() -> Market:
    return random_market(20, n_days=60, n_symbols=6)


@pytest.fixture(scope="module")
def column(market: Market) -> pl.DataFrame:
    rows = random_scores(market, 4, range(10, 50, 5))
    return pl.DataFrame(
        [
            {"symbol": symbol, "date": market.days[t], "score": score}
            for t, row in rows.items()
            for symbol, score in zip(market.symbols, row, strict=True)
        ]
    )


def test_a_users_column_trades_like_the_same_forecasts(
    market: Market, column: pl.DataFrame, tmp_path: Path
) -> None:
    rows = random_scores(market, 4, range(10, 50, 5))
    settings = BacktestSettings.model_validate(FREE | {"k": 2, "end": market.days[50]})
    forecast = run_backtest(market.bars, market.forecasts(rows), settings)
    own = run_backtest(market.bars, None, settings, scores=column)
    assert own.strategy.orders.equals(forecast.strategy.orders)
    assert own.model_id == "own scores"
    assert own.fans == ()
    file = tmp_path / "scores.csv"
    column.rename({"score": "mine"}).write_csv(file)
    read = run_backtest(market.bars, None, settings, scores=read_scores(file, "mine"))
    assert read.strategy.orders.equals(own.strategy.orders)


def test_momentum_is_the_return_it_says(market: Market) -> None:
    settings = BacktestSettings(momentum=10, momentum_skip=2, k=2)
    result = run_backtest(market.bars, None, settings)
    close = market.close_TN
    row = result.scores.row(7, named=True)
    t, c = market.days.index(row["as_of_date"]), market.symbols.index(row["symbol"])
    mark = [x for x in close[: t - 1, c] if np.isfinite(x)][-1]
    before = [x for x in close[: t - 9, c] if np.isfinite(x)][-1]
    assert row["score"] == pytest.approx(mark / before - 1)
    assert {day.weekday() for day in result.scores["as_of_date"][:-6]} == {4}
    assert result.horizon == 5


def test_momentum_reads_nothing_after_its_date(market: Market) -> None:
    settings = BacktestSettings(momentum=10, k=2)
    later = Market(
        market.symbols,
        market.days,
        np.where(np.arange(60)[:, None] > 40, 99.0, market.open_TN),
        np.where(np.arange(60)[:, None] > 40, 99.0, market.close_TN),
    )
    clean, dirty = (run_backtest(m.bars, None, settings).strategy for m in (market, later))
    known = pl.col("timestamp") <= pl.lit(market.days[40])
    assert clean.daily.filter(known).equals(dirty.daily.filter(known))
    assert not clean.daily.equals(dirty.daily)


def test_calendars_keep_the_last_date_of_their_period() -> None:
    days = np.arange("2020-01-01", "2020-03-10", dtype="datetime64[D]")
    days = days[np.is_busday(days)]
    rows = np.arange(len(days))
    assert rebalance_rows(days, rows, "each").tolist() == rows.tolist()
    assert rebalance_rows(days, rows, 10).tolist() == [0, 10, 20, 30, 40]
    monthly = days[rebalance_rows(days, rows, "monthly")]
    assert monthly.tolist() == [date(2020, 1, 31), date(2020, 2, 28), date(2020, 3, 9)]
    weekly = days[rebalance_rows(days, rows, "weekly")]
    assert [day.weekday() for day in weekly.tolist()] == [4] * 10 + [0]


def test_rebalancing_less_often_trades_only_those_dates(market: Market) -> None:
    table = market.forecasts(random_scores(market, 4, range(10, 50)))
    settings = BacktestSettings.model_validate(FREE | {"k": 2, "rebalance": "weekly"})
    result = run_backtest(market.bars, table, settings)
    assert result.ic.by_date.height == 8
    assert {day.weekday() for day in result.scores["as_of_date"]} == {4}


def test_bad_scores_name_symbol_and_date(market: Market, column: pl.DataFrame) -> None:
    bars = market.bars

    def refused(frame: pl.DataFrame, message: str) -> None:
        with pytest.raises(BacktestInputError, match=message):
            user_scores(frame, bars)

    refused(
        column.with_columns(symbol=pl.lit("GHOST")).head(1),
        "GHOST: score of 2020-01-20, but the store holds no bar",
    )
    refused(
        column.with_columns(pl.col("date") + timedelta(days=5)).head(1), "S00: score of 2020-01-25"
    )
    refused(column.reverse(), r"S05: score of 2020-03-02 comes after a later one")
    refused(pl.concat([column.head(1), column.head(1)]), "S00: two scores of 2020-01-20")
    refused(column.drop("date"), "scores have no date")
    leak = column.head(1).with_columns(
        data_through=pl.lit(datetime(2020, 1, 21), pl.Datetime("us"))
    )
    leak = leak.with_columns(pl.col("data_through").dt.replace_time_zone("UTC"))
    refused(leak, "S00: the score of 2020-01-20 read bars up to")


def test_a_missing_file_or_column_is_named(tmp_path: Path, column: pl.DataFrame) -> None:
    with pytest.raises(BacktestInputError, match="no such score file"):
        read_scores(tmp_path / "none.csv")
    column.write_csv(tmp_path / "scores.csv")
    with pytest.raises(BacktestInputError, match="lacks the column mine; found symbol, date"):
        read_scores(tmp_path / "scores.csv", "mine")
