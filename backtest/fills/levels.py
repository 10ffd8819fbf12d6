"""Which positions a bar may close without a decision: prices that a bar is compared with. Knows the
books of a walk and its bars.

`order.exit_nb` says at which price a position closes; the bounds kept here spare the walk from
asking it of every position on every bar.

Legend: N symbols, T bars.
"""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np

from backtest.fills.book import Book, Count, insert_by_age_nb
from backtest.fills.compiled import borrowing, inlined
from backtest.fills.inputs import Inputs

SPARSE = 16
"""Where fewer than one name in so many is held, the others' bars are not looked at."""


@inlined
def bound_nb(b: Book, config: Any, c: Any) -> None:
    """Set the prices at or beyond which a bar reaches a level of c: the nearest on either side."""
    have, basis, against, favour = b.shares_N[c], b.basis_N[c], -np.inf, np.inf
    if have == 0:
        b.low_N[c], b.high_N[c] = -np.inf, np.inf
        return
    side = 1.0 if have > 0 else -1.0
    if config.stop > 0:
        against = side * basis * (1 - side * config.stop)
    if config.trail > 0:
        against = max(against, side * b.peak_N[c] * (1 - side * config.trail))
    if config.take > 0:
        favour = side * basis * (1 + side * config.take)
    b.low_N[c] = against if have > 0 else -favour
    b.high_N[c] = favour if have > 0 else -against


@borrowing
def reach_nb(low_N: Any, high_N: Any, floor_N: Any, top_N: Any, flag_N: Any) -> None:
    """Flag the names whose bar reaches a bound. Not inlined: on its own it is vectorised."""
    for c in range(len(floor_N)):
        flag_N[c] = (low_N[c] <= floor_N[c]) | (high_N[c] >= top_N[c])


@inlined
def touched_nb(b: Book, m: Inputs, config: Any, t: int) -> None:
    """List the names held, oldest first, whose bounds the bar reaches, and those held for so long
    that time closes them. A bar holds its open, so what the open reached is among them.

    A whole row is read faster in its order than a fraction of it in another.
    """
    n_held, n_names, n = b.counts[Count.HELD], len(b.low_N), 0
    held_N, touched_N = b.names_5N[Count.HELD], b.names_5N[Count.TOUCHED]
    if config.max_bars > 0:
        for i in range(n_held):
            c = held_N[i]
            touched_N[n] = c
            aged = t - b.since_N[c] >= config.max_bars
            n += (m.low_TN[t, c] <= b.low_N[c]) | (m.high_TN[t, c] >= b.high_N[c]) | aged
        b.counts[Count.TOUCHED] = n
        return
    if n_held * SPARSE < n_names:
        for i in range(n_held):
            c = held_N[i]
            touched_N[n] = c
            n += (m.low_TN[t, c] <= b.low_N[c]) | (m.high_TN[t, c] >= b.high_N[c])
        b.counts[Count.TOUCHED] = n
        return
    b.counts[Count.TOUCHED] = 0
    reach_nb(m.low_TN[t], m.high_TN[t], b.low_N, b.high_N, b.flag_N)
    for eight in range(len(b.flags_W)):
        if b.flags_W[eight] != 0:
            for c in range(8 * eight, 8 * eight + 8):
                if b.flag_N[c]:
                    insert_by_age_nb(b, Count.TOUCHED, np.uintp(c))


@inlined
def see_nb(b: Book, m: Inputs, config: Any, t: int) -> None:
    """Take in the best price of the bar; of one that a position was opened within, the close."""
    held_N = b.names_5N[Count.HELD]
    for i in range(b.counts[Count.HELD]):
        c = held_N[i]
        if b.shares_N[c] == 0:
            continue
        up = b.shares_N[c] > 0
        best = float(m.mark_TN[t, c])
        if b.inside_N[c] != t:
            best = float(m.high_TN[t, c] if up else m.low_TN[t, c])
        if not isnan(best):
            peak = max(b.peak_N[c], best) if up else min(b.peak_N[c], best)
            if peak != b.peak_N[c]:
                b.peak_N[c] = peak
                bound_nb(b, config, c)
