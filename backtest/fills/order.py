"""At which price, how much, and for which fee one order fills. Functions of plain numbers: no bars,
no account, no arrays.

`backtest.fills.oracle` says the same in its own words. These stay functions of numbers because the
kernel calls them for every order: one that takes the kernel's arrays made it several times slower.
"""

from __future__ import annotations

from math import floor, isnan

from numba import njit

from backtest.fills.rules import LOT_SLACK, Kind, Reason, Unit

NEAR = 1e-9
"""Relative size of what counts as the same price."""
HALF = 0.5 + 1e-7
"""Half a tick, and the rounding of 0.1 × 1.05 in binary."""


@njit(cache=True, nogil=True, error_model="numpy")
def to_lots_nb(quantity: float, lot: float, factor: float) -> float:
    """The whole lots in `quantity` shares; `quantity` itself where lot is 0.

    lot: raw shares per lot. factor: raw shares per share of these prices.
    """
    if lot > 0:
        return floor(quantity * factor / lot + LOT_SLACK) * lot / factor
    return quantity


@njit(cache=True, nogil=True, error_model="numpy")
def beyond_limit_nb(
    reference: float, before: float, side: float, limit: float, tick: float, factor: float
) -> bool:
    """Whether the exchange refuses this side at this price: at or beyond the limit price.

    The limit price is before × (1 ± limit), rounded half up to the tick, at least one tick away,
    in raw prices (price / factor). Without a close before there is no limit.
    """
    if isnan(before):
        return False
    level = before * (1 + side * limit)
    if tick > 0:
        raw = before / factor
        level = floor(raw * (1 + side * limit) / tick + HALF) * tick
        level = (max(level, raw + tick) if side > 0 else min(level, raw - tick)) * factor
    return side * (reference - level) >= -NEAR * abs(level)


@njit(cache=True, nogil=True, error_model="numpy")
def wanted_nb(
    unit: int, number: float, funds: float, mark: float, scale: float, have: float
) -> float:
    """Shares that an entry of a decision asks to hold.

    mark: the close it was decided at. scale: new shares per share of then (splits since). have:
    shares held now.
    """
    if unit == Unit.TARGET or (unit == Unit.ENTER and have == 0):
        return number * funds / mark * scale
    if unit == Unit.SHARES:
        return have + number * scale
    if unit == Unit.VALUE:
        return have + number / mark * scale
    if unit == Unit.PERCENT:
        return have + number * funds / mark * scale
    return have if unit == Unit.ENTER else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def limit_order_nb(
    reference: float, limit: float, side: float, low: float, high: float, at_open: bool
) -> tuple[float, bool, bool]:
    """(reference price, whether it waited in the book, whether it fills) of a limit order.

    A limit the reference price meets fills there, as a taker. Else, where orders reach the market
    at the open, it waits for the rest of the bar and fills at the limit if the bar touches it.
    """
    if side * (reference - limit) <= 0:
        return reference, False, True
    reached = low <= limit if side > 0 else high >= limit
    return limit, True, at_open and reached


@njit(cache=True, nogil=True, error_model="numpy")
def exit_nb(
    have: float, basis: float, peak: float, open_: float, low: float, high: float,
    stop: float, trail: float, take: float, at_open: bool, take_too: bool,
) -> tuple[float, int]:  # fmt: skip
    """(price, kind) at which a position is closed, or (NaN, 0).

    at_open: the opening print alone, which fills whatever lies beyond a level at the open. Else the
    rest of the bar, the worst first: a bar that touches both levels has stopped before it profited.
    basis: average fill price; peak: best price since the first fill. take_too: whether the
    take-profit may have been reached after the position was opened.
    """
    side = 1.0 if have > 0 else -1.0
    worst = low if have > 0 else high
    best = high if have > 0 else low
    if at_open:
        worst, best = open_, open_
    kind, level = 0, 0.0
    if stop > 0:
        kind, level = Kind.STOP, basis * (1 - side * stop)
    if trail > 0:
        other = peak * (1 - side * trail)
        if kind == 0 or side * (other - level) > 0:
            kind, level = Kind.TRAIL, other
    if kind != 0 and side * (worst - level) <= 0:
        return (open_ if side * (open_ - level) <= 0 else level), kind
    if take > 0 and take_too:
        level = basis * (1 + side * take)
        if side * (best - level) >= 0:
            return (open_ if side * (open_ - level) >= 0 else level), Kind.TAKE
    return float("nan"), 0


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
def fee_nb(
    quantity: float, price: float, each: float, least: float, most: float | None, tax: float | None
) -> float:
    """Commission between `least` and `most`, and the tax of the side.

    each: commission per share at this price. tax: fraction of the value. Where most and tax are
    None, nothing is compiled for them.
    """
    if most is None or tax is None:
        return max(quantity * each, least)
    return min(max(quantity * each, least), most) + quantity * price * tax


@njit(cache=True, nogil=True, error_model="numpy")
def affordable_nb(
    quantity: float, price: float, each: float, least: float, most: float | None,
    tax: float | None, cash: float, selling: bool,
) -> float:  # fmt: skip
    """Shares of `quantity` that a cash account can pay for; a sale costs at most what it brings.

    The most shares q with q · price · (1 + tax) + min(max(q · each, least), most) ≤ cash; None as
    for `fee_nb`.
    """
    fee = fee_nb(quantity, price, each, least, most, tax)
    if selling:
        return quantity if cash + quantity * price - fee >= 0 else 0.0
    if quantity * price + fee > cash:
        if most is None or tax is None:
            return max(min(cash / (price + each), (cash - least) / price), 0.0)
        whole = price + price * tax
        rising = min(cash / (whole + each), (cash - least) / whole)
        return max(rising, (cash - most) / whole, 0.0)
    return quantity


@njit(cache=True, nogil=True, error_model="numpy")
def within_leverage_nb(
    quantity: float, have: float, side: float, reference: float, worth: float, gross: float,
    leverage: float,
) -> float:  # fmt: skip
    """Shares of `quantity` that a margin account may trade: all that closes, and of what opens as
    much as leaves gross exposure at leverage × equity, before costs.

    worth, gross: equity and gross exposure at the bar's reference prices.
    """
    closing = min(quantity, abs(have)) if have * side < 0 else 0.0
    room = leverage * worth - gross + closing * reference
    return closing + min(quantity - closing, max(room, 0.0) / reference)
