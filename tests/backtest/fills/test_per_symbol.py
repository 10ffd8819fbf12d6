"""Thresholds per symbol against a loop in plain Python, and vectorbt's Portfolio from our fills."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest import BacktestSettings, run_backtest
from backtest.figures import metrics
from backtest.fills.costs import Costs
from backtest.fills.per_symbol import thresholds_per_symbol
from backtest.fills.prices import PriceTable, price_table
from backtest.fills.rules import Rules
from backtest.fills.simulate import simulate
from backtest.fills.simulation import Simulation
from backtest.vectorbt_bridge import to_vectorbt
from backtest.weights.strategies import equal_weight
from market.errors import BacktestInputError
from tests.backtest.made_up import random_market, random_scores

COSTS = Costs(commission_bps=10, min_fee=0, slippage_bps=5)


@given(seed=st.integers(0, 10_000), gaps=st.sampled_from([0.0, 0.1]))
def test_each_account_is_what_a_plain_loop_gives(seed: int, gaps: float) -> None:
    rng = np.random.default_rng(seed)
    n_bars, n = 60, 70
    close = 20 * np.exp(np.cumsum(rng.normal(0, 0.02, (n_bars, n)), axis=0))
    open_ = close * np.exp(rng.normal(0, 0.01, close.shape))
    score = rng.normal(size=close.shape)
    for matrix in (open_, close, score):
        matrix[rng.random(matrix.shape) < gaps] = np.nan
    enter, leave = np.array([0.3, 1.0]), np.array([-0.3, -1.5])
    found = thresholds_per_symbol(score, open_, close, enter, leave, COSTS, bars_per_year=252)
    for k in range(2):
        for c in rng.choice(n, 6, replace=False):
            cash, shares, mark, equity, trades = 1.0, 0.0, 0.0, [1.0], 0
            for t in range(1, n_bars):
                price = open_[t, c]
                if not np.isnan(price):
                    if shares == 0 and score[t - 1, c] > enter[k]:
                        shares, cash, mark = cash / (price * 1.0005 * 1.001), 0.0, price
                        trades += 1
                    elif shares and score[t - 1, c] <= leave[k]:
                        cash, shares = shares * price * 0.9995 * 0.999, 0.0
                        trades += 1
                mark = mark if np.isnan(close[t, c]) else close[t, c]
                equity.append(cash + shares * mark)
            path = np.array(equity)
            assert found.total_return_KN[k, c] == pytest.approx(path[-1] - 1, rel=1e-9, abs=1e-12)
            assert found.max_drawdown_KN[k, c] == pytest.approx(
                metrics.drawdown(path).min(), rel=1e-9, abs=1e-12
            )
            assert found.trades_KN[k, c] == trades
            expected = metrics.sharpe(metrics.returns(path), 252)
            assert found.sharpe_KN[k, c] == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_costs_per_order_make_no_sense_for_accounts_of_one() -> None:
    ones = np.ones((5, 2))
    with pytest.raises(BacktestInputError, match=r"min_fee 1\.0: must be 0 per symbol"):
        thresholds_per_symbol(ones, ones, ones, ones[0], ones[0], Costs(), bars_per_year=252)
    with pytest.raises(BacktestInputError, match="sold at once"):
        thresholds_per_symbol(ones, ones, ones, ones[0], 2 * ones[0], COSTS, bars_per_year=252)


@pytest.fixture
def simulated() -> Callable[..., tuple[Simulation, PriceTable]]:
    def run(costs: Costs) -> tuple[Simulation, PriceTable]:
        market = random_market(3)
        prices = price_table(market.bars, list(market.symbols), recovery=1.0, max_gap_sessions=5)
        rows = np.arange(5, 80, 7)
        listed = np.random.default_rng(1).random((len(rows), len(market.symbols))) < 0.4
        made = simulate(
            equal_weight(rows, listed), prices, costs, Rules(), cash=1e5, first_row=2, last_row=89
        )
        return made, prices

    return run


def test_the_bridge_gives_a_portfolio_with_our_orders_and_equity(
    simulated: Callable[..., tuple[Simulation, PriceTable]],
) -> None:
    vbt = pytest.importorskip("vectorbt")
    made, prices = simulated(
        Costs(commission_bps=10, commission_per_share=0.01, min_fee=2, slippage_bps=5)
    )
    portfolio = to_vectorbt(made, prices)
    assert isinstance(portfolio, vbt.Portfolio)
    np.testing.assert_allclose(portfolio.value(), made.daily["equity"], rtol=1e-9)
    np.testing.assert_allclose(portfolio.cash(), made.daily["cash"], rtol=1e-9, atol=1e-6)
    records = portfolio.order_records
    assert len(records) == made.orders.height > 40
    np.testing.assert_allclose(records["size"], made.orders["size"], rtol=1e-12)
    np.testing.assert_allclose(records["price"], made.orders["price"], rtol=1e-12)


def test_the_bridge_refuses_what_a_portfolio_cannot_hold(
    simulated: Callable[..., tuple[Simulation, PriceTable]],
) -> None:
    made, prices = simulated(Costs(cash_rate=0.05))
    with pytest.raises(BacktestInputError, match=r"interest of .* Set its rate to 0"):
        to_vectorbt(made, prices)


def test_a_result_turns_into_a_portfolio() -> None:
    market = random_market(8)
    scores = random_scores(market, 9, range(10, 60, 5))
    result = run_backtest(market.bars, market.forecasts(scores), BacktestSettings(k=3))
    portfolio = result.to_vectorbt()
    np.testing.assert_allclose(portfolio.value(), result.strategy.daily["equity"], rtol=1e-9)
