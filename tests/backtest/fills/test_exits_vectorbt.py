"""Stops, take-profits and both at once beside vectorbt's `from_signals`, where both mean the same:
entries at the close in one account, levels on the fill price, the stop before the take-profit.

Where they differ: ours also close on the bar of an entry at the open; a bar that opens beyond the
take-profit fills there in ours, where theirs looks at the stop first; a trailing stop of ours is
compared with the plain stop, theirs replaces it; and who gets the last of the cash is another rule.
Our shares are fixed at the decision's close, so theirs are computed from our equity there, which is
compared with theirs at the end.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.fills.costs import Costs
from backtest.fills.inputs import (
    MISS,
    NO_FLOATS,
    NO_INTS,
    ORDER,
    Inputs,
    Recorded,
    Targets,
    more_of,
)
from backtest.fills.kernels import simulate_nb
from backtest.fills.rules import Rules, Unit, configs
from backtest.fills.stats import N_TOTALS

N_BARS, N = 60, 12
WEIGHT = 0.4 / N

BRACKETS: list[tuple[dict[str, float], dict[str, Any]]] = [
    ({"stop_loss": 0.03}, {"sl_stop": 0.03}),
    ({"stop_loss": 0.1}, {"sl_stop": 0.1}),
    ({"trailing_stop": 0.03}, {"sl_stop": 0.03, "sl_trail": True}),
    ({"trailing_stop": 0.1}, {"sl_stop": 0.1, "sl_trail": True}),
    ({"take_profit": 0.02}, {"tp_stop": 0.02}),
    ({"take_profit": 0.1}, {"tp_stop": 0.1}),
    ({"stop_loss": 0.1, "take_profit": 0.05}, {"sl_stop": 0.1, "tp_stop": 0.05}),
    ({"stop_loss": 0.05, "take_profit": 0.15}, {"sl_stop": 0.05, "tp_stop": 0.15}),
]


def made(seed: int, often: float) -> tuple[Inputs, np.ndarray]:
    """Bars that trade at every name, orders at the close, and entries."""
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (N_BARS, N)), axis=0))
    open_ = np.vstack([close[:1], close[:-1]]) * np.exp(rng.normal(0, 0.01, close.shape))
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 0.01, close.shape)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 0.01, close.shape)))
    entry_TN = rng.random(close.shape) < often
    entry_TN[0] = False
    none = np.full((1, 1), np.nan)
    m = Inputs(
        close, low, high, none, none, np.ones((1, N)), close, np.arange(N_BARS), np.full(N, -1),
        np.full(N, np.nan), NO_INTS, NO_INTS, NO_INTS, NO_INTS, NO_FLOATS, NO_FLOATS, open_TN=open_,
    )  # fmt: skip
    return m, entry_TN


def ours(
    m: Inputs, entry_TN: np.ndarray, rules: Rules, fee: float, side: float
) -> tuple[np.ndarray, np.ndarray]:
    """Orders and equity: entries of bar t are decided at the close before."""
    rows = np.flatnonzero(entry_TN[1:].any(axis=1))
    columns = [np.flatnonzero(entry_TN[t + 1]) for t in rows]
    n = sum(len(each) for each in columns)
    plan = Targets(
        np.array([0, len(rows)]),
        rows,
        np.cumsum([0, *(len(each) for each in columns)]),
        np.concatenate(columns),
        np.full(n, side * WEIGHT),
        np.full(n, int(Unit.ENTER)),
        np.full(n, np.nan),
    )
    costs = Costs(commission_bps=fee * 1e4, min_fee=0, slippage_bps=0)
    many = configs([(0, costs, rules, 1e5)], 252)
    equity, cash, short = np.empty((3, N_BARS))
    recorded = Recorded(np.zeros(2 * N_BARS * N, ORDER), np.zeros(0, MISS))
    count, _ = simulate_nb(
        m, plan, many[0], 0, N_BARS - 1, equity, cash, short, np.zeros(N_TOTALS), recorded,
        more_of(m, plan, many),
    )  # fmt: skip
    orders = recorded.orders[:count]
    return orders[np.lexsort((orders["column"], orders["row"]))], equity


@given(
    seed=st.integers(0, 2**32 - 1),
    bracket=st.sampled_from(BRACKETS),
    often=st.sampled_from([0.02, 0.1, 0.5]),
    fee=st.sampled_from([0.0, 0.001]),
    side=st.sampled_from([1.0, -1.0]),
)
def test_the_same_orders_and_equity_as_from_signals(
    seed: int,
    bracket: tuple[dict[str, float], dict[str, Any]],
    often: float,
    fee: float,
    side: float,
) -> None:
    vbt = pytest.importorskip("vectorbt")
    m, entry_TN = made(seed, often)
    rule, stop = bracket
    rules = Rules(fill="close", short=side < 0, **rule)  # type: ignore[arg-type]
    orders, equity = ours(m, entry_TN, rules, fee, side)
    size = np.full(m.mark_TN.shape, np.nan)
    size[1:] = equity[:-1, None] * WEIGHT / m.mark_TN[:-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        portfolio = vbt.Portfolio.from_signals(
            m.mark_TN, entry_TN, np.zeros_like(entry_TN), open=m.open_TN, high=m.high_TN,
            low=m.low_TN, size=size, fees=fee, init_cash=1e5, cash_sharing=True, group_by=True,
            direction="longonly" if side > 0 else "shortonly", freq="D", engine="numba",
            stop_entry_price="fillprice", stop_exit_price="stoplimit", upon_stop_exit="close",
            **stop,
        )  # fmt: skip
        records, value = portfolio.order_records, np.asarray(portfolio.value())
    records = records[np.lexsort((records["col"], records["idx"]))]
    signed = np.where(records["side"] == 0, records["size"], -records["size"])
    assert np.array_equal(orders["row"], records["idx"])
    assert np.array_equal(orders["column"], records["col"])
    np.testing.assert_allclose(orders["size"], signed, rtol=1e-9)
    np.testing.assert_allclose(orders["price"], records["price"], rtol=1e-9)
    np.testing.assert_allclose(orders["fee"], records["fees"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(equity, value, rtol=1e-9)
