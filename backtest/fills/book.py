"""The books of one walk: what is held, wanted and owed, as arrays. Knows no prices but marks.

Legend: N symbols, T bars.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from backtest.fills.compiled import inlined
from backtest.fills.inputs import Array, Float, Int

SCATTER = 4
"""How many values of a row are read in its order in the time of one elsewhere."""


class Money(IntEnum):
    """Places in `Book.money`."""

    CASH = 0
    WORTH = 1
    """Equity of a margin account at the bar's reference prices."""
    GROSS = 2
    """Its gross exposure at them."""
    TRADED = 3
    """Value of the bar's orders."""


class Count(IntEnum):
    """Places in `Book.counts`: lengths of the lists, and what was counted so far."""

    HELD = 0
    WORK = 1
    TOUCHED = 2
    AGED = 3
    LEFT = 4
    CLOSED = 5
    """Names in the list of names held that are held no more."""
    OPENED = 6
    ORDERS = 7
    MISSES = 8


N_MONEY, N_COUNTS = 4, 9


class Book(NamedTuple):
    """State of one walk. Arrays of features that are off have length 1."""

    money: Float
    counts: Int
    totals: Float
    """See `stats.Total`."""
    shares_N: Float
    names_5N: Array
    """Lists of names, by `Count`: held, oldest first; wanted at this bar; whose exit levels it
    touches; wanted and held, oldest first; left over for the next bar."""
    stamp_N: Int
    """Bar that want, weight, due and limit are of."""
    want_N: Float
    weight_N: Float
    due_N: Int
    """Bar of the decision."""
    limit_N: Float
    tried_N: Int
    """Last bar with an order, of margin accounts: one a bar."""
    bought_N: Float
    session_N: Int
    """Shares bought in this session, where they cannot be sold in it."""
    opened_N: Int
    """Number of the position, increasing; 0 where the name is in no list of names held."""
    basis_N: Float
    """Average fill price."""
    peak_N: Float
    """Best price since the first fill."""
    since_N: Int
    """Bar of the first fill."""
    inside_N: Int
    """The same where that bar's low and high may lie before the fill, else -1."""
    gone_N: Int
    """Bar of the last exit."""
    low_N: Float
    high_N: Float
    """Prices at or beyond which a bar reaches an exit level; −∞ and ∞ where nothing is held."""
    flag_N: Array
    flags_W: Array
    """One byte for each name, and the same memory eight names at a time."""


@njit(cache=True, nogil=True, error_model="numpy")
def new_book_nb(
    n: int, cash: float, margin: bool, t_plus_one: bool, units: bool, exits: bool, totals: Any
) -> Book:
    """All cash. units: whether decisions are orders; exits: whether positions have levels."""
    of_margin, of_session = n if margin else 1, n if t_plus_one else 1
    of_units, of_exits = n if units else 1, n if exits else 1
    of_either = n if units or exits else 1
    money, counts = np.zeros(N_MONEY), np.zeros(N_COUNTS, np.int64)
    money[Money.CASH] = cash
    flags_W = np.zeros((of_exits + 7) // 8, np.uint64)
    return Book(
        money, counts, totals, np.zeros(n), np.empty((5, n), np.uintp), np.full(n, -1), np.zeros(n),
        np.zeros(n), np.full(n, -1), np.full(of_units, np.nan), np.full(of_margin, -1),
        np.zeros(of_session), np.full(of_session, -1), np.zeros(of_either, np.int64),
        np.zeros(of_exits), np.zeros(of_exits), np.full(of_exits, -1), np.full(of_exits, -1),
        np.full(of_exits, -1), np.full(of_exits, -np.inf), np.full(of_exits, np.inf),
        flags_W.view(np.uint8), flags_W,
    )  # fmt: skip


@inlined
def miss_nb(
    b: Book, misses: Any, decided: int, t: int, c: Any, weight: float, size: float, reason: int
) -> None:
    """Write down what did not trade while there is room."""
    n = b.counts[Count.MISSES]
    if n < len(misses):
        miss = misses[n]
        miss.decided, miss.row, miss.column = decided, t, c
        miss.weight, miss.size, miss.reason = weight, size, reason
    b.counts[Count.MISSES] = n + 1


@inlined
def fill_nb(
    b: Book, orders: Any, decided: int, t: int, c: Any,
    size: float, reference: float, price: float, fee: float, kind: int,
) -> None:  # fmt: skip
    """Write down a fill while there is room."""
    n = b.counts[Count.ORDERS]
    if n < len(orders):
        order = orders[n]
        order.decided, order.row, order.column, order.size = decided, t, c, size
        order.reference, order.price, order.fee, order.kind = reference, price, fee, kind
    b.counts[Count.ORDERS] = n + 1


@inlined
def without_nb(b: Book, which: int, c: Any) -> None:
    """Take c out of a list of names, the order kept."""
    names_N, n = b.names_5N[which], b.counts[which]
    for i in range(n):
        if names_N[i] == c:
            for k in range(i + 1, n):
                names_N[k - 1] = names_N[k]
            b.counts[which] = n - 1
            return


@inlined
def drop_closed_nb(b: Book, numbered: bool) -> None:
    """Drop names without shares from the list of names held. numbered: opened_N is kept."""
    held_N, at = b.names_5N[Count.HELD], 0
    for i in range(b.counts[Count.HELD]):
        c = held_N[i]
        held_N[at] = c
        at += b.shares_N[c] != 0
        if numbered and b.shares_N[c] == 0:
            b.opened_N[c] = 0
    b.counts[Count.HELD], b.counts[Count.CLOSED] = at, 0


@inlined
def insert_by_age_nb(b: Book, which: int, c: Any) -> None:
    """Put c into a list of names, the oldest position first, unless it is there."""
    names_N, i = b.names_5N[which], b.counts[which]
    while i > 0 and b.opened_N[names_N[i - 1]] > b.opened_N[c]:
        i -= 1
    if i > 0 and names_N[i - 1] == c:
        return
    for k in range(b.counts[which], i, -1):
        names_N[k] = names_N[k - 1]
    names_N[i] = c
    b.counts[which] += 1


@inlined
def value_nb(b: Book, mark_TN: Any, t: int) -> float:
    """Value of what is held at the bar's marks."""
    n_held, n = b.counts[Count.HELD], len(b.shares_N)
    if n_held * SCATTER < n:
        held_N, value = b.names_5N[Count.HELD], 0.0
        for i in range(n_held):
            value += b.shares_N[held_N[i]] * mark_TN[t, held_N[i]]
        return value
    # Most are held: a whole row in its order, and in eight sums, none of which waits for another.
    shares_N, mark_N = b.shares_N, mark_TN[t]
    s0, s1, s2, s3, s4, s5, s6, s7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(n // 8):
        at = np.uintp(8 * k)
        s0 += worth_nb(shares_N[at], mark_N[at])
        s1 += worth_nb(shares_N[at + np.uintp(1)], mark_N[at + np.uintp(1)])
        s2 += worth_nb(shares_N[at + np.uintp(2)], mark_N[at + np.uintp(2)])
        s3 += worth_nb(shares_N[at + np.uintp(3)], mark_N[at + np.uintp(3)])
        s4 += worth_nb(shares_N[at + np.uintp(4)], mark_N[at + np.uintp(4)])
        s5 += worth_nb(shares_N[at + np.uintp(5)], mark_N[at + np.uintp(5)])
        s6 += worth_nb(shares_N[at + np.uintp(6)], mark_N[at + np.uintp(6)])
        s7 += worth_nb(shares_N[at + np.uintp(7)], mark_N[at + np.uintp(7)])
    for c in range(n - n % 8, n):
        s0 += worth_nb(shares_N[c], mark_N[c])
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@inlined
def worth_nb(shares: float, mark: float) -> float:
    """Value of a position; names never held may have no mark."""
    return shares * mark if shares != 0 else 0.0


@inlined
def gross_nb(b: Book, fill_TN: Any, mark_TN: Any, t: int) -> tuple[float, float]:
    """(value, gross exposure) of what is held at the bar's reference prices, or the last marks."""
    value, gross, held_N = 0.0, 0.0, b.names_5N[Count.HELD]
    for i in range(b.counts[Count.HELD]):
        c = held_N[i]
        price = float(fill_TN[t, c])
        if np.isnan(price):
            price = float(mark_TN[t - 1, c])
        value += b.shares_N[c] * price
        gross += abs(b.shares_N[c]) * price
    return value, gross


@inlined
def sides_nb(b: Book, mark_TN: Any, t: int) -> tuple[float, float]:
    """(gross exposure, value of the shorts, 0 or more) at the bar's marks."""
    gross, shorted, held_N = 0.0, 0.0, b.names_5N[Count.HELD]
    for i in range(b.counts[Count.HELD]):
        value = b.shares_N[held_N[i]] * mark_TN[t, held_N[i]]
        gross += abs(value)
        shorted += max(-value, 0.0)
    return gross, shorted
