"""What happens to an account beside its orders: carrying, actions, payouts, and its end.

Legend: N symbols, A corporate actions, T bars.
"""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np

from backtest.fills.book import Book, Count, Money, fill_nb, without_nb
from backtest.fills.compiled import inlined
from backtest.fills.inputs import Inputs
from backtest.fills.levels import bound_nb
from backtest.fills.rules import Kind
from backtest.fills.stats import Total


@inlined
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


@inlined
def owed_nb(b: Book, m: Inputs, config: Any, t: int, more: bool | None) -> tuple[float, float]:
    """(borrow fee, funding) that positions owe for one bar, on their last marks."""
    owed, funding, held_N = 0.0, 0.0, b.names_5N[Count.HELD]
    for i in range(b.counts[Count.HELD]):
        c = held_N[i]
        value, fee = b.shares_N[c] * m.mark_TN[t - 1, c], config.borrow
        if more is not None:
            funding += value * config.funding
            if len(m.borrow_N) > 0 and not isnan(m.borrow_N[c]):
                fee = m.borrow_N[c]
        owed += max(-value, 0.0) * fee
    return owed, funding


@inlined
def act_nb(
    b: Book, m: Inputs, config: Any, a: int, t: int, units: bool, exits: bool, more: bool | None
) -> float:
    """One corporate action; returns the funding it asks for."""
    c = np.uintp(m.action_column_A[a])
    split, dividend, funding = m.split_A[a], m.dividend_A[a], 0.0
    if more is not None and len(m.funding_A) > 0 and b.shares_N[c] != 0:
        funding = b.shares_N[c] * m.mark_TN[t - 1, c] * m.funding_A[a]
    b.want_N[c] *= split
    b.shares_N[c] *= split
    b.money[Money.CASH] += b.shares_N[c] * dividend
    b.totals[Total.DIVIDENDS] += b.shares_N[c] * dividend
    if config.t_plus_one:
        b.bought_N[c] *= split
    if more is not None:
        if exits:
            b.basis_N[c] = b.basis_N[c] / split - dividend
            b.peak_N[c] = b.peak_N[c] / split - dividend
            bound_nb(b, config, c)
        if units:
            b.limit_N[c] = b.limit_N[c] / split - dividend
    return funding


@inlined
def pay_out_nb(
    b: Book, m: Inputs, config: Any, orders: Any, payout: int, t: int, units: bool, exits: bool
) -> None:
    """Pay a delisted name out at its settlement price."""
    c = np.uintp(m.payout_column_S[payout])
    without_nb(b, Count.LEFT, c)
    size = b.shares_N[c]
    if size != 0:
        price = m.settle_price_N[c]
        b.money[Money.CASH] += size * price
        b.shares_N[c] = 0.0
        without_nb(b, Count.HELD, c)
        if units or exits:
            b.opened_N[c] = 0
        if exits:
            bound_nb(b, config, c)
        fill_nb(b, orders, -1, t, c, -size, price, price, 0.0, Kind.PAYOUT)


@inlined
def since_nb(m: Inputs, action: int, row: int, c: Any) -> tuple[float, float]:
    """(new shares per share, cash per new share) of c's actions after bar `row`, up to the
    action-th of all."""
    since, scale, dividend = action, 1.0, 0.0
    while since > 0 and m.action_row_A[since - 1] > row:
        since -= 1
    for a in range(since, action):
        if m.action_column_A[a] == c:
            scale *= m.split_A[a]
            dividend = dividend / m.split_A[a] + m.dividend_A[a]
    return scale, dividend


@inlined
def last_close_nb(m: Inputs, action: int, row: int, c: Any) -> float:
    """c's close of bar `row` over the splits and less the dividends since."""
    since, close = action, float(m.mark_TN[row, c])
    while since > 0 and m.action_row_A[since - 1] > row:
        since -= 1
    for a in range(since, action):
        if m.action_column_A[a] == c:
            close = close / m.split_A[a] - m.dividend_A[a]
    return close


@inlined
def end_nb(equity_T: Any, cash_T: Any, short_T: Any, walked: int, equity: float) -> None:
    """Nothing is left after `walked` bars: the account stays as it is."""
    for t in range(walked, len(equity_T)):
        equity_T[t], cash_T[t], short_T[t] = equity, equity, 0.0
