"""Stops in the scenarios that vectorbt's own tests publish numbers for (its from_signals, an entry
at the first close): the same bar, price and size. Stops of 100% and more are left out, which
`Rules` refuses. Only the numbers are theirs.
"""

from __future__ import annotations

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
