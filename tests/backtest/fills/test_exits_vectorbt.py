"""Stops and take-profits beside vectorbt's `from_signals`, where both mean the same: entries
at the close, levels on the fill price, the stop before the take-profit.

Where they differ: ours also close on the bar of an entry at the open; a trailing stop of ours is
compared with the plain stop, theirs replaces it; two orders of one bar are one in vectorbt;
and our shares are fixed at the decision's close, so that rows, sides and prices are compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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

COSTS = Costs(commission_bps=10, min_fee=0, slippage_bps=0)
N_BARS, N = 120, 25


def made(seed: int) -> tuple[np.ndarray, ...]:
    """open, high, low, close and entries of independent columns; entries only while flat."""
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (N_BARS, N)), axis=0))
    open_ = np.vstack([close[:1], close[:-1]]) * np.exp(rng.normal(0, 0.01, close.shape))
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 0.01, close.shape)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 0.01, close.shape)))
    return open_, high, low, close, rng.random(close.shape) < 0.05


def ours(c: int, data: tuple[np.ndarray, ...], rules: Rules) -> list[tuple[int, float, float]]:
    """(row, side, price) of every order of one column."""
    open_, high, low, close, entries = (each[:, c : c + 1] for each in data)
    rows = np.flatnonzero(entries[1:, 0])
    plan = Targets(
        np.array([0, len(rows)]),
        rows,
        np.arange(len(rows) + 1),
        np.zeros(len(rows), np.int64),
        np.ones(len(rows)),
        np.full(len(rows), int(Unit.ENTER)),
        np.full(len(rows), np.nan),
    )
    none, alive = np.full((1, 1), np.nan), np.full(1, -1)
    m = Inputs(
        close.copy(), low.copy(), high.copy(), none, none, np.ones((1, 1)), close.copy(),
        np.arange(N_BARS), alive, np.full(1, np.nan), NO_INTS, NO_INTS, NO_INTS, NO_INTS,
        NO_FLOATS, NO_FLOATS, open_TN=open_.copy(),
    )  # fmt: skip
    many = configs([(0, COSTS, rules, 100.0)], 252)
    equity, cash, short = np.empty((3, N_BARS))
    recorded = Recorded(np.zeros(500, ORDER), np.zeros(500, MISS))
    count, _ = simulate_nb(
        m, plan, many[0], 0, N_BARS - 1, equity, cash, short, np.zeros(N_TOTALS), recorded,
        more_of(m, plan, many),
    )  # fmt: skip
    return [
        (int(o["row"]), float(np.sign(o["size"])), float(o["price"]))
        for o in recorded.orders[:count]
    ]


@pytest.mark.parametrize(
    ("rules", "theirs"),
    [
        ({"stop_loss": 0.05}, {"sl_stop": 0.05}),
        ({"trailing_stop": 0.05}, {"sl_stop": 0.05, "sl_trail": True}),
        ({"take_profit": 0.06}, {"tp_stop": 0.06}),
        ({"stop_loss": 0.04, "take_profit": 0.06}, {"sl_stop": 0.04, "tp_stop": 0.06}),
    ],
)
def test_the_same_orders_as_from_signals(rules: dict[str, float], theirs: dict[str, Any]) -> None:
    vbt = pytest.importorskip("vectorbt")
    pd = pytest.importorskip("pandas")
    data = made(7)
    open_, high, low, close, entries = data
    entries[0] = False
    portfolio = vbt.Portfolio.from_signals(
        pd.DataFrame(close), pd.DataFrame(entries), pd.DataFrame(np.zeros_like(entries)),
        open=open_, high=high, low=low, fees=1e-3, init_cash=100.0, freq="D", engine="numba",
        stop_entry_price="fillprice", stop_exit_price="stoplimit", upon_stop_exit="close",
        **theirs,
    )  # fmt: skip
    records = portfolio.order_records
    told = Rules(fill="close", **rules)  # type: ignore[arg-type]
    for c in range(N):
        own = records[records["col"] == c]
        signed = np.where(own["side"] == 0, 1.0, -1.0)
        expected = list(
            zip(own["idx"].tolist(), signed.tolist(), own["price"].tolist(), strict=True)
        )
        found = ours(c, data, told)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert a == pytest.approx(b, rel=1e-9)
