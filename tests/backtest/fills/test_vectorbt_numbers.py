"""The scenarios that vectorbt's own tests publish numbers for, where our rules can say the same:
stops of from_signals after an entry at the first close, target percents and values of from_orders.
The same bar, price and size. Left out are stops of 100% and more, which `Rules` refuses, and what
no rule of ours means: target amounts and values, and percents of the cash left. Only the numbers
are theirs.
"""

from __future__ import annotations

from collections.abc import Callable

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
from backtest.fills.rules import Kind, Rules, Unit, configs
from backtest.fills.stats import N_TOTALS
from backtest.fills.vectorbt_rules import vectorbt_nb

FREE = Costs(commission_bps=0, min_fee=0, slippage_bps=0)
FALLING, RISING = (5.0, 4, 3, 2, 1), (1.0, 2, 3, 4, 5)
PEAK, TROUGH = (4.0, 5, 4, 3, 2), (2.0, 1, 2, 3, 4)
CLOSES, ABOVE, BELOW = "closes alone", "opens above closes", "opens below closes"
"""Bars of closes alone, or from 0.5 below to 0.5 above the close, open 0.25 above or below it."""
Exit = tuple[int, float] | None

SCENARIOS: list[tuple[str, tuple[float, ...], str, str, dict[float, Exit]]] = [
    ("stop_loss", FALLING, CLOSES, "long", {0.1: (1, 4.0), 0.5: (3, 2.0)}),
    ("stop_loss", FALLING, CLOSES, "short", {0.1: None, 0.5: None}),
    ("stop_loss", FALLING, ABOVE, "long", {0.1: (1, 4.25), 0.15: (1, 4.25), 0.2: (1, 4.0)}),
    ("stop_loss", FALLING, ABOVE, "short", {0.1: None, 0.15: None, 0.2: None}),
    ("stop_loss", RISING, CLOSES, "long", {0.5: None}),
    ("stop_loss", RISING, CLOSES, "short", {0.5: (1, 2.0)}),
    ("stop_loss", RISING, BELOW, "long", {0.5: None, 0.75: None}),
    ("stop_loss", RISING, BELOW, "short", {0.5: (1, 1.75), 0.75: (1, 1.75)}),
    ("trailing_stop", PEAK, CLOSES, "long", {0.1: (2, 4.0), 0.5: (4, 2.0)}),
    ("trailing_stop", PEAK, CLOSES, "short", {0.1: (1, 5.0), 0.5: None}),
    ("trailing_stop", PEAK, ABOVE, "long", {0.15: (2, 4.25), 0.2: (2, 4.25), 0.25: (2, 4.125)}),
    ("trailing_stop", PEAK, ABOVE, "short", {0.15: (1, 5.25), 0.2: (1, 5.25), 0.25: (1, 5.25)}),
    ("trailing_stop", TROUGH, CLOSES, "long", {0.5: (1, 1.0)}),
    ("trailing_stop", TROUGH, CLOSES, "short", {0.5: (2, 2.0)}),
    ("trailing_stop", TROUGH, BELOW, "long", {0.5: (1, 0.75), 0.75: (1, 0.5)}),
    ("trailing_stop", TROUGH, BELOW, "short", {0.5: (2, 1.75), 0.75: (2, 1.75)}),
    ("take_profit", FALLING, CLOSES, "long", {0.1: None, 0.5: None}),
    ("take_profit", FALLING, CLOSES, "short", {0.1: (1, 4.0), 0.5: (3, 2.0)}),
    ("take_profit", FALLING, ABOVE, "long", {0.1: None, 0.15: None, 0.2: None}),
    ("take_profit", FALLING, ABOVE, "short", {0.1: (1, 4.25), 0.15: (1, 4.25), 0.2: (1, 4.0)}),
    ("take_profit", RISING, CLOSES, "long", {0.5: (1, 2.0), 3.0: (3, 4.0)}),
    ("take_profit", RISING, CLOSES, "short", {0.5: None, 3.0: None}),
    ("take_profit", RISING, BELOW, "long", {0.5: (1, 1.75), 0.75: (1, 1.75), 1.0: (1, 2.0)}),
    ("take_profit", RISING, BELOW, "short", {0.5: None, 0.75: None, 1.0: None}),
]


@pytest.mark.parametrize(("rule", "closes", "bars", "side", "exits"), SCENARIOS)
def test_stops_exit_where_vectorbt_says(
    rule: str, closes: tuple[float, ...], bars: str, side: str, exits: dict[float, Exit]
) -> None:
    # Ours are decided at a close and fill at the next one: a bar more in front, of the same close.
    close = np.array([closes[0], *closes])[:, None]
    wide = 0.0 if bars == CLOSES else 0.5
    off = {CLOSES: 0.0, ABOVE: 0.25, BELOW: -0.25}[bars]
    sign = 1.0 if side == "long" else -1.0
    none = np.full((1, 1), np.nan)
    m = Inputs(
        close, close - wide, close + wide, none, none, np.ones((1, 1)), close, np.arange(6),
        np.full(1, -1), np.full(1, np.nan), NO_INTS, NO_INTS, NO_INTS, NO_INTS, NO_FLOATS,
        NO_FLOATS, open_TN=close + off,
    )  # fmt: skip
    plan = Targets(
        np.array([0, 1]), np.array([0]), np.array([0, 1]), np.array([0]), np.array([sign * 0.5]),
        np.array([int(Unit.ENTER)]), np.array([np.nan]),
    )  # fmt: skip
    for level, expected in exits.items():
        rules = Rules(fill="close", short=True, **{rule: level})  # type: ignore[arg-type]
        many = configs([(0, FREE, rules, 200.0)], 252)
        recorded = Recorded(np.zeros(9, ORDER), np.zeros(9, MISS))
        count, _ = simulate_nb(
            m, plan, many[0], 0, 5, *np.empty((3, 6)), np.zeros(N_TOTALS), recorded,
            more_of(m, plan, many),
        )  # fmt: skip
        entry, *closed = recorded.orders[:count]
        size = sign * 100 / closes[0]
        assert (entry["row"], entry["price"]) == (1, closes[0])
        assert entry["size"] == pytest.approx(size, rel=1e-12)
        found = [(int(o["row"]) - 1, float(o["price"])) for o in closed]
        assert found == ([] if expected is None else [pytest.approx(expected, rel=1e-12)])
        if closed:
            assert closed[0]["size"] == pytest.approx(-size, rel=1e-12)
            assert closed[0]["kind"] in (Kind.STOP, Kind.TRAIL, Kind.TAKE)


Order = tuple[int, float]
"""Bar and signed shares; the price is the bar's close."""
HALF_LONG: list[Order] = [(0, 50.0), (1, -12.5), (2, -6.25), (3, -3.90625), (4, -2.734375)]
HALF_SHORT: list[Order] = [(0, -50.0), (1, 37.5), (2, 6.25), (3, 2.34375), (4, 1.171875)]
AT_THE_CLOSE = Rules(lag=0, fill="close", allow_same_bar=True, short=True)


def flat(close_TN: np.ndarray) -> Inputs:
    """Bars that are their closes."""
    none, n = np.full((1, 1), np.nan), close_TN.shape[1]
    return Inputs(
        close_TN, close_TN, close_TN, none, none, np.ones((1, n)), close_TN,
        np.arange(len(close_TN)), np.full(n, -1), np.full(n, np.nan), NO_INTS, NO_INTS, NO_INTS,
        NO_INTS, NO_FLOATS, NO_FLOATS, open_TN=close_TN,
    )  # fmt: skip


def every_bar(weight_TN: np.ndarray, unit: Unit = Unit.TARGET) -> Targets:
    """One decision a bar that lists every name; NaN: no decision on that bar."""
    rows = np.flatnonzero(np.isfinite(weight_TN[:, 0]))
    n = weight_TN.shape[1]
    plan = Targets(
        np.array([0, len(rows)]), rows, np.arange(len(rows) + 1) * n,
        np.tile(np.arange(n), len(rows)), weight_TN[rows].ravel(),
    )  # fmt: skip
    if unit == Unit.TARGET:
        return plan
    of_each = np.full(len(plan.weight_M), int(unit))
    return plan._replace(unit_M=of_each, limit_M=np.full(len(of_each), np.nan))


def by_our_rules(m: Inputs, plan: Targets) -> np.ndarray:
    many, n_bars = configs([(0, FREE, AT_THE_CLOSE, 100.0)], 252), len(m.mark_TN)
    recorded = Recorded(np.zeros(99, ORDER), np.zeros(9, MISS))
    count, _ = simulate_nb(
        m, plan, many[0], 0, n_bars - 1, *np.empty((3, n_bars)), np.zeros(N_TOTALS), recorded,
        more_of(m, plan, many),
    )  # fmt: skip
    return recorded.orders[:count]


def by_theirs(m: Inputs, plan: Targets) -> np.ndarray:
    config, n_bars = configs([(0, FREE, AT_THE_CLOSE, 100.0)], 252)[0], len(m.mark_TN)
    recorded = Recorded(np.zeros(99, ORDER), np.zeros(9, MISS))
    count = vectorbt_nb(
        m.fill_TN, m.mark_TN, plan, config, np.nan, False, 0, n_bars - 1,
        *np.empty((2, n_bars)), recorded,
    )  # fmt: skip
    return recorded.orders[:count]


@pytest.mark.parametrize("walk", [by_our_rules, by_theirs])
@pytest.mark.parametrize(("weight", "expected"), [(0.5, HALF_LONG), (-0.5, HALF_SHORT)])
def test_target_percents_of_from_orders(
    walk: Callable[[Inputs, Targets], np.ndarray], weight: float, expected: list[Order]
) -> None:
    made = walk(flat(np.array(RISING)[:, None]), every_bar(np.full((5, 1), weight)))
    assert made["row"].tolist() == [row for row, _ in expected]
    np.testing.assert_allclose(made["size"], [size for _, size in expected], rtol=1e-12)
    np.testing.assert_allclose(made["price"], RISING, rtol=1e-12)


@pytest.mark.parametrize("walk", [by_our_rules, by_theirs])
def test_targets_that_change_hands_in_one_account(
    walk: Callable[[Inputs, Targets], np.ndarray],
) -> None:
    held_TN = np.array([[0, 30, 70], [70, 0, 30], [30, 70, 0], [0, 30, 70], [70, 30, 0]], float)
    made = walk(flat(np.ones((5, 3))), every_bar(held_TN / 100))
    shares_TN = np.zeros((5, 3))
    np.add.at(shares_TN, (made["row"], made["column"]), made["size"])
    np.testing.assert_allclose(np.cumsum(shares_TN, axis=0), held_TN, atol=1e-9)


def test_values_of_from_orders() -> None:
    value_TN = np.array([1, -1, np.nan, 1, -1])[:, None]
    made = by_our_rules(flat(np.array(RISING)[:, None]), every_bar(value_TN, Unit.VALUE))
    assert made["row"].tolist() == [0, 1, 3, 4]
    np.testing.assert_allclose(made["size"], [1.0, -0.5, 0.25, -0.2], rtol=1e-12)
    np.testing.assert_allclose(made["price"], [1.0, 2.0, 4.0, 5.0], rtol=1e-12)
