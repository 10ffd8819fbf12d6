"""What happens to an account beside its orders: actions, payouts, and the lists it keeps.

Functions of the arrays of one walk (see `kernels.simulate_nb`), called where something happens and
not for every order: handing arrays over costs time.

Legend: N symbols, A corporate actions, T bars.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from backtest.fills.inputs import Inputs
from backtest.fills.stats import Total


@njit(cache=True, nogil=True, error_model="numpy")
def miss_nb(
    misses: Any, n: int, decided: int, t: int, c: int, weight: float, size: float, reason: int
) -> int:
    """Write down what did not trade while there is room; returns how many there are now."""
    if n < len(misses):
        miss = misses[n]
        miss.decided, miss.row, miss.column = decided, t, c
        miss.weight, miss.size, miss.reason = weight, size, reason
    return n + 1


@njit(cache=True, nogil=True, error_model="numpy")
def order_nb(
    order: Any, decided: int, t: int, c: int,
    size: float, reference: float, price: float, fee: float, kind: int,
) -> None:  # fmt: skip
    """Write down a fill. Called where there is room alone: the call itself costs time."""
    order.decided, order.row, order.column, order.size = decided, t, c, size
    order.reference, order.price, order.fee, order.kind = reference, price, fee, kind


@njit(cache=True, nogil=True, error_model="numpy")
def without_nb(names_N: Any, n: int, c: int) -> int:
    """Take c out of a list of n names, the order kept; returns how many are left."""
    for i in range(n):
        if names_N[i] == c:
            names_N[i : n - 1] = names_N[i + 1 : n]
            return n - 1
    return n


@njit(cache=True, nogil=True, error_model="numpy")
def still_held_nb(held_N: Any, n_held: int, shares_N: Any) -> int:
    """Drop names without shares from the list of names held; returns how many are left."""
    at = 0
    for i in range(n_held):
        held_N[at] = held_N[i]
        at += shares_N[held_N[i]] != 0
    return at


@njit(cache=True, nogil=True, error_model="numpy")
def starts_nb(m: Inputs, targets: Any, set_: int, first: int) -> tuple[int, int, int, int]:
    """(payout, action, decision) that come first after bar `first` (a decision: at or after it),
    and the last bar of the session before, or -1."""
    payout, action, r = 0, 0, targets.set_S1[set_]
    while payout < len(m.payout_row_S) and m.payout_row_S[payout] <= first:
        payout += 1
    while action < len(m.action_row_A) and m.action_row_A[action] <= first:
        action += 1
    while r < targets.set_S1[set_ + 1] and targets.row_R[r] < first:
        r += 1
    before_row = first - 1
    while before_row >= 0 and m.session_T[before_row] == m.session_T[first]:
        before_row -= 1
    return payout, action, r, before_row


@njit(cache=True, nogil=True, error_model="numpy")
def since_nb(
    row_A: Any, column_A: Any, split_A: Any, dividend_A: Any, action: int, row: int, c: int
) -> tuple[float, float]:
    """(new shares per share, cash per new share) of c's actions after bar `row`, up to the
    action-th of all."""
    since, scale, dividend = action, 1.0, 0.0
    while since > 0 and row_A[since - 1] > row:
        since -= 1
    for a in range(since, action):
        if column_A[a] == c:
            scale *= split_A[a]
            dividend = dividend / split_A[a] + dividend_A[a]
    return scale, dividend


@njit(cache=True, nogil=True, error_model="numpy")
def last_close_nb(
    close: float, row_A: Any, column_A: Any, split_A: Any, dividend_A: Any,
    action: int, row: int, c: int,
) -> float:  # fmt: skip
    """c's close of bar `row` over the splits and less the dividends since."""
    since = action
    while since > 0 and row_A[since - 1] > row:
        since -= 1
    for a in range(since, action):
        if column_A[a] == c:
            close = close / split_A[a] - dividend_A[a]
    return close


@njit(cache=True, nogil=True, error_model="numpy")
def gross_nb(
    held_N: Any, n_held: int, shares_N: Any, fill_TN: Any, mark_TN: Any, t: int
) -> tuple[float, float]:
    """(value, gross exposure) of what is held at the bar's reference prices, or the last marks."""
    value, gross = 0.0, 0.0
    for i in range(n_held):
        c = held_N[i]
        price = float(fill_TN[t, c])
        if np.isnan(price):
            price = float(mark_TN[t - 1, c])
        value += shares_N[c] * price
        gross += abs(shares_N[c]) * price
    return value, gross


@njit(cache=True, nogil=True, error_model="numpy")
def sides_nb(held_N: Any, n_held: int, shares_N: Any, mark_TN: Any, t: int) -> tuple[float, float]:
    """(gross exposure, value of the shorts, 0 or more) at the bar's marks."""
    gross, shorted = 0.0, 0.0
    for i in range(n_held):
        value = shares_N[held_N[i]] * mark_TN[t, held_N[i]]
        gross += abs(value)
        shorted += max(-value, 0.0)
    return gross, shorted


@njit(cache=True, nogil=True, error_model="numpy")
def end_nb(
    equity_T: Any, cash_T: Any, short_T: Any, totals: Any, walked: int, equity: float
) -> None:
    """Nothing is left after `walked` bars: the account stays as it is."""
    totals[Total.RUIN] = walked
    equity_T[walked:], cash_T[walked:], short_T[walked:] = equity, equity, 0.0
