"""Strategies of one's own: what they see, and that a peeking one is caught."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from backtest import BacktestResult, BacktestSettings, run_backtest
from backtest.weights.view import View, on_history
from market.errors import BacktestInputError, ConfigError
from tests.backtest.made_up import Market, random_market

MARKET = random_market(5, n_days=40, n_symbols=4)


def run(function: str, market: Market = MARKET) -> BacktestResult:
    settings = BacktestSettings(plugin=f"{__name__}:{function}", rebalance=5, min_fee=0)
    return run_backtest(market.bars, None, settings)


def winners(view: View) -> dict[str, float]:
    """The name that rose most over five bars."""
    past = view.closes(6)
    if len(past) < 6:
        return {}
    return {view.symbols[int(np.nanargmax(past[-1] / past[0]))]: 1.0}


def peeking(view: View) -> dict[str, float]:
    """Reaches behind the view for tomorrow's prices."""
    table: Any = dict(
        zip(
            view._read.__code__.co_freevars,
            (cell.cell_contents for cell in view._read.__closure__ or ()),
            strict=True,
        )
    )
    later = table["prices"].mark_TN[min(table["row"] + 3, len(table["prices"].mark_TN) - 1)]
    return {view.symbols[int(np.argmax(later))]: 1.0}


@on_history
def last_close_wins(bars: pl.DataFrame) -> pl.DataFrame:
    """Knows only the past."""
    best = bars.sort("close").group_by("session").agg(pl.col("symbol").last())
    return best.with_columns(pl.lit(1.0).alias("weight")).rename({"session": "date"}).sort("date")


@on_history
def centred(bars: pl.DataFrame) -> pl.DataFrame:
    """Holds what closes above the mean of the whole history: a mean that knows the end."""
    above = bars.filter(pl.col("close") > pl.col("close").mean().over("symbol"))
    return above.select(
        pl.col("session").alias("date"),
        "symbol",
        (pl.lit(1.0) / pl.len().over("session")).alias("weight"),
    ).sort("date")


def wild(view: View) -> dict[str, float]:
    return {"nobody": 1.0}


def test_a_function_of_views_trades() -> None:
    made = run("winners")
    assert made.strategy.name == "winners"
    assert made.strategy.orders.height
    first = made.strategy.orders.row(0, named=True)
    row = MARKET.days.index(first["as_of"].date())
    closes = MARKET.close_TN[: row + 1]
    filled = np.array(pl.DataFrame(closes).fill_nan(None).fill_null(strategy="forward"))
    assert first["symbol"] == MARKET.symbols[int(np.nanargmax(filled[-1] / filled[-6]))]


def test_a_function_of_all_bars_trades() -> None:
    assert run("last_close_wins").strategy.orders.height


@pytest.mark.parametrize("function", ["peeking", "centred"])
def test_a_strategy_that_looks_ahead_is_refused(function: str) -> None:
    with pytest.raises(BacktestInputError, match="looks ahead"):
        run(function)


def test_what_a_strategy_may_not_say_is_one_line() -> None:
    with pytest.raises(BacktestInputError, match="nobody: the strategy wants"):
        run("wild")
    with pytest.raises(ConfigError, match="no entry point of that name"):
        run_backtest(MARKET.bars, None, BacktestSettings(plugin="unheard-of"))
    with pytest.raises(ConfigError, match="no_such_module"):
        run_backtest(MARKET.bars, None, BacktestSettings(plugin="no_such_module:decide"))
