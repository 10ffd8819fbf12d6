"""Backtests that several tests look at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from backtest import BacktestResult, BacktestSettings, run_backtest
from market.flags import Flag
from tests.backtest.made_up import Market, random_market, random_scores


@pytest.fixture(scope="session")
def result() -> BacktestResult:
    """A backtest with everything in it: halts, a delisting, in-sample dates, odd names."""
    market = random_market(3)
    names = list(market.symbols)
    names[0], names[1] = "<b>&AMP", "BRK.B"
    close, open_ = market.close_TN.copy(), market.open_TN.copy()
    close[60:, 5] = open_[60:, 5] = np.nan
    market = Market(tuple(names), market.days, open_, close)
    rows = range(20, 80, 5)
    flags = {t: int(Flag.IN_SAMPLE) for t in range(20, 40, 5)}
    return run_backtest(
        market.bars,
        market.forecasts(random_scores(market, 4, rows), flags=flags),
        BacktestSettings(k=4, title="<script>alert(1)</script> & co", trials=3),
        provenance={"store": "made-up", "store version": "abc123"},
    )


@pytest.fixture(scope="session")
def run() -> Callable[..., BacktestResult]:
    """run_backtest with settings as keywords and, unless asked for, no costs."""

    def run_with(market: Market, forecasts: pl.DataFrame, **settings: object) -> BacktestResult:
        free = {"commission_bps": 0.0, "min_fee": 0.0, "slippage_bps": 0.0}
        return run_backtest(
            market.bars, forecasts, BacktestSettings.model_validate(free | settings)
        )

    return run_with
