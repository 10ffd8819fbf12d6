"""Positions that a bar closes without a decision: orders at the levels it reaches.

Legend: N symbols, T bars.
"""

from __future__ import annotations

from math import isnan
from typing import Any

from backtest.fills.book import Book, Count
from backtest.fills.compiled import inlined
from backtest.fills.filling import one_order_nb
from backtest.fills.inputs import Inputs, Recorded
from backtest.fills.order import exit_nb
from backtest.fills.rules import Kind, Reason


@inlined
def close_touched_nb(
    b: Book, m: Inputs, config: Any, recorded: Recorded, t: int, at_open: bool, unbound: bool,
    units: bool, before_row: int, action: int, more: bool | None,
) -> None:  # fmt: skip
    """Close what the bar's open lies beyond and what time is up for (at_open), or what the rest of
    the bar reaches: see `order.exit_nb`."""
    for i in range(b.counts[Count.TOUCHED]):
        c = b.names_5N[Count.TOUCHED, i]
        have, since = b.shares_N[c], b.since_N[c]
        if have == 0:
            continue
        reference: float = m.open_TN[t, c]
        kind: int = Kind.TIME
        if not at_open or config.max_bars == 0 or t - since < config.max_bars:
            reference, kind = exit_nb(
                have, b.basis_N[c], b.peak_N[c], reference,
                float(m.low_TN[t, c]), float(m.high_TN[t, c]),
                config.stop, config.trail, config.take, at_open, b.inside_N[c] != t,
            )  # fmt: skip
        if isnan(reference):
            continue
        side = -1.0 if have > 0 else 1.0
        one_order_nb(
            b, m, config, recorded, t, c, since, 0.0, 0.0, side, kind, reference,
            kind == Kind.TAKE, Reason.NONE, True, unbound, units, True, before_row, action, more,
        )  # fmt: skip
