"""compat="vectorbt" against `Portfolio.from_orders` itself: the same orders and equity."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.fills.costs import Costs
from backtest.fills.inputs import MISS, ORDER, Recorded, Targets
from backtest.fills.rules import Rules, configs
from backtest.fills.vectorbt_rules import vectorbt_nb


@st.composite
def cases(draw: st.DrawFn) -> dict[str, float | int | bool]:
    return {
        "seed": draw(st.integers(0, 2**32 - 1)),
        "fees": draw(st.sampled_from([0.0, 0.001, 0.02])),
        "fixed": draw(st.sampled_from([0.0, 1.0, 60.0])),
        "slippage": draw(st.sampled_from([0.0, 0.0005, 0.01])),
        "granularity": draw(st.sampled_from([np.nan, np.nan, 0.1, 1.0, 100.0])),
        "long_only": draw(st.booleans()),
        "cash": draw(st.sampled_from([500.0, 20_000.0, 1e6])),
        "every": draw(st.sampled_from([1, 3, 5])),
        "n_symbols": draw(st.sampled_from([3, 12, 90])),
        "gaps": draw(st.sampled_from([0.0, 0.1])),
    }


@given(case=cases())
def test_orders_and_equity_are_those_of_from_orders(case: dict[str, float]) -> None:
    vbt = pytest.importorskip("vectorbt")
    rng = np.random.default_rng(int(case["seed"]))
    n_bars, n = 30, int(case["n_symbols"])
    price = 20 * np.exp(np.cumsum(rng.normal(0, 0.03, (n_bars, n)), axis=0))
    close = price * np.exp(rng.normal(0, 0.01, price.shape))
    price[rng.random(price.shape) < case["gaps"]] = np.nan
    close[rng.random(close.shape) < case["gaps"]] = np.nan
    close[0] = np.nan_to_num(close[0], nan=20.0)
    mark = close.copy()
    for t in range(1, n_bars):
        mark[t] = np.where(np.isnan(mark[t]), mark[t - 1], mark[t])

    size = np.full(price.shape, np.nan)
    rows = np.arange(0, n_bars, int(case["every"]))
    columns, weights, starts = [], [], [0]
    for t in rows:
        k = int(rng.integers(0, n + 1))
        chosen = rng.permutation(n)[:k]
        weight = (
            np.full(k, 1 / max(k, 1))
            if rng.random() < 0.5
            else rng.dirichlet(np.ones(k))
            if k
            else np.empty(0)
        )
        if not case["long_only"]:
            weight = weight * rng.choice([-1.0, 1.0], k)
        weight[rng.random(k) < 0.1] = np.nan
        size[t] = 0.0
        size[t, chosen] = weight
        columns.append(chosen)
        weights.append(weight)
        starts.append(starts[-1] + k)
    targets = Targets(
        np.array([0, len(rows)]),
        rows,
        np.array(starts),
        np.concatenate(columns).astype(np.int64),
        np.concatenate(weights),
    )
    costs = Costs(
        commission_bps=case["fees"] * 1e4,
        min_fee=case["fixed"],
        slippage_bps=case["slippage"] * 1e4,
    )
    rules = Rules(lag=0, fill="close", allow_same_bar=True)
    config = configs([(0, costs, rules, case["cash"])], 252)[0]
    equity, cash = np.empty(n_bars), np.empty(n_bars)
    recorded = Recorded(np.zeros(n_bars * n, ORDER), np.zeros(0, MISS))
    count = vectorbt_nb(
        price, mark, targets, config, case["granularity"], bool(case["long_only"]),
        0, n_bars - 1, equity, cash, recorded,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        portfolio = vbt.Portfolio.from_orders(
            close,
            size=size,
            size_type="targetpercent",
            direction="longonly" if case["long_only"] else "both",
            price=price,
            fees=case["fees"],
            fixed_fees=case["fixed"],
            slippage=case["slippage"],
            size_granularity=case["granularity"],
            init_cash=float(case["cash"]),
            cash_sharing=True,
            group_by=True,
            call_seq="auto",
            freq="D",
            engine="numba",
        )
        theirs = portfolio.order_records
        value = np.asarray(portfolio.value())
    ours = recorded.orders[:count]
    assert len(ours) == len(theirs)
    assert np.array_equal(ours["row"], theirs["idx"])
    assert np.array_equal(ours["column"], theirs["col"])
    signed = np.where(theirs["side"] == 0, theirs["size"], -theirs["size"])
    np.testing.assert_allclose(ours["size"], signed, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours["price"], theirs["price"], rtol=1e-9)
    np.testing.assert_allclose(ours["fee"], theirs["fees"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(equity, value, rtol=1e-9)
