"""Backtests of frames and stores: the figures of the engine, in the user's kind of frame."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import candlecast as cc
from backtest import Costs
from backtest.figures.round_trips import round_trips
from market.errors import CandlecastError
from tests.candlecast.conftest import Run

WITHOUT = """
import sys

for name in ("torch", "safetensors", "huggingface_hub", "ray", "vectorbt"):
    sys.modules[name] = None  # as if it were not installed
import polars as pl
import candlecast as cc
result = cc.backtest(
    pl.read_parquet("bars.parquet"), pl.read_parquet("scores.parquet"), k=2, venue="XNYS"
)
result.to_html("sheet.html")
print(result, result.trades, result.plot())
"""


@pytest.fixture(scope="module")
def result(bars: pl.DataFrame, scores: pl.DataFrame) -> cc.Backtest:
    return cc.backtest(bars, scores, k=2, venue="XNYS", costs={"commission_bps": 2.0})


def test_trades_explain_the_equity(result: cc.Backtest) -> None:
    equity = result.equity["equity"]
    assert result.trades.height > 10
    assert result.trades["pnl"].sum() == pytest.approx(equity[-1] - equity[0], rel=1e-9)
    assert result.trades["fee"].sum() == pytest.approx(result.orders["fee"].sum())
    assert result.metrics["total_return"] == pytest.approx(equity[-1] / equity[0] - 1)
    frame = result.metrics_frame
    assert frame.filter(pl.col("metric") == "sharpe")["Top-k"][0] == result.metrics["sharpe"]
    assert result.trades["closed"].null_count() <= 2  # what is still held


def test_it_shows_itself(result: cc.Backtest, tmp_path: Path) -> None:
    assert len(repr(result).splitlines()) < 10
    assert "Sharpe ratio" in result._repr_html_()
    assert {trace.name for trace in result.plot().data} == {"Buy & hold", "Equal weight", "Top-k"}
    page = result.to_html(str(tmp_path / "sheets" / "sheet.html"))
    assert "<title>candlecast backtest</title>" in page.read_text()


def test_pandas_frames_and_a_store_give_the_same(
    bars: pl.DataFrame, scores: pl.DataFrame, result: cc.Backtest, tmp_path: Path
) -> None:
    costs = Costs(commission_bps=2.0)
    dated = scores.to_pandas().rename(columns={"symbol": "Ticker", "date": "Date"})
    dated["Date"] = pd.to_datetime(dated["Date"])
    other = cc.backtest(bars.to_pandas(), dated.set_index("Date"), k=2, venue="XNYS", costs=costs)
    assert isinstance(other.orders, pd.DataFrame)
    assert_frame_equal(pl.from_pandas(other.equity), result.equity, check_exact=True)

    store = cc.Store(tmp_path / "store", frames="pandas")
    store.import_frame(bars, venue="XNYS")
    by_path = cc.backtest(store.path, scores, k=2, costs=costs)
    for held in (store.backtest(scores, k=2, costs=costs), by_path):
        assert len(held.orders) == result.orders.height
    assert isinstance(store.backtest(momentum=20, k=2).trades, pd.DataFrame)


def test_weights_orders_and_signals_of_ones_own(bars: pl.DataFrame) -> None:
    days = bars["timestamp"].unique().sort().dt.date()
    first, second = bars["symbol"].unique().sort()[:2]
    free: dict[str, Any] = {
        "venue": "XNYS",
        "costs": {"commission_bps": 0.0, "min_fee": 0.0, "slippage_bps": 0.0},
    }
    long = pl.DataFrame(
        {"date": [days[10]] * 2, "symbol": [first, second], "weight": [0.3, 0.6]},
    )
    by_long = cc.backtest(bars, weights=long, **free)
    assert_frame_equal(cc.backtest(bars, long, **free).equity, by_long.equity)
    wide = pd.DataFrame(
        {first: [0.3], second: [0.6]}, index=pd.DatetimeIndex([pd.Timestamp(days[10])])
    )
    by_wide = cc.backtest(bars, weights=wide, **free)
    assert_frame_equal(by_long.equity, by_wide.equity, check_exact=True)
    assert by_long.orders["symbol"].to_list() == [second, first]  # the largest is paid first

    shares = by_long.orders.select("symbol", shares=pl.col("size"), Time=pl.lit(days[10]))
    by_orders = cc.backtest(bars, shares, **free)
    assert_frame_equal(by_orders.equity["equity"].to_frame(), by_long.equity.select("equity"))

    signals = pl.DataFrame(
        {"date": [days[10], days[20]], "symbol": [first] * 2, "entry": [True, False]}
    ).with_columns(exit=~pl.col("entry"))
    by_signals = cc.backtest(bars, signals, k=4, **free)  # the columns tell what it is
    assert by_signals.orders["side"].to_list() == ["buy", "sell"]
    closes = bars.filter(symbol=first).sort("timestamp")["close"]
    size = by_signals.orders["size"][0]
    assert size == pytest.approx(250_000 / closes[10])  # 1 / k of a million
    with pytest.raises(CandlecastError, match="a column per symbol as weights="):
        cc.backtest(bars, wide, **free)
    with pytest.raises(CandlecastError, match="orders and signals given"):
        cc.backtest(bars, orders=shares, signals=signals, **free)


def test_forecasts_are_traded(bars: pl.DataFrame) -> None:
    days = bars["timestamp"].unique().sort().dt.date()
    made = cc.forecast(
        bars, 5, venue="XNYS", model="bootstrap", paths=24, lookback=64,
        as_of=f"{days[80]}:{days[-10]}:weekly",
    )  # fmt: skip
    result = cc.backtest(bars, made, strategy="longshort", quantile=0.25, venue="XNYS")
    assert result.result.horizon == 5
    assert set(result.trades["side"]) == {"long", "short"}
    drawdown = cc.backtest(bars, made, score="-expected_drawdown", k=2, venue="XNYS")
    assert drawdown.orders.height
    tails = cc.backtest(bars, made, strategy="cvar", k=4, max_weight=0.5, venue="XNYS")
    assert tails.orders.height
    assert tails.result.strategy.name == "Mean–CVaR"
    past = {"name": "cvar", "k": 4, "scenarios": "past", "max_weight": 0.5}
    assert not tails.orders.equals(cc.backtest(bars, made, strategy=past, venue="XNYS").orders)


def test_own_scores_need_neither_torch_nor_ray(
    bars: pl.DataFrame, scores: pl.DataFrame, tmp_path: Path, python: Run
) -> None:
    bars.write_parquet(tmp_path / "bars.parquet")
    scores.write_parquet(tmp_path / "scores.parquet")
    done = python(tmp_path, "-c", WITHOUT)
    assert done.returncode == 0, done.stderr
    assert "Sharpe" in done.stdout


def test_a_vectorbt_portfolio(result: cc.Backtest) -> None:
    portfolio = result.to_vectorbt()
    assert portfolio.value().iloc[-1] == pytest.approx(result.equity["equity"][-1])


@given(
    st.lists(st.tuples(st.sampled_from("AB"), st.integers(-5, 5), st.integers(1, 9)), max_size=30)
)
def test_round_trips_keep_the_money(fills: list[tuple[str, int, int]]) -> None:
    fills = [fill for fill in fills if fill[1]]
    begun = datetime(2024, 1, 1)
    orders = pl.DataFrame(
        {
            "symbol": [symbol for symbol, *_ in fills],
            "timestamp": [begun + timedelta(days=day) for day in range(len(fills))],
            "side": ["buy" if change > 0 else "sell" for _, change, _ in fills],
            "size": [abs(float(change)) for _, change, _ in fills],
            "price": [float(price) for *_, price in fills],
            "fee": [0.5] * len(fills),
        },
        schema={
            "symbol": pl.String, "timestamp": pl.Datetime("us"), "side": pl.String,
            "size": pl.Float64, "price": pl.Float64, "fee": pl.Float64,
        },
    )  # fmt: skip
    trips = round_trips(orders, {"A": 4.0, "B": 3.0})
    cash = -sum(change * price for _, change, price in fills) - 0.5 * len(fills)
    held = {name: sum(c for s, c, _ in fills if s == name) for name in "AB"}
    worth = cash + 4.0 * held["A"] + 3.0 * held["B"]
    assert trips["pnl"].sum() == pytest.approx(worth, abs=1e-9)
    assert set(trips.filter(pl.col("closed").is_null())["symbol"]) == {
        n for n, h in held.items() if h
    }
