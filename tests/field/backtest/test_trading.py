"""Fills and weights that were once wrong: limits, splits, suspensions, stray bars, ties, ruin."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from backtest import BacktestSettings, run_backtest
from backtest.fills.costs import Costs
from backtest.fills.rules import Rules
from backtest.fills.simulate import simulate
from backtest.fills.terms import Terms
from tests.field.backtest.helper import FREE, FREE_FLAT, bars, days, scores, table, targets, walk


@pytest.mark.parametrize(
    ("before", "limit"), [(3.33, 3.66), (1.23, 1.35), (7.77, 8.55), (10.0, 11.0)]
)
def test_an_open_at_the_rounded_limit_cannot_be_bought(before: float, limit: float) -> None:
    for price, bought in ((limit, 0), (limit - 0.01, 1)):
        prices = table(bars({"A": [before, before, price, price, price], "B": [5] * 5}))
        plan = targets(prices, [(1, {"A": 1.0})])
        rules = Rules(limit=0.1)
        made = simulate(plan, prices, FREE, rules, cash=1000, first_row=0, last_row=4)
        assert made.orders.height == bought


@pytest.mark.parametrize(
    ("share", "tick", "before", "high", "low"),
    [
        (0.05, 0.01, 3.10, 3.26, 2.95),
        (0.2, 0.01, 7.77, 9.32, 6.22),
        (0.3, 0.01, 12.35, 16.06, 8.65),
        (0.1, 0.001, 1.155, 1.271, 1.040),
        (0.1, 0.01, 2.05, 2.26, 1.85),
        (0.1, 5.0, 1005.0, 1105.0, 905.0),
    ],
)
def test_limits_of_every_board_and_tick(
    share: float, tick: float, before: float, high: float, low: float
) -> None:
    for opened, bought in ((high, 0), (high - tick, 1)):
        prices = table(bars({"A": [before, before, opened, opened], "B": [5] * 4}))
        rules = Rules(limit=share, tick=tick)
        made = simulate(
            targets(prices, [(1, {"A": 1.0})]), prices, FREE, rules,
            cash=1e5, first_row=0, last_row=3,
        )  # fmt: skip
        assert made.orders.height == bought
    for opened, sold in ((low, 0), (low + tick, 1)):
        prices = table(bars({"A": [before, before, before, opened], "B": [5] * 4}))
        plan = targets(prices, [(0, {"A": 1.0}), (2, {"B": 1.0})])
        made = simulate(plan, prices, FREE, rules, cash=1e5, first_row=0, last_row=3)
        assert made.orders.filter(pl.col("side") == "sell").height == sold


@pytest.mark.parametrize(("before", "limit"), [(3.33, 3.00), (10.0, 9.0)])
def test_an_open_at_the_rounded_limit_cannot_be_sold(before: float, limit: float) -> None:
    prices = table(bars({"A": [before] * 4 + [limit] * 2, "B": [5] * 6}))
    plan = targets(prices, [(0, {"A": 1.0}), (3, {"B": 1.0})])
    rules = Rules(limit=0.1)
    made = simulate(plan, prices, FREE, rules, cash=1000, first_row=0, last_row=5)
    assert made.orders.filter(pl.col("side") == "sell").height == 0


def test_each_board_has_its_own_limit_and_intraday_it_is_that_of_the_session_before() -> None:
    frame = bars({"A": [10, 10, 11.5, 11.5], "B": [10, 10, 11.5, 11.5]})
    prices = table(frame)
    plan = targets(prices, [(1, {"A": 0.5, "B": 0.5})])
    terms = Terms(pl.DataFrame({"symbol": ["B"], "limit": [0.2]}))
    rules = Rules(limit=0.1)
    made = simulate(plan, prices, FREE, rules, cash=1e3, first_row=0, last_row=3, terms=terms)
    assert made.orders["symbol"].to_list() == ["B"]
    clock = [dt.datetime(2024, 1, day, 9, 30 + 5 * i) for day in (2, 3) for i in range(4)]
    prices = table(bars({"A": [10, 10, 10, 10, 10.4, 10.8, 11, 11], "B": [5] * 8}, clock))
    for row, filled in ((4, 1), (5, 0)):
        plan = targets(prices, [(row, {"A": 1.0})])
        made = simulate(plan, prices, FREE, rules, cash=1000, first_row=0, last_row=7)
        assert made.orders.height == filled, "10.8 is allowed, 11 is the limit on yesterday's 10"


def test_the_limit_is_on_the_close_less_the_dividend_and_over_the_split() -> None:
    frame = bars({"A": [20.0, 20.0, 20.0, 10.45, 10.45], "B": [5] * 5})
    act = pl.DataFrame(
        {"symbol": ["A"], "session": [days(4)[3]], "split": [2.0], "dividend": [0.5]}
    )
    prices = table(frame)
    plan = targets(prices, [(2, {"A": 1.0})])
    rules = Rules(limit=0.1)  # on 20 / 2 − 0.5 = 9.5: 10.45
    made = simulate(plan, prices, FREE, rules, cash=1e3, first_row=0, last_row=4, actions=act)
    assert made.orders.height == 0


def _slippage(costs: Costs) -> dict[str, float]:
    n = 40
    price = np.array(walk(0, n))
    raw = price.copy()
    raw[25:] /= 2
    prices = table(bars({"A": list(raw), "B": list(price)}))
    act = pl.DataFrame(
        {"symbol": ["A"], "session": [days(n)[25]], "split": [2.0], "dividend": [0.0]}
    )
    out = {}
    for name in "AB":
        plan = targets(prices, [(29, {name: 1.0})])
        made = simulate(plan, prices, costs, cash=1e5, first_row=0, last_row=n - 1, actions=act)
        order = made.orders.row(0, named=True)
        out[name] = order["price"] / order["reference"] - 1
    return out


def test_a_split_is_no_volatility() -> None:
    free = {"commission_bps": 0, "min_fee": 0, "slippage_bps": 0}
    found = _slippage(Costs(**free, slippage_volatility=0.1))
    assert found["A"] == pytest.approx(found["B"], rel=1e-9)
    assert found["B"] == pytest.approx(8.558e-4, rel=1e-3)
    found = _slippage(Costs(**free, impact=1.0))
    assert found["A"] == pytest.approx(found["B"] * 2**0.5, rel=1e-9)


@pytest.mark.parametrize(
    ("split", "dividend", "cost"), [(0.1, 0.0, "slippage_volatility"), (1.0, 20.0, "impact")]
)
def test_no_action_is_volatility(split: float, dividend: float, cost: str) -> None:
    n = 40
    price = np.array(walk(0, n))
    raw = price.copy()
    raw[25:] *= (raw[24] / split - dividend) / raw[24]
    prices = table(bars({"A": list(raw), "B": list(price)}))
    at = days(n)[25]
    act = pl.DataFrame({"symbol": ["A"], "session": [at], "split": [split], "dividend": [dividend]})
    costs = Costs(commission_bps=0, min_fee=0, slippage_bps=0, **{cost: 0.1})
    found = []
    for name in "AB":
        plan = targets(prices, [(29, {name: 1.0})])
        made = simulate(plan, prices, costs, cash=1e5, first_row=0, last_row=n - 1, actions=act)
        order = made.orders.row(0, named=True)
        slipped = order["price"] / order["reference"] - 1
        found.append(slipped / order["size"] ** 0.5 if cost == "impact" else slipped)
    assert found[0] == pytest.approx(found[1], rel=1e-9)


def test_own_weights_long_and_short_are_told_apart() -> None:
    day = days(30)
    frame = bars({name: walk(i, 30) for i, name in enumerate("ABC")}, day)
    weight = {"A": 0.65, "B": 0.65, "C": -0.3}
    own = pl.DataFrame(
        [(day[i], name, w) for i in range(0, 25, 5) for name, w in weight.items()],
        schema=["date", "symbol", "weight"],
        orient="row",
    )
    settings = BacktestSettings(short=True, leverage=1.6, **FREE_FLAT)
    found = run_backtest(frame, None, settings, weights=own).strategy.metrics
    shown = (found.exposure, found.net_exposure, found.long_exposure, found.short_exposure)
    assert shown == pytest.approx((1.6, 1.0, 1.3, 0.3), abs=0.03)


@pytest.mark.parametrize("weighting", ["equal", "score", "inverse_volatility"])
@pytest.mark.parametrize("values", [1, 2, 9])
def test_scores_of_few_values_trade_or_hold_nothing(weighting: str, values: int) -> None:
    day = days(30)
    frame = bars({name: walk(i, 30) for i, name in enumerate("ABCDEFGHIJ")}, day)
    rows = [
        (day[i], name, float((3 * i + 7 * j) % values) / 8)
        for i in range(0, 25, 5)
        for j, name in enumerate("ABCDEFGHIJ")
    ]
    settings = BacktestSettings(strategy="longshort", quantile=0.3, weighting=weighting)
    made = run_backtest(frame, None, settings, scores=scores(rows))
    assert (made.strategy.orders.height > 0) == (values > 1)
    assert any("held nothing" in caveat for caveat in made.caveats) == (values == 1)


def test_a_split_while_suspended_creates_no_money() -> None:
    frame = bars({"A": [20, 20, 20, None, None, 10, 10], "B": [5] * 7})
    act = pl.DataFrame(
        {"symbol": ["A"], "session": [days(4)[3]], "split": [2.0], "dividend": [0.0]}
    )
    prices = table(frame)
    plan = targets(prices, [(0, {"A": 1.0})])
    made = simulate(plan, prices, FREE, cash=1000, first_row=0, last_row=6, actions=act)
    assert made.daily["equity"].to_list() == [1000.0] * 7


def _first_weight(series: list[float | None], target: float) -> float:
    n = len(series)
    frame = bars({"N": series, "Z": walk(9, n)})
    day = days(n)[n - 3]
    made = run_backtest(
        frame,
        None,
        BacktestSettings(k=1, volatility_target=target, **FREE_FLAT, cash=10000),
        scores=scores([(day, "N", 1.0), (day, "Z", 0.0)]),
    )
    if not made.strategy.orders.height:
        return 0.0
    order = made.strategy.orders.row(0, named=True)
    return order["size"] * float(series[n - 3] or 0) / 10000


def test_a_new_listing_or_a_suspended_name_is_as_wild_as_its_known_returns() -> None:
    change = np.random.default_rng(5).normal(0, 0.04, 80)
    price = list(100 * np.cumprod(1 + change))
    known = 0.1 / float(np.sqrt(np.mean(change[71:78] ** 2) * 252))
    late = [None] * 70 + price[70:]
    assert _first_weight(late, 0.1) == pytest.approx(known, abs=0.01)
    halted = [*price[:30], *[None] * 40, *price[70:]]
    assert _first_weight(halted, 0.1) < 1.25 * _first_weight(list(price), 0.1)
    assert _first_weight([None] * 75 + price[75:], 0.1) == 0, "two returns are not an estimate"
    padded = [price[70]] * 70 + price[70:]
    assert _first_weight(padded, 0.1) == pytest.approx(known, abs=0.01), "filled up by its source"


def test_exposure_is_told_gross_net_long_and_short() -> None:
    day = days(30)
    frame = bars({name: walk(i, 30) for i, name in enumerate("ABCDEFGHIJ")}, day)
    rows = [
        (day[i], name, float(j)) for i in range(0, 25, 5) for j, name in enumerate("ABCDEFGHIJ")
    ]
    settings = BacktestSettings(strategy="longshort", quantile=0.2, **FREE_FLAT, cash=10000)
    found = run_backtest(frame, None, settings, scores=scores(rows)).strategy.metrics
    assert 0.97 < found.exposure < 1.03
    assert abs(found.net_exposure) < 0.03
    assert found.long_exposure == pytest.approx(0.5, abs=0.02)
    assert found.short_exposure == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("kind", ["one constant date", "mostly ties"])
def test_names_tied_across_both_legs_are_in_neither(kind: str) -> None:
    day = days(30)
    frame = bars({name: walk(i, 30) for i, name in enumerate("ABCDEFGHIJ")}, day)

    def score(i: int, j: int) -> float:
        if kind == "mostly ties":
            return float(j >= 8)
        return 0.0 if i == 5 else float(j)

    rows = [(day[i], s, score(i, j)) for i in range(0, 25, 5) for j, s in enumerate("ABCDEFGHIJ")]
    settings = BacktestSettings(
        strategy="longshort", quantile=0.3 if kind == "mostly ties" else 0.2, **FREE_FLAT, cash=1e4
    )
    made = run_backtest(frame, None, settings, scores=scores(rows))
    assert (made.strategy.orders.height == 0) == (kind == "mostly ties")
    assert any("held nothing" in caveat for caveat in made.caveats)


def test_one_names_stray_bar_does_not_cancel_the_others_orders() -> None:
    day = days(8, "2024-01-02")
    saturday = dt.date(2024, 1, 6)
    dates = sorted([*day, saturday])
    at = dates.index(saturday)
    closes = {name: [10.0 + 0.1 * i for i in range(9)] for name in "ABCD"}
    prices = {
        name: [None if i == at and name != "A" else p for i, p in enumerate(closes[name])]
        for name in "ABCD"
    }
    for names in ("ABCD", "AB"):
        frame = bars({name: prices[name] for name in names}, dates)
        rows = [(day[3], name, 1.0) for name in names]
        settings = BacktestSettings(k=4, **FREE_FLAT)
        made = run_backtest(frame, None, settings, scores=scores(rows))
        assert sorted(made.strategy.orders["symbol"]) == list(names)
        assert made.strategy.untraded.height == 0


def test_one_names_late_bar_does_not_move_the_close_of_the_session() -> None:
    frame = bars({"A": [10.0] * 8, "B": [20.0] * 8, "C": [30.0] * 8})
    late = frame.filter((pl.col("symbol") == "A") & (pl.col("session") == days(8)[3])).with_columns(
        pl.col("timestamp").dt.offset_by("22h"), pl.col("close_utc").dt.offset_by("2h")
    )
    rows = [(days(8)[3], name, 1.0) for name in "ABC"]
    made = run_backtest(
        pl.concat([frame, late]), None, BacktestSettings(k=3, **FREE_FLAT), scores=scores(rows)
    )
    assert sorted(made.strategy.orders["symbol"]) == ["A", "B", "C"]


def test_a_ruined_account_ends_and_has_no_ratios() -> None:
    day = days(40)
    rising = [10.0] * 20 + [10.0 * 1.5**i for i in range(1, 21)]
    frame = bars({"A": rising, "B": [10.0] * 40, "C": [10.0] * 40}, day)
    rows = [(day[5], "A", -1.0), (day[5], "B", 0.0), (day[5], "C", 1.0)]
    settings = BacktestSettings(
        strategy="longshort", quantile=0.34, **FREE_FLAT, gross=2.0, leverage=2
    )
    made = run_backtest(frame, None, settings, scores=scores(rows))
    found = made.strategy.metrics
    assert found.ruined
    assert np.isnan([found.sharpe, found.sortino, found.deflated_sharpe]).all()
    assert found.total_return <= -1
    assert made.strategy.daily.height < made.equal_weight.daily.height
    assert any("RUIN" in caveat for caveat in made.caveats)


def test_a_decision_due_on_a_margin_calls_bar_is_dropped_and_counted() -> None:
    prices = table(bars({"A": [10, 10, 10, 7, 7, 7, 7], "B": [5] * 7}))
    plan = targets(prices, [(0, {"A": 2.0}), (3, {"B": 1.0})])
    rules = Rules(leverage=2, maintenance=0.4)
    made = simulate(plan, prices, FREE, rules, cash=1000, first_row=0, last_row=6)
    assert made.orders["kind"].to_list() == ["decision", "margin call"]
    assert made.untraded["reason"].to_list() == ["margin call on the same bar"]
