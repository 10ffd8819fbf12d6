"""What a book does with forecasts: when it trades, at what price, and what it cannot know."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backtest import BacktestResult
from tests.backtest.made_up import Market, random_market, random_scores, weekdays

Run = Callable[..., BacktestResult]
REBALANCES = range(10, 60, 5)


def two_symbols(open_TN: list[list[float]], close_TN: list[list[float]]) -> Market:
    return Market(("A", "B"), weekdays(len(close_TN)), np.array(open_TN), np.array(close_TN))


def test_every_order_fills_at_the_next_open_and_slips_against_the_trader(run: Run) -> None:
    market = random_market(1)
    table = market.forecasts(random_scores(market, 2, REBALANCES))
    result = run(market, table, k=4, slippage_bps=7.0)
    close_of = {day: i for i, day in enumerate(market.days)}
    assert result.strategy.orders.height > 20
    for order in result.strategy.orders.iter_rows(named=True):
        row = close_of[order["timestamp"].date()]
        assert close_of[order["as_of"].date()] == row - 1
        opened = market.open_TN[row, market.symbols.index(order["symbol"])]
        slip = 1 + 0.0007 if order["side"] == "buy" else 1 - 0.0007
        assert order["price"] == opened * slip


@pytest.mark.parametrize("t", [12, 30, 31, 44])
def test_changing_everything_after_t_changes_nothing_up_to_t(run: Run, t: int) -> None:
    market = random_market(5)
    scores = random_scores(market, 6, REBALANCES)
    rng = np.random.default_rng(7)
    poisoned_close, poisoned_open = market.close_TN.copy(), market.open_TN.copy()
    shape = poisoned_close[t + 1 :].shape
    poisoned_close[t + 1 :] = np.where(rng.random(shape) < 0.1, np.nan, rng.uniform(1, 900, shape))
    poisoned_close[-1] = 5.0
    poisoned_open[t + 1 :] = poisoned_close[t + 1 :] * 1.3
    poisoned = Market(market.symbols, market.days, poisoned_open, poisoned_close)
    other = {
        row: random_scores(market, 99, [row])[row] if row > t else scores[row] for row in scores
    }
    costs = {"k": 4, "commission_bps": 5.0, "min_fee": 90.0, "slippage_bps": 5.0}
    clean = run(market, market.forecasts(scores), **costs)
    after = run(poisoned, poisoned.forecasts(other), **costs)
    known = pl.col("timestamp") <= pl.lit(market.days[t])
    for book, poisoned_book in zip(clean.books, after.books, strict=True):
        assert_frame_equal(
            book.daily.filter(known), poisoned_book.daily.filter(known), check_exact=True
        )
        assert_frame_equal(
            book.orders.filter(known), poisoned_book.orders.filter(known), check_exact=True
        )
    assert not clean.strategy.daily.equals(after.strategy.daily)


def test_foreseeing_tomorrows_jump_earns_nothing_because_the_fill_comes_after_it(run: Run) -> None:
    jump = [[10.0, 10.0]] * 5 + [[10.0, 15.0]] * 5
    market = two_symbols(jump, jump)
    foresight = {t: [0.0, jump[t + 1][1] / jump[t][1] - 1] for t in range(2, 8)}
    result = run(market, market.forecasts(foresight, horizon=1), k=1)
    bought = result.strategy.orders.filter(symbol="B", side="buy")
    assert bought["price"].to_list() == [15.0]
    np.testing.assert_allclose(result.strategy.daily["equity"], 1_000_000.0, rtol=1e-12)


def test_a_gain_inside_the_next_session_is_earned(run: Run) -> None:
    closes = [[10.0, 10.0]] * 3 + [[12.0, 10.0]] * 3
    opens = [[10.0, 10.0]] * 4 + [[12.0, 10.0]] * 2
    market = two_symbols(opens, closes)
    result = run(market, market.forecasts({2: [0.1, 0.0]}, horizon=2), k=1)
    assert result.strategy.daily["equity"].to_list() == pytest.approx([1e6, 1.2e6, 1.2e6])


def test_cash_and_positions_add_up_to_the_equity_of_every_close(result: BacktestResult) -> None:
    for book in result.books:
        cash, shares = result.settings.cash, dict[str, float]()
        by_day = book.orders.partition_by("timestamp", as_dict=True)
        marks = dict[str, float]()
        closes = random_market(3).bars
        gone_since = closes["timestamp"].unique().sort()[60]
        closes = closes.filter((pl.col("symbol") != "S05") | (pl.col("timestamp") < gone_since))
        names = {"S00": "<b>&AMP", "S01": "BRK.B"}
        for day in book.daily.iter_rows(named=True):
            for order in by_day.get((day["timestamp"],), book.orders.clear()).iter_rows(named=True):
                sign = 1 if order["side"] == "buy" else -1
                shares[order["symbol"]] = shares.get(order["symbol"], 0.0) + sign * order["size"]
                cash -= sign * order["value"] + order["fee"]
            for bar in closes.filter(timestamp=day["timestamp"]).iter_rows(named=True):
                marks[names.get(bar["symbol"], bar["symbol"])] = bar["close"]
            worth = sum(n * marks[symbol] for symbol, n in shares.items() if n > 1e-9)
            assert day["equity"] == pytest.approx(cash + worth, rel=1e-12)
            assert day["cash"] >= -1e-6
            assert day["invested"] + day["cash"] == pytest.approx(day["equity"], rel=1e-15)


@given(
    seed=st.integers(0, 10_000),
    cash=st.sampled_from([3_000.0, 100_000.0, 5e6]),
    bps=st.sampled_from([0.0, 3.0, 25.0]),
    floor=st.sampled_from([0.0, 1.0, 17.0]),
)
def test_each_commission_is_the_rate_or_the_floor_whichever_is_more(
    run: Run, seed: int, cash: float, bps: float, floor: float
) -> None:
    market = random_market(seed)
    table = market.forecasts(random_scores(market, seed + 1, REBALANCES))
    result = run(market, table, k=5, cash=cash, commission_bps=bps, min_fee=floor)
    for book in result.books:
        due = np.maximum(book.orders["value"].to_numpy() * bps / 1e4, floor)
        due[book.orders["settled"].to_numpy()] = 0.0
        np.testing.assert_allclose(book.orders["fee"].to_numpy(), due, rtol=1e-9, atol=1e-9)
        assert book.daily["cash"].min() >= -1e-6


def test_a_floor_between_two_order_values_charges_each_side_right(run: Run) -> None:
    flat = [[10.0, 10.0]] * 12
    market = two_symbols(flat, flat)
    table = market.forecasts({2: [0.1, 0.2], 4: [0.1, None], 6: [0.2, 0.1]}, horizon=1)
    result = run(market, table, k=2, cash=10_000.0, commission_bps=10.0, min_fee=6.0)
    orders = result.strategy.orders
    assert orders["fee"][0] == 6.0
    both = set(
        zip((orders["value"] >= 6_000).to_list(), (orders["fee"] > 6).to_list(), strict=True)
    )
    assert both <= {(False, False), (True, True)}


def test_a_name_without_a_score_is_never_bought(run: Run) -> None:
    market = random_market(8)
    scores = random_scores(market, 9, REBALANCES)
    for row in scores.values():
        row[3] = None
    result = run(market, market.forecasts(scores), k=len(market.symbols))
    assert "S03" not in result.strategy.orders["symbol"]
    assert "S03" in result.equal_weight.orders["symbol"]
    assert any("scores are missing" in caveat for caveat in result.caveats)


def test_a_date_without_any_score_goes_to_cash(run: Run) -> None:
    market = random_market(10, n_symbols=4)
    scores = random_scores(market, 11, [20, 25, 30])
    scores[25] = [None] * 4
    daily = run(market, market.forecasts(scores), k=2).strategy.daily
    assert daily["invested"][6:11].to_list() == [0.0] * 5
    assert daily["invested"][12] > 0


@pytest.mark.parametrize("recovery", [1.0, 0.4, 0.0])
def test_a_delisted_name_pays_its_recovery_once_silent_for_too_long(
    run: Run, recovery: float
) -> None:
    close = np.full((30, 2), 20.0)
    close[12:, 0] = np.nan
    market = Market(("A", "B"), weekdays(30), close, close)
    costs = {"commission_bps": 10.0, "min_fee": 5.0}
    table = market.forecasts({8: [0.1, 0.0], 20: [0.0, 0.1]}, horizon=9)
    result = run(market, table, k=1, cash=1_000.0, recovery=recovery, **costs)
    settled = result.strategy.orders.filter("settled")
    assert settled["timestamp"].dt.date().to_list() == [market.days[17]]
    assert settled["fee"].to_list() == [0.0]
    assert settled["price"][0] == pytest.approx(20 * recovery, abs=1e-9)
    invested = (1_000.0 - 5) / 20
    at = result.strategy.daily.filter(pl.col("timestamp").dt.date() == market.days[17])
    assert at["equity"][0] == pytest.approx(invested * 20 * recovery, abs=1e-6)
    assert at["invested"][0] == 0.0
    assert any(caveat.startswith("Delisted names: 1 in the bars, 1") for caveat in result.caveats)
    realised = result.scores.filter(symbol="A")["realised"][0]
    assert realised == pytest.approx(recovery - 1)


def test_bars_cut_before_a_payout_know_nothing_of_it(run: Run) -> None:
    """Removing bars after t, or reading on, changes nothing up to t around a delisting."""
    close = np.full((30, 2), 20.0)
    close[12:, 0] = np.nan
    whole = Market(("A", "B"), weekdays(30), close, close)
    cut = Market(("A", "B"), weekdays(17), close[:17], close[:17])
    daily = [
        run(market, market.forecasts({8: [0.1, 0.0]}), k=1, recovery=0.5).strategy.daily.head(9)
        for market in (whole, cut)
    ]
    assert daily[0].equals(daily[1])


def test_a_name_silent_for_a_few_sessions_is_carried_at_its_last_close(run: Run) -> None:
    close = np.full((20, 2), 20.0)
    close[15:, 0] = np.nan
    market = Market(("A", "B"), weekdays(20), close, close)
    result = run(market, market.forecasts({10: [0.1, 0.0]}, horizon=9), k=1, max_gap_sessions=5)
    assert not result.strategy.orders["settled"].any()
    assert result.strategy.daily["invested"][-1] == pytest.approx(1e6)


def test_a_name_without_a_next_open_is_left_alone_and_reported(run: Run) -> None:
    close = np.full((20, 3), 20.0)
    close[[6, 11], 0] = np.nan
    market = Market(("A", "B", "C"), weekdays(20), close, close)
    table = market.forecasts({5: [0.2, 0.1, 0.0], 8: [0.2, 0.1, 0.0], 10: [0.0, 0.1, 0.2]})
    result = run(market, table, k=2)
    assert result.strategy.untraded.select("symbol", "weight", "held", "reason").rows() == [
        ("A", 0.5, False, "no price"),
        ("A", 0.0, True, "no price"),
        ("C", 0.5, False, "no cash"),
    ]
    daily = result.strategy.daily
    assert daily["cash"][1] == pytest.approx(5e5), "A's share stays in cash"
    last = result.strategy.orders.filter(as_of=table.filter(step=1)["as_of"].max())
    assert last["symbol"].to_list() == [], "C could not be paid: A could not be sold"


def test_late_listings_and_sells_before_buys(run: Run) -> None:
    """A name not listed yet must not upset the order of sells and buys."""
    close = np.full((30, 4), 20.0)
    close[:25, 1] = np.nan
    market = Market(("A", "B", "C", "D"), weekdays(30), close, close)
    table = market.forecasts({5: [0.1, 0, 0.5, 0.6], 10: [0.7, 0, 0.1, 0.6], 26: [0, 0.9, 0.1, 0]})
    result = run(market, table, k=1)
    bought = result.strategy.orders.filter(side="buy")["symbol"].to_list()
    assert bought == ["D", "A", "B"]
    assert result.strategy.daily["invested"][1:].min() == pytest.approx(1e6)


def test_benchmarks_by_hand(run: Run) -> None:
    opens = [[10, 10], [10, 10], [12, 10], [12, 12], [12, 12], [12, 12]]
    closes = [[10, 10], [12, 10], [12, 12], [12, 12], [15, 12], [15, 12]]
    market = two_symbols(np.array(opens, float).tolist(), np.array(closes, float).tolist())
    table = market.forecasts({0: [0.1, 0.0], 2: [0.0, 0.1]}, horizon=2)
    result = run(market, table, k=1, cash=1_200.0)
    # 60 shares of each at 10; at row 3 both trade at 12 and are worth 720 each.
    hold = [1200, 60 * 12 + 60 * 10, 60 * 12 + 60 * 12, 1440, 60 * 15 + 60 * 12]
    assert result.buy_and_hold.daily["equity"].to_list() == pytest.approx(hold)
    assert result.equal_weight.daily["equity"].to_list() == pytest.approx(hold)
    assert result.buy_and_hold.orders.height == 2
    # The strategy holds 120 A from row 1 and 120 B from row 3.
    assert result.strategy.daily["equity"].to_list() == pytest.approx(
        [1200, 1440, 1440, 1440, 1440]
    )
    assert result.strategy.rebalances["turnover"].to_list() == pytest.approx([0.5, 1.0])


def test_equal_weight_rebalances_back_to_equal(run: Run) -> None:
    closes = [[10.0, 10.0]] * 2 + [[30.0, 10.0]] * 4
    market = two_symbols(closes, closes)
    table = market.forecasts({0: [0.1, 0.0], 3: [0.0, 0.1]}, horizon=2)
    orders = run(market, table, cash=1_000.0).equal_weight.orders
    # 50 + 50 shares at 10; worth 1500 + 500 at row 4: sell 500 of A, buy 500 of B.
    assert orders.select("symbol", "side", "value").rows()[2:] == [
        ("A", "sell", pytest.approx(500.0)),
        ("B", "buy", pytest.approx(500.0)),
    ]


def test_a_decision_at_the_last_bar_is_not_filled(run: Run) -> None:
    market = random_market(12, n_days=30)
    result = run(market, market.forecasts(random_scores(market, 13, [10, 20, 29])), k=3)
    assert result.strategy.simulation.unfilled_decisions == 1
    assert result.strategy.rebalances.height == 2
    assert result.strategy.daily["timestamp"][-1].date() == market.days[-1]
    assert any(
        "too late to fill within the bars: 1 rebalance" in caveat for caveat in result.caveats
    )


def test_start_and_end_bound_the_backtest(run: Run) -> None:
    market = random_market(14)
    table = market.forecasts(random_scores(market, 15, REBALANCES))
    result = run(market, table, k=3, start=market.days[18], end=market.days[33])
    assert result.strategy.daily["timestamp"][0].date() == market.days[20]
    assert result.strategy.daily["timestamp"][-1].date() == market.days[33]
    assert result.strategy.rebalances.height == 3


def test_in_vectorbt_mode_the_orders_are_vectorbts(run: Run) -> None:
    """The whole way from scores, against a dense matrix of targets walked bar by bar."""
    import vectorbt as vbt

    market = random_market(16)
    table = market.forecasts(random_scores(market, 17, REBALANCES))
    result = run(market, table, k=4, commission_bps=10.0, slippage_bps=5.0, compat="vectorbt")
    target = np.full(market.close_TN.shape, np.nan)
    for t in REBALANCES:
        picks = result.scores.filter((pl.col("as_of_date") == market.days[t]) & pl.col("picked"))
        target[t + 1] = [0.25 * (s in picks["symbol"]) for s in market.symbols]
    marks = pl.DataFrame(market.close_TN).fill_nan(None).fill_null(strategy="forward").to_numpy()
    portfolio = vbt.Portfolio.from_orders(
        marks,
        size=target,
        size_type="targetpercent",
        direction="longonly",
        price=market.open_TN,
        fees=np.full(target.shape, 1e-3),
        fixed_fees=np.zeros(target.shape),
        slippage=np.full(target.shape, 5e-4),
        init_cash=1e6,
        cash_sharing=True,
        group_by=True,
        call_seq="auto",
        freq="D",
        engine="numba",
    )
    records = portfolio.order_records
    last = market.days.index(result.strategy.daily["timestamp"][-1].date())
    records = records[records["idx"] <= last]
    orders = result.strategy.orders
    assert orders["symbol"].to_list() == [market.symbols[c] for c in records["col"]]
    np.testing.assert_allclose(orders["size"].to_numpy(), records["size"], rtol=1e-12)
    np.testing.assert_allclose(orders["fee"].to_numpy(), records["fees"], rtol=1e-9)
