"""The traps that backtests fall into, one by one, with numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from backtest.fills.costs import Costs
from backtest.fills.inputs import Targets
from backtest.fills.prices import PriceTable, bar_volatility, known_returns, price_table
from backtest.fills.rules import Rules
from backtest.fills.simulate import simulate
from backtest.fills.simulation import Simulation
from backtest.scores.momentum import momentum_scores
from backtest.weights.risk import volatility_and_beta
from tests.backtest.made_up import Market, random_market, weekdays

FREE = Costs(commission_bps=0, min_fee=0, slippage_bps=0)


def table(opens: Any, closes: Any, *, volume: Any = None, recovery: float = 1.0) -> PriceTable:
    """A price table of A, B, …; highs and lows are 1% beyond open and close."""
    closes = np.array(closes, float)
    market = Market(
        tuple("ABCDEFGH"[: closes.shape[1]]), weekdays(len(closes)), np.array(opens, float), closes
    )
    bars = market.bars
    if volume is not None:
        rows = np.nonzero(np.isfinite(closes))
        given = pl.DataFrame(
            {
                "symbol": [market.symbols[c] for c in rows[1]],
                "session": [market.days[r] for r in rows[0]],
                "volume": np.broadcast_to(np.array(volume, float), closes.shape)[rows],
            }
        )
        bars = bars.drop("volume").join(given, on=["symbol", "session"])
    return price_table(bars, list(market.symbols), recovery=recovery, max_gap_sessions=2)


def wanted(*decisions: tuple[int, dict[int, float]]) -> Targets:
    sizes = [len(weights) for _, weights in decisions]
    return Targets(
        np.array([0, len(decisions)]),
        np.array([row for row, _ in decisions]),
        np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        np.array([c for _, weights in decisions for c in weights], np.int64),
        np.array([w for _, weights in decisions for w in weights.values()], float),
    )


def run(
    targets: Targets,
    prices: PriceTable,
    costs: Costs = FREE,
    rules: Rules = Rules(),
    cash: float = 1000.0,
    **more: Any,
) -> Simulation:
    last = len(prices.close_utc_T) - 1
    return simulate(targets, prices, costs, rules, cash=cash, first_row=0, last_row=last, **more)


def test_shares_are_fixed_at_the_decision_and_fill_at_the_next_open() -> None:
    prices = table([[10], [12], [12]], [[10], [15], [15]])
    made = run(wanted((0, {0: 0.5})), prices)
    order = made.orders.row(0, named=True)
    assert (order["size"], order["price"]) == (50.0, 12.0), "500 / 10 shares, at 12"
    assert made.daily["equity"].to_list() == [1000.0, 1000 + 50 * 3, 1150.0]


@pytest.mark.parametrize(("lag", "price"), [(1, 11.0), (2, 12.0), (3, 13.0)])
def test_a_lag_is_in_bars(lag: int, price: float) -> None:
    opens = [[10.0], [11.0], [12.0], [13.0], [14.0]]
    made = run(wanted((0, {0: 0.5})), table(opens, opens), rules=Rules(lag=lag))
    assert made.orders["price"].to_list() == [price]


@pytest.mark.parametrize(("fill", "price"), [("open", 10.0), ("close", 14.0), ("vwap", 12.01)])
def test_the_fill_price_is_the_one_asked_for(fill: Any, price: float) -> None:
    made = run(wanted((0, {0: 0.5})), table([[10], [10]], [[10], [14]]), rules=Rules(fill=fill))
    # vwap: (10 + 14.14 + 9.9 + 14) / 4
    assert made.orders["price"].to_list() == [pytest.approx(price)]


def test_a_limit_judged_at_the_open_differs_from_one_judged_at_the_close() -> None:
    # Up 10% at the open of bar 1 and back by its close; flat at the open of bar 2, up at its close.
    opens, closes = [[10], [11], [10]], [[10], [10], [11]]
    rules = Rules(limit=0.1)
    blocked = run(wanted((0, {0: 0.5})), table(opens, closes), rules=rules)
    assert blocked.orders.height == 0
    assert blocked.untraded["reason"].to_list() == ["price limit"]
    filled = run(wanted((1, {0: 0.5})), table(opens, closes), rules=rules)
    assert filled.orders["price"].to_list() == [10.0], "its close says nothing about its open"
    at_close = Rules(limit=0.1, fill="close")
    assert run(wanted((0, {0: 0.5})), table(opens, closes), rules=at_close).orders.height == 1
    assert run(wanted((1, {0: 0.5})), table(opens, closes), rules=at_close).orders.height == 0


def test_a_limit_down_blocks_sells_and_not_buys() -> None:
    opens = [[10], [10], [9], [9]]
    made = run(wanted((0, {0: 0.5}), (1, {})), table(opens, opens), rules=Rules(limit=0.1))
    assert made.orders["side"].to_list() == ["buy"]
    assert run(wanted((1, {0: 0.5})), table(opens, opens), rules=Rules(limit=0.1)).orders.height


@pytest.mark.parametrize("recovery", [0.0, 0.3])
def test_a_name_that_dies_hurts(recovery: float) -> None:
    closes = np.full((12, 2), 10.0)
    closes[4:, 0] = np.nan
    made = run(wanted((0, {0: 0.5, 1: 0.5})), table(closes, closes, recovery=recovery))
    assert made.daily["equity"][-1] == pytest.approx(500 + 500 * recovery)
    assert made.orders.filter("settled")["price"].to_list() == [pytest.approx(10 * recovery)]


def test_no_volume_no_fill_and_the_rest_is_carried_or_cancelled() -> None:
    opens = np.full((5, 1), 10.0)
    volume = [[100], [0], [200], [100], [100]]
    prices = table(opens, opens, volume=volume)
    cancelled = run(wanted((0, {0: 1.0})), prices, rules=Rules(participation=0.2))
    assert cancelled.orders.height == 0
    assert cancelled.untraded["reason"].to_list() == ["volume"]
    carried = run(wanted((0, {0: 1.0})), prices, rules=Rules(participation=0.2, carry=True))
    assert carried.orders["size"].to_list() == [40.0, 20.0, 20.0]
    assert carried.orders["timestamp"].dt.day().to_list() == [8, 9, 10]
    halved = run(wanted((1, {0: 1.0})), prices, rules=Rules(participation=0.2))
    assert halved.orders["size"].to_list() == [40.0], "the rest is cancelled"


def test_impact_is_the_square_root_law_and_unknown_volume_does_not_trade() -> None:
    rng = np.random.default_rng(0)
    closes = 10 * np.exp(np.cumsum(rng.normal(0, 0.02, (12, 1)), axis=0))
    prices = table(closes, closes, volume=np.full((12, 1), 400.0))
    made = run(
        wanted((8, {0: 0.5})),
        prices,
        Costs(commission_bps=0, min_fee=0, slippage_bps=0, impact=2.0),
    )
    order = made.orders.row(0, named=True)
    returns = np.diff(np.log(closes[:9, 0]))
    sigma = np.sqrt(np.mean(returns**2))
    expected = closes[9, 0] * (1 + 2 * sigma * np.sqrt(order["size"] / 400))
    assert order["price"] == pytest.approx(expected)
    assert made.totals["impact"] == pytest.approx(order["slippage"])
    none = run(wanted((8, {0: 0.5})), table(closes, closes, volume=0), Costs(impact=2.0))
    assert none.untraded["reason"].to_list() == ["volume"]


def test_a_split_of_raw_prices_leaves_equity_unchanged() -> None:
    opens = [[20], [20], [10], [10], [10]]
    action = {"symbol": "A", "session": weekdays(5)[2], "split": 2.0, "dividend": 0.0}
    actions = pl.DataFrame([action])
    made = run(wanted((0, {0: 1.0})), table(opens, opens), actions=actions)
    assert made.daily["equity"].to_list() == [1000.0] * 5
    late = run(wanted((1, {0: 1.0})), table(opens, opens), actions=actions)
    assert late.orders["size"].to_list() == [100.0], "50 shares decided before the split are 100"


def test_a_dividend_of_raw_prices_is_paid_to_holders() -> None:
    opens = [[20], [20], [19], [19]]
    action = {"symbol": "A", "session": weekdays(5)[2], "split": 1.0, "dividend": 1.0}
    made = run(wanted((0, {0: 1.0})), table(opens, opens), actions=pl.DataFrame([action]))
    assert made.daily["equity"].to_list() == [1000.0] * 4
    assert made.daily["cash"].to_list() == [1000.0, 0.0, 50.0, 50.0]
    assert made.totals["dividends"] == 50.0


def test_lots_are_of_raw_shares_and_profits_of_adjusted_prices() -> None:
    # Adjusted prices are half the raw ones (factor 0.5): 100 adjusted shares are 50 raw ones.
    opens = [[10], [10], [11], [11]]
    made = run(
        wanted((0, {0: 0.9}), (1, {})),
        table(opens, opens),
        rules=Rules(lot=20),
        factor_TN=np.array([[0.5]]),
    )
    # 90 adjusted = 45 raw shares -> 40 raw = 80 adjusted; sold whole.
    assert made.orders["size"].to_list() == [80.0, 80.0]
    assert made.daily["equity"][-1] == pytest.approx(1000 + 80)


def test_selling_out_is_never_rounded_to_lots() -> None:
    opens = [[10.0]] * 5
    rules = Rules(lot=7, participation=0.1)
    prices = table(opens, opens, volume=[[1000]] * 2 + [[1000]] * 3)
    made = run(wanted((0, {0: 1.0}), (2, {})), prices, rules=rules)
    assert made.orders["size"].to_list() == [98.0, 98.0]


def test_what_was_bought_this_session_cannot_be_sold_in_it() -> None:
    prices = table([[10.0]] * 6, [[10.0]] * 6)
    two_a_day = PriceTable(
        **{
            **{name: getattr(prices, name) for name in prices.__dataclass_fields__},
            "sessions_T": np.repeat(prices.sessions_T[::2], 2),
        }
    )
    decisions = wanted((1, {0: 1.0}), (2, {}), (3, {}))
    made = run(decisions, two_a_day, rules=Rules(t_plus_one=True))
    assert made.untraded["reason"].to_list() == ["bought this session"]
    assert made.orders["timestamp"].to_list() == [prices.labels_T[2], prices.labels_T[4]]


def test_interest_and_borrowing_by_hand() -> None:
    opens = [[10.0, 10.0]] * 4
    costs = Costs(
        commission_bps=0,
        min_fee=0,
        slippage_bps=0,
        borrow_bps=252.0,
        cash_rate=0.252,
        debit_rate=0.504,
    )
    cash_only = run(wanted((0, {})), table(opens, opens), costs)
    assert cash_only.daily["equity"].to_list() == pytest.approx([1000 * 1.001**i for i in range(4)])
    short = run(wanted((0, {0: -0.5})), table(opens, opens), costs, Rules(short=True, leverage=1.0))
    # Bar 1: 1000 + 1 of interest, then short 50 at 10: cash 1501; bar 2: + 1.501 - 500 · 1bp.
    assert short.daily["cash"].to_list()[:3] == pytest.approx([1000, 1501, 1501 + 1.501 - 0.05])
    levered = run(wanted((0, {0: 1.5})), table(opens, opens), costs, Rules(leverage=2.0))
    assert levered.daily["cash"][1] == pytest.approx(1001 - 1500)
    assert levered.daily["cash"][2] == pytest.approx(-499 * 1.002)


def test_the_leverage_limit_holds_at_the_fill() -> None:
    opens, closes = [[10], [20], [20]], [[10], [20], [20]]
    made = run(wanted((0, {0: 2.0})), table(opens, closes), rules=Rules(leverage=2.0))
    # 200 shares wanted; at 20 a gross of 2 · 1000 allows 100.
    assert made.orders["size"].to_list() == [100.0]


def test_a_margin_call_sells_everything() -> None:
    opens = [[10], [10], [6], [6], [6]]
    closes = [[10], [10], [6], [6], [6]]
    rules = Rules(leverage=2.0, maintenance=0.25)
    made = run(wanted((0, {0: 2.0})), table(opens, closes), rules=rules)
    # Equity 200 on a gross of 1200 at bar 2: sold at bar 3.
    assert made.orders["margin_call"].to_list() == [False, True]
    assert made.totals["calls"] == 1
    assert made.daily["invested"][-1] == 0.0


def test_buys_compete_for_cash_in_the_listed_order_after_all_sells() -> None:
    opens = [[10.0, 10.0, 10.0], [10.0, 20.0, 20.0], [10.0, 20.0, 20.0]]
    closes = [[10.0, 10.0, 10.0], [10.0, 10.0, 10.0], [10.0, 10.0, 10.0]]
    made = run(wanted((0, {2: 0.5, 1: 0.5})), table(opens, closes))
    # 50 shares each at 20: the first takes all the cash.
    assert made.orders.select("symbol", "size").rows() == [("C", 50.0)]
    assert made.untraded.select("symbol", "reason").rows() == [("B", "no cash")]
    turned = run(wanted((0, {0: 1.0}), (1, {1: 0.5})), table(opens, closes))
    assert turned.orders["symbol"].to_list() == ["A", "A", "B"]


def test_history_before_the_warm_up_changes_nothing_after_it() -> None:
    rng = np.random.default_rng(3)
    closes = 10 * np.exp(np.cumsum(rng.normal(0, 0.02, (200, 6)), axis=0))
    whole, recent = table(closes, closes), table(closes[60:], closes[60:])
    rows = np.arange(130, 195, 5)
    early, late = (
        bar_volatility(known_returns(whole))[130:],
        bar_volatility(known_returns(recent))[70:],
    )
    assert early.tobytes() == late.tobytes()
    for a, b in zip(
        volatility_and_beta(known_returns(whole), rows),
        volatility_and_beta(known_returns(recent), rows - 60),
        strict=True,
    ):
        assert a.tobytes() == b.tobytes()
    scores = momentum_scores(whole, rows, 60, 5)["score"]
    assert scores.equals(momentum_scores(recent, rows - 60, 60, 5)["score"])


def test_volatility_of_a_bar_is_known_before_it() -> None:
    closes = np.abs(random_market(1).close_TN)
    change = closes[1:] / closes[:-1] - 1
    poisoned = change.copy()
    poisoned[50:] = 999.0
    before, after = bar_volatility(change), bar_volatility(poisoned)
    assert before[:51].tobytes() == after[:51].tobytes()
