"""What a bar is told to hold: a decision, or what an earlier one left over. Fills nothing.

Legend: N symbols, T bars, R decisions.
"""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np

from backtest.fills.account import since_nb
from backtest.fills.book import Book, Count, miss_nb
from backtest.fills.compiled import inlined
from backtest.fills.inputs import Inputs, Targets
from backtest.fills.order import wanted_nb
from backtest.fills.rules import Reason, Unit


@inlined
def decision_nb(
    b: Book, m: Inputs, targets: Targets, config: Any, misses: Any,
    r: int, t: int, action: int, funds: float, more: bool | None,
) -> bool:  # fmt: skip
    """List what decision r wants at bar t; returns whether names it does not list are sold.

    funds: equity at the decision's close. action: how many actions lie behind.
    """
    decided, n_work, rest_to_zero, work_N = t - config.lag, 0, True, b.names_5N[Count.WORK]
    for k in range(targets.start_R1[r], targets.start_R1[r + 1]):
        c, weight = np.uintp(targets.column_M[k]), targets.weight_M[k]
        mark = m.mark_TN[decided, c]
        gone = m.settle_row_N[c] >= 0 and m.settle_row_N[c] <= t
        if gone or isnan(mark):
            reason: int = Reason.DELISTED if gone else Reason.NOT_LISTED
            miss_nb(b, misses, decided, t, c, weight, 0.0, reason)
            continue
        scale, dividend = 1.0, 0.0
        if action > 0:
            scale, dividend = since_nb(m, action, decided, c)
        want = weight * funds / mark * scale
        if more is not None and len(targets.unit_M) > 0:
            unit, have = targets.unit_M[k], b.shares_N[c]
            b.limit_N[c] = targets.limit_M[k] / scale - dividend
            rest_to_zero = unit == Unit.TARGET
            want = wanted_nb(unit, weight, funds, mark, scale, have)
            if want < 0 and not config.short and not rest_to_zero:
                miss_nb(b, misses, decided, t, c, weight, want, Reason.NOT_HELD)
                want = min(have, 0.0)
        b.want_N[c], b.weight_N[c], b.due_N[c], b.stamp_N[c] = want, weight, decided, t
        work_N[n_work] = c
        n_work += 1
    b.counts[Count.WORK] = n_work
    if more is not None and not rest_to_zero:
        left_over_nb(b, t)
    return rest_to_zero


@inlined
def left_over_nb(b: Book, t: int) -> None:
    """List what is left over, names that are listed already apart."""
    work_N, left_N, n_work = b.names_5N[Count.WORK], b.names_5N[Count.LEFT], b.counts[Count.WORK]
    for i in range(b.counts[Count.LEFT]):
        c = left_N[i]
        if b.stamp_N[c] != t:
            b.stamp_N[c] = t
            work_N[n_work] = c
            n_work += 1
    b.counts[Count.WORK] = n_work


@inlined
def refused_nb(b: Book, targets: Targets, misses: Any, r: int, decided: int, t: int) -> None:
    """Write down that decision r came on the bar of a margin call."""
    for k in range(targets.start_R1[r], targets.start_R1[r + 1]):
        c, weight = np.uintp(targets.column_M[k]), targets.weight_M[k]
        miss_nb(b, misses, decided, t, c, weight, 0.0, Reason.MARGIN_CALL)
