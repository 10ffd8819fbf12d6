"""How much of one order fills. Functions of plain numbers: no bars, no account, no arrays.

`backtest.fills.oracle` says the same in its own words. These stay functions of numbers because the
kernel calls them for every order: one that takes the kernel's arrays made it several times slower.
"""

from __future__ import annotations

from math import floor

from numba import njit

from backtest.fills.rules import LOT_SLACK, Reason


@njit(cache=True, nogil=True, error_model="numpy")
def to_lots_nb(quantity: float, lot: float, factor: float) -> float:
    """The whole lots in `quantity` shares; `quantity` itself where lot is 0.

    lot: raw shares per lot. factor: raw shares per share of these prices.
    """
    if lot > 0:
        return floor(quantity * factor / lot + LOT_SLACK) * lot / factor
    return quantity


@njit(cache=True, nogil=True, error_model="numpy")
def quantity_nb(
    wanted: float, free: float, most: float, everything: float, lot: float, factor: float
) -> tuple[float, int]:
    """(shares, why not all of them) of an order for `wanted` shares, before its price is known.

    free: shares that may be sold in this session (T+1), or infinity. most: shares the bar's volume
    leaves room for, or infinity. everything: shares held where the order closes the position, else
    negative; a close of all of them is never rounded to lots.
    """
    quantity, reason = wanted, Reason.NONE
    if free < quantity:
        quantity, reason = free, Reason.SAME_SESSION
    if most < quantity:
        quantity, reason = most, Reason.VOLUME
    if quantity != everything:
        quantity = to_lots_nb(quantity, lot, factor)
    if quantity <= 0:
        return 0.0, Reason.LOT if reason == Reason.NONE else reason
    return quantity, reason


@njit(cache=True, nogil=True, error_model="numpy")
def affordable_nb(
    quantity: float, price: float, each: float, least_fee: float, cash: float, selling: bool
) -> float:
    """Shares of `quantity` that a cash account can pay for; a sale costs at most what it brings.

    each: commission per share at this price; least_fee: an order is charged at least this much.
    """
    fee = max(quantity * each, least_fee)
    if selling:
        return quantity if cash + quantity * price - fee >= 0 else 0.0
    if quantity * price + fee > cash:
        return max(min(cash / (price + each), (cash - least_fee) / price), 0.0)
    return quantity
