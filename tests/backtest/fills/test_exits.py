"""Exits, orders and costs, with numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from backtest import BacktestSettings, run_backtest
from backtest.fills.costs import Costs
from backtest.fills.inputs import Targets
from backtest.fills.prices import PriceTable, price_table
from backtest.fills.rules import Rules
from backtest.fills.simulate import simulate
from backtest.fills.simulation import Simulation
from backtest.fills.terms import Terms
from tests.field.backtest.helper import FREE, bars, days, targets

Bar = tuple[float, float, float, float]


def table(*rows: Bar) -> PriceTable:
    """One symbol's open, high, low, close."""
    frame = bars({"A": [row[3] for row in rows]}, opens={"A": [row[0] for row in rows]})
    frame = frame.with_columns(
        pl.Series("high", [float(row[1]) for row in rows]),
        pl.Series("low", [float(row[2]) for row in rows]),
    )
    return price_table(frame, ["A"], recovery=1.0, max_gap_sessions=5)


def run(prices: PriceTable, rules: Rules, costs: Costs = FREE, **more: Any) -> Simulation:
    plan = more.pop("plan", None) or targets(prices, [(0, {"A": 1.0})])
    last = len(prices.close_utc_T) - 1
    return simulate(plan, prices, costs, rules, cash=1000, first_row=0, last_row=last, **more)


FLAT: Bar = (10, 10, 10, 10)


@pytest.mark.parametrize(
    ("bar", "rules", "price", "kind"),
    [
        ((10, 10.2, 8.9, 10), Rules(stop_loss=0.1), 9.0, "stop loss"),
        ((8, 8.5, 7, 8), Rules(stop_loss=0.1), 8.0, "stop loss"),
        ((10, 11.5, 9.9, 11), Rules(take_profit=0.1), 11.0, "take profit"),
        ((12, 12.5, 11.9, 12), Rules(take_profit=0.1), 12.0, "take profit"),
        ((10, 11.5, 8.5, 11), Rules(stop_loss=0.1, take_profit=0.1), 9.0, "stop loss"),
        ((12, 12.5, 8.5, 11), Rules(stop_loss=0.1, take_profit=0.1), 12.0, "take profit"),
    ],
)
def test_levels_and_gaps_the_worst_first(bar: Bar, rules: Rules, price: float, kind: str) -> None:
    made = run(table(FLAT, FLAT, bar, bar), rules)
    last = made.orders.row(-1, named=True)
    assert (last["price"], last["kind"], last["side"]) == (pytest.approx(price), kind, "sell")
    assert made.orders.height == 2


def test_a_trailing_stop_follows_the_best_price() -> None:
    prices = table(FLAT, FLAT, (10, 14, 10, 13), (13, 13.5, 12.5, 13), (13, 13, 12, 12))
    made = run(prices, Rules(trailing_stop=0.1))
    assert made.orders["price"].to_list() == [10.0, pytest.approx(12.6)]
    assert made.orders["kind"][1] == "trailing stop"


def test_a_position_is_closed_at_the_open_after_so_many_bars() -> None:
    prices = table(FLAT, FLAT, FLAT, FLAT, (9, 10, 9, 10), FLAT)
    made = run(prices, Rules(max_bars=3))
    assert made.orders["price"].to_list() == [10.0, 9.0]
    assert made.orders["timestamp"][1].date() == days(5)[4]


def test_a_stopped_name_is_not_bought_by_what_was_decided_before() -> None:
    prices = table(FLAT, FLAT, (8, 8, 8, 8), FLAT, FLAT)
    plan = targets(prices, [(0, {"A": 1.0}), (1, {"A": 1.0}), (2, {"A": 0.5})])
    made = run(prices, Rules(stop_loss=0.1), plan=plan)
    assert made.orders["side"].to_list() == ["buy", "sell", "buy"]
    assert made.orders["timestamp"][2].date() == days(4)[3]


def order(prices: PriceTable, unit: int, number: float, limit: float = np.nan) -> Targets:
    plan = targets(prices, [(0, {"A": number})])
    return plan._replace(unit_M=np.array([unit]), limit_M=np.array([limit]))


@pytest.mark.parametrize(
    ("unit", "number", "shares"), [(1, 30.0, 30.0), (2, 500.0, 50.0), (3, 0.25, 25.0)]
)
def test_orders_of_shares_value_and_percent(unit: int, number: float, shares: float) -> None:
    prices = table(FLAT, FLAT, FLAT)
    made = run(prices, Rules(), plan=order(prices, unit, number))
    assert made.orders["size"].to_list() == [pytest.approx(shares)]


@pytest.mark.parametrize(
    ("bar", "price"),
    [((10, 10.5, 9.4, 10), 9.5), ((9, 10, 9, 10), 9.0), ((10, 10.5, 9.6, 10), None)],
)
def test_a_limit_order_fills_at_its_limit_or_the_better_open(bar: Bar, price: float | None) -> None:
    prices = table(FLAT, bar, FLAT)
    costs = Costs(commission_bps=10, min_fee=0, slippage_bps=0, maker_bps=-2)
    made = run(prices, Rules(), costs, plan=order(prices, 1, 30.0, 9.5))
    assert made.orders["price"].to_list() == ([] if price is None else [pytest.approx(price)])
    if price is None:
        assert made.untraded["reason"].to_list() == ["limit price not reached"]
    else:
        share = -2e-4 if price == 9.5 else 1e-3
        assert made.orders["fee"][0] == pytest.approx(30 * price * share)


def test_costs_of_each_side_caps_terms_and_least_values() -> None:
    prices = table(FLAT, FLAT, FLAT, FLAT)
    costs = Costs(
        commission_bps=100, min_fee=0, slippage_bps=0, max_fee=2, buy_tax_bps=10, sell_tax_bps=50
    )
    plan = targets(prices, [(0, {"A": 0.5}), (1, {})])
    made = run(prices, Rules(), costs, plan=plan)
    assert made.orders["fee"].to_list() == [pytest.approx(2.5), pytest.approx(4.5)]
    terms = Terms(pl.DataFrame({"symbol": ["A"], "commission_bps": [20.0]}))
    assert run(prices, Rules(), costs, plan=plan, terms=terms).orders["fee"][0] == pytest.approx(
        1.5
    )
    refused = run(prices, Rules(min_order=600), plan=plan)
    assert refused.untraded["reason"].to_list() == ["below the least order value"]
    moved = targets(prices, [(0, {"A": 0.5}), (1, {"A": 0.51})])
    assert run(prices, Rules(band=0.02), plan=moved).orders.height == 1


def test_signals_weights_and_orders_are_brought_as_tables() -> None:
    frame = bars({"A": [10.0] * 10, "B": [20.0] * 10})
    free: dict[str, Any] = {"commission_bps": 0, "min_fee": 0, "slippage_bps": 0}
    day = days(10)
    signals = pl.DataFrame(
        {
            "date": [day[1], day[2], day[5]],
            "symbol": ["A", "A", "A"],
            "entry": ["yes", "yes", "no"],
            "exit": ["no", "no", "yes"],
        }
    )
    settings = BacktestSettings(k=2, cash=1000, **free)
    made = run_backtest(frame, None, settings, signals=signals)
    assert made.strategy.orders["size"].to_list() == [50.0, 50.0]
    assert made.trade_figures.count == 1
    wide = pl.DataFrame({"date": [day[1], day[4]], "A": [0.5, None], "B": [0.5, 1.0]})
    made = run_backtest(frame, None, settings, weights=wide)
    assert made.strategy.orders["symbol"].to_list() == ["A", "B", "A", "B"]
    orders = pl.DataFrame(
        {"date": [day[1], day[3]], "symbol": ["B", "B"], "shares": [10, 4], "side": ["buy", "sell"]}
    )
    made = run_backtest(frame, None, settings, orders=orders)
    assert made.strategy.orders["size"].to_list() == [10.0, 4.0]
