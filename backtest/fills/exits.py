"""Which positions a bar closes without a decision. Knows the arrays of a walk.

`order.exit_nb` says at which price; the bounds kept here spare the walk from asking it of every
position on every bar.

Legend: N symbols, T bars.
"""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np
from numba import njit

SCATTER = 16
"""How many values of a row are read in its order in the time of one elsewhere."""
STRIP = 64
"""Names looked at together."""


@njit(cache=True, nogil=True, error_model="numpy")
def bound_nb(
    low_N: Any, high_N: Any, c: int, have: float, basis: float, peak: float,
    stop: float, trail: float, take: float,
) -> None:  # fmt: skip
    """Set the prices at or beyond which a bar reaches a level of c: the nearest on either side."""
    side = 1.0 if have > 0 else -1.0
    against, favour = -np.inf, np.inf
    if stop > 0:
        against = side * basis * (1 - side * stop)
    if trail > 0:
        against = max(against, side * peak * (1 - side * trail))
    if take > 0:
        favour = side * basis * (1 + side * take)
    low_N[c] = against if have > 0 else -favour
    high_N[c] = favour if have > 0 else -against


@njit(cache=True, nogil=True, error_model="numpy")
def touched_nb(
    touched_N: Any, held_N: Any, n_held: int, low_N: Any, high_N: Any, opened_N: Any,
    low_TN: Any, high_TN: Any, t: int,
) -> int:  # fmt: skip
    """List the names held, oldest first, whose bounds the bar reaches; returns how many. A bar
    holds its open, so what the open reached is among them.

    low_N, high_N: −∞ and ∞ for names not held. opened_N: increases with each position opened. A
    whole row is read faster in its order than a fraction of it in another.
    """
    n, n_names = 0, len(low_N)
    if n_held * SCATTER < n_names:
        for i in range(n_held):
            c = held_N[i]
            touched_N[n] = c
            n += (low_TN[t, c] <= low_N[c]) | (high_TN[t, c] >= high_N[c])
        return n
    for begin in range(0, n_names, STRIP):
        end, reached = min(begin + STRIP, n_names), 0
        lows, highs = low_TN[t, begin:end], high_TN[t, begin:end]
        floors, tops = low_N[begin:end], high_N[begin:end]
        for k in range(len(lows)):
            reached += (lows[k] <= floors[k]) | (highs[k] >= tops[k])
        if reached > 0:
            for k in range(len(lows)):
                if (lows[k] <= floors[k]) | (highs[k] >= tops[k]):
                    c = np.uintp(begin + k)
                    i = n
                    while i > 0 and opened_N[touched_N[i - 1]] > opened_N[c]:
                        touched_N[i] = touched_N[i - 1]
                        i -= 1
                    touched_N[i] = c
                    n += 1
    return n


@njit(cache=True, nogil=True, error_model="numpy")
def see_nb(
    held_N: Any, n_held: int, shares_N: Any, basis_N: Any, peak_N: Any, inside_N: Any,
    low_N: Any, high_N: Any, low_TN: Any, high_TN: Any, mark_TN: Any, t: int,
    stop: float, trail: float, take: float,
) -> None:  # fmt: skip
    """Take in the best price of the bar; of one that a position was opened within, the close."""
    for i in range(n_held):
        c = held_N[i]
        up = shares_N[c] > 0
        best = float(mark_TN[t, c])
        if inside_N[c] != t:
            best = float(high_TN[t, c] if up else low_TN[t, c])
        if not isnan(best):
            peak = max(peak_N[c], best) if up else min(peak_N[c], best)
            if peak != peak_N[c]:
                peak_N[c] = peak
                bound_nb(low_N, high_N, c, shares_N[c], basis_N[c], peak, stop, trail, take)
