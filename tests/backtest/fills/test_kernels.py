"""The compiled simulator against its specification, and what must hold of any simulation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backtest.fills import oracle
from backtest.fills.costs import Costs
from backtest.fills.inputs import (
    MISS,
    NO_FLAGS,
    NO_FLOATS,
    ORDER,
    Inputs,
    Recorded,
    Targets,
    more_of,
)
from backtest.fills.kernels import simulate_nb
from backtest.fills.rules import Rules, configs
from backtest.fills.stats import N_TOTALS
from tests.backtest.fills.random_inputs import random_inputs, random_orders, random_targets

N_BARS, N_SYMBOLS = 40, 8


def walk(
    m: Inputs, targets: Targets, config: np.void, first: int, last: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Equity, cash, orders and misses of the kernel."""
    equity, cash, short = np.full((3, last - first + 1), np.nan)
    recorded, totals = Recorded(np.zeros(9999, ORDER), np.zeros(9999, MISS)), np.zeros(N_TOTALS)
    more = more_of(m, targets, np.array([config]))
    orders, misses = simulate_nb(
        m, targets, config, first, last, equity, cash, short, totals, recorded, more
    )
    return equity, cash, recorded.orders[:orders], recorded.misses[:misses]


@dataclass(frozen=True)
class Case:
    """A configuration and the seed of its market and decisions."""

    seed: int
    costs: Costs
    rules: Rules
    money: float
    terms: bool = False
    """Whether symbols have terms of their own, actions funding, and orders wait on thin bars."""
    orders: bool = False
    """Whether decisions are orders instead of target weights."""

    def made(self) -> tuple[Inputs, Targets, np.void]:
        rng = np.random.default_rng(self.seed)
        m = random_inputs(rng, N_BARS, N_SYMBOLS)
        if self.rules.fill == "close":
            m = m._replace(fill_TN=np.where(np.isnan(m.fill_TN), np.nan, m.mark_TN))
        if not self.terms:
            m = m._replace(
                funding_A=NO_FLOATS, limit_N=NO_FLOATS, rate_N=NO_FLOATS, borrow_N=NO_FLOATS,
                thin_T=NO_FLAGS,
            )  # fmt: skip
        targets = random_targets(
            rng, N_BARS, N_SYMBOLS, short=self.rules.short, leverage=self.rules.leverage
        )
        if self.orders:
            targets = random_orders(rng, targets)
        return m, targets, configs([(0, self.costs, self.rules, self.money)], 252)[0]


@st.composite
def cases(draw: st.DrawFn, more: bool | None = None) -> Case:
    """more: with the rules that compile apart, without them, or (None) either."""
    more = draw(st.booleans()) if more is None else more
    off = st.just(0.0)
    seed = draw(st.integers(0, 2**32 - 1))
    short = draw(st.booleans())
    leverage = draw(st.sampled_from([1.0, 1.0, 2.0]))
    costs = Costs(
        commission_bps=draw(st.sampled_from([0.0, 10.0])),
        commission_per_share=draw(st.sampled_from([0.0, 0.01])),
        min_fee=draw(st.sampled_from([0.0, 3.0, 40.0])),
        slippage_bps=draw(st.sampled_from([0.0, 5.0])),
        slippage_volatility=draw(st.sampled_from([0.0, 0.1])),
        impact=draw(st.sampled_from([0.0, 1.0])),
        borrow_bps=draw(st.sampled_from([0.0, 300.0])),
        cash_rate=draw(st.sampled_from([0.0, 0.05])),
        debit_rate=draw(st.sampled_from([0.0, 0.08])),
        max_fee=draw(st.sampled_from([0.0, 50.0]) if more else off),
        buy_tax_bps=draw(st.sampled_from([0.0, 7.0]) if more else off),
        sell_tax_bps=draw(st.sampled_from([0.0, 10.0]) if more else off),
        maker_bps=draw(st.sampled_from([None, -1.0, 2.0]) if more else st.none()),
        funding_bps=draw(st.sampled_from([0.0, 900.0, -900.0]) if more else off),
    )
    lag = draw(st.sampled_from([1, 1, 2, 3, 0]))
    rules = Rules(
        lag=lag,
        fill="close" if lag == 0 else draw(st.sampled_from(["open", "open", "close"])),
        allow_same_bar=lag == 0,
        inside_bar=draw(st.booleans()),
        participation=draw(st.sampled_from([0.0, 0.05, 0.5])),
        carry=draw(st.booleans()),
        lot=draw(st.sampled_from([0.0, 1.0, 100.0])),
        t_plus_one=draw(st.booleans()),
        limit=draw(st.sampled_from([0.0, 0.03])),
        short=short,
        leverage=leverage,
        maintenance=draw(st.sampled_from([0.0, 0.4])),
        tick=draw(st.sampled_from([0.0, 0.01, 0.5])),
        band=draw(st.sampled_from([0.0, 0.02]) if more else off),
        min_order=draw(st.sampled_from([0.0, 500.0]) if more else off),
        stop_loss=draw(st.sampled_from([0.0, 0.02, 0.1]) if more else off),
        trailing_stop=draw(st.sampled_from([0.0, 0.03, 0.1]) if more else off),
        take_profit=draw(st.sampled_from([0.0, 0.02, 0.1]) if more else off),
        max_bars=draw(st.sampled_from([0, 0, 3, 8]) if more else st.just(0)),
    )
    money = draw(st.sampled_from([2_000.0, 50_000.0, 1e6]))
    return Case(
        seed, costs, rules, money, more and draw(st.booleans()), more and draw(st.booleans())
    )


@given(case=cases(), first=st.integers(0, 5))
def test_the_kernel_does_what_the_specification_says(case: Case, first: int) -> None:
    m, targets, config = case.made()
    equity, cash, orders, misses = walk(m, targets, config, first, N_BARS - 1)
    book = oracle.simulate(m, targets, config, first, N_BARS - 1)
    np.testing.assert_allclose(equity, book.equity_T, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(cash, book.cash_T, rtol=1e-12, atol=1e-7)
    assert len(orders) == len(book.orders)
    if len(orders):
        np.testing.assert_allclose(
            np.array(orders.tolist()), np.array(book.orders), rtol=1e-12, atol=1e-9
        )
    assert len(misses) == len(book.misses)
    if len(misses):
        np.testing.assert_allclose(
            np.array(misses.tolist()), np.array(book.misses), rtol=1e-9, atol=1e-9
        )


RUINED_BY_FEES = Case(
    seed=0,
    costs=Costs(commission_bps=0.0, min_fee=40.0, slippage_bps=0.0),
    rules=Rules(lag=0, fill="close", allow_same_bar=True, leverage=2.0, tick=0.0),
    money=2_000.0,
)
"""The last equity is below zero with shares still held: the run ends there, their prices do not."""


@example(case=RUINED_BY_FEES)
@given(case=cases(more=False))
def test_what_must_hold_of_every_simulation(
    case: Case,
) -> None:
    rules, money = case.rules, case.money
    rates = {"borrow_bps": 0.0, "cash_rate": 0.0, "debit_rate": 0.0}
    free = case.costs.model_copy(update=rates)
    m, targets, config = replace(case, costs=free).made()
    m = m._replace(
        action_row_A=m.action_row_A[:0],
        action_column_A=m.action_column_A[:0],
        split_A=m.split_A[:0],
        dividend_A=m.dividend_A[:0],
    )
    equity, cash, orders, _ = walk(m, targets, config, 0, N_BARS - 1)
    trades = orders[orders["kind"] != 1]
    row, column, size = trades["row"], trades["column"], trades["size"]
    if not rules.margin:
        assert cash.min() >= 0
    # Nothing happens after the bar that leaves nothing, whatever prices do.
    alive = int(np.argmax(equity <= 0)) + 1 if (equity <= 0).any() else N_BARS
    assert (equity[alive:] == equity[alive - 1]).all()
    assert (orders["row"] < alive).all()
    # Cash and positions, rebuilt from the orders alone, are the equity of every bar until then.
    balance, shares = money, np.zeros(N_SYMBOLS)
    for t in range(alive):
        for order in orders[orders["row"] == t]:
            balance -= order["size"] * order["price"] + order["fee"]
            shares[order["column"]] += order["size"]
        shares[np.abs(shares) < 1e-9] = 0
        worth = balance + sum(shares[c] * m.mark_TN[t, c] for c in np.flatnonzero(shares))
        assert equity[t] == pytest.approx(worth, rel=1e-9, abs=1e-6)
    reference = m.fill_TN[row, column]
    assert np.array_equal(reference, trades["reference"])
    if not rules.inside_bar:
        assert ((trades["price"] - reference) * np.sign(size) >= 0).all()
    else:
        assert (trades["price"] >= m.low_TN[row, column]).all()
        assert (trades["price"] <= m.high_TN[row, column]).all()
    if rules.participation:
        cap = rules.participation * m.volume_TN[row, column]
        assert (np.abs(size) <= cap * (1 + 1e-12)).all()
    if not rules.short:
        assert (shares >= -1e-9).all()


@given(case=cases(), t=st.integers(3, N_BARS - 3))
def test_what_comes_after_t_changes_nothing_before(case: Case, t: int) -> None:
    m, targets, config = case.made()
    clean = walk(m, targets, config, 0, N_BARS - 1)

    def poison(a: np.ndarray) -> np.ndarray:
        out = a.copy()
        out[t + 1 :] = 777.0
        return out

    after = m.settle_row_N > t
    kept = m.payout_row_S <= t
    poisoned = m._replace(
        fill_TN=poison(m.fill_TN),
        low_TN=poison(m.low_TN),
        high_TN=poison(m.high_TN),
        open_TN=poison(m.open_TN),
        volume_TN=poison(m.volume_TN),
        sigma_TN=poison(m.sigma_TN),
        mark_TN=poison(m.mark_TN),
        settle_row_N=np.where(after, -1, m.settle_row_N),
        payout_row_S=m.payout_row_S[kept],
        payout_column_S=m.payout_column_S[kept],
    )
    other = targets._replace(
        weight_M=np.where(
            np.repeat(targets.row_R, np.diff(targets.start_R1)) > t, 0.01, targets.weight_M
        )
    )
    dirty = walk(poisoned, other, config, 0, N_BARS - 1)
    assert clean[0][: t + 1].tobytes() == dirty[0][: t + 1].tobytes()
    assert clean[1][: t + 1].tobytes() == dirty[1][: t + 1].tobytes()
    for ours, theirs in zip(clean[2:], dirty[2:], strict=True):
        assert ours[ours["row"] <= t].tobytes() == theirs[theirs["row"] <= t].tobytes()
