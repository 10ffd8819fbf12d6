"""The oracle's orders, one after the other: what fills, how much of it, and at what price.

`backtest.fills.oracle` gives the order of events and the rules in words; nothing but tests runs it.
this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor, isnan, sqrt

import numpy as np

from backtest.fills.inputs import Inputs
from backtest.fills.rules import DUST, LOT_SLACK, Kind, Reason

Wanted = tuple[int, float, int, float, float]
"""(column, wanted shares, decided row, weight, limit price or NaN)."""


@dataclass
class Position:
    """What exits go by."""

    basis: float
    """Average fill price."""
    peak: float
    """Best price since the first fill."""
    since: int
    """Bar of the first fill."""
    inside: bool
    """Whether that bar's low and high may lie before the fill."""


@dataclass
class Book:
    """State of one cash pool, and what it did."""

    cash: float
    shares: dict[int, float] = field(default_factory=dict)
    """Oldest position first."""
    bought: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Session of the last buys, and how many shares."""
    positions: dict[int, Position] = field(default_factory=dict)
    exited: dict[int, int] = field(default_factory=dict)
    """Bar of the last exit of each name."""
    carried: list[Wanted] = field(default_factory=list)
    equity_T: list[float] = field(default_factory=list)
    cash_T: list[float] = field(default_factory=list)
    short_T: list[float] = field(default_factory=list)
    orders: list[tuple[int, int, int, float, float, float, float, int]] = field(
        default_factory=list
    )
    """(decided row, row, column, signed shares, reference, price, fee, kind)."""
    misses: list[tuple[int, int, int, float, float, int]] = field(default_factory=list)
    """(decided row, row, column, weight, signed shares not filled, reason)."""
    banded: int = 0
    ruined: bool = False


def fill_all(
    book: Book,
    m: Inputs,
    config: np.void,
    t: int,
    wanted: list[Wanted],
    kind: Kind,
    base: float,
) -> None:
    held = list(book.shares)
    place = {c: i for i, c in enumerate(held)}
    listed = [entry for entry in wanted if entry[1] != 0 or entry[3] != 0]
    by_age = sorted((e for e in wanted if e[0] in place), key=lambda e: place[e[0]])
    unlisted = [e for e in by_age if e[1] == 0 and e[3] == 0]
    orders = (
        [(e, -1) for e in by_age]
        + [(e, -1) for e in listed if e[0] not in place]
        + [(e, +1) for e in unlisted]
        + [(e, +1) for e in listed]
    )
    exposure = _Exposure(book, m, t) if config["margin"] else None
    left: dict[int, Wanted] = {}
    for entry, side in orders:
        c, want, decided, weight, limit = entry
        have = book.shares.get(c, 0.0)
        delta = want - have
        if delta * side <= 0 or abs(delta) <= DUST * max(abs(want), abs(have)):
            continue
        reference, waited, reason = float(m.fill_TN[t, c]), False, Reason.NONE
        if isnan(reference):
            reason = Reason.NO_PRICE
        if decided < book.exited.get(c, -1) and abs(want) > abs(have):
            reason = Reason.EXITED
        elif (
            reason == Reason.NONE
            and want * have > 0
            and abs(delta) * reference < float(config["band"]) * base
        ):
            book.banded += 1
            continue
        if reason == Reason.NONE and not isnan(limit) and side * reference > side * limit:
            touched = float(m.low_TN[t, c]) <= limit if side > 0 else m.high_TN[t, c] >= limit
            reference, waited = limit, True
            if not (touched and config["at_open"]):
                reason = Reason.UNREACHED
        quantity, price, fee = 0.0, 0.0, 0.0
        if reason == Reason.NONE:
            quantity, price, fee, reason = one_order(
                book, m, config, t, c, have, want, exposure, reference, waited, limit
            )
        if reason != Reason.NONE:
            wait = len(m.thin_T) > 0 and bool(m.thin_T[t]) and reason == Reason.NO_PRICE
            if not wait:
                missing = side * (abs(delta) - quantity)
                book.misses.append((decided, t, c, weight, missing, int(reason)))
            again = (
                Reason.NO_PRICE,
                Reason.PRICE_LIMIT,
                Reason.VOLUME,
                Reason.SAME_SESSION,
                Reason.UNREACHED,
            )
            if wait or (config["carry"] and reason in again):
                left[c] = entry
        if quantity <= 0:
            continue
        signed = side * quantity
        settle(book, m, config, t, c, signed, price, fee, waited=waited)
        if exposure is not None:
            exposure.after(c, have, signed, reference, abs(price - reference) * quantity + fee)
        book.orders.append((decided, t, c, signed, reference, price, fee, int(kind)))
    book.carried = list(left.values())


def settle(
    book: Book,
    m: Inputs,
    config: np.void,
    t: int,
    c: int,
    signed: float,
    price: float,
    fee: float,
    *,
    waited: bool,
) -> None:
    """Cash, shares, T+1 and the position after a fill."""
    have, quantity = book.shares.get(c, 0.0), abs(signed)
    book.cash -= signed * price + fee
    if signed > 0 and not config["margin"]:
        book.cash = max(book.cash, 0.0)
    now = have + signed
    if abs(now) <= DUST * max(abs(have), quantity):
        book.shares.pop(c)
        book.positions.pop(c, None)
    else:
        book.shares[c] = now
        if any(config[name] > 0 for name in ("stop", "trail", "take", "max_bars")):
            if have * now <= 0:
                inside = waited or not config["at_open"]
                book.positions.pop(c, None)
                book.positions[c] = Position(price, price, t, inside)
            elif abs(now) > abs(have):
                position = book.positions[c]
                position.basis = (position.basis * abs(have) + price * quantity) / abs(now)
    if signed > 0:
        session, n = book.bought.get(c, (-1, 0.0))
        today = int(m.session_T[t])
        book.bought[c] = (today, quantity + (n if session == today else 0.0))


class _Exposure:
    """Equity and gross exposure of a margin account at the bar's reference prices."""

    def __init__(self, book: Book, m: Inputs, t: int) -> None:
        self.equity, self.gross = book.cash, 0.0
        for c, n in book.shares.items():
            price = float(m.fill_TN[t, c])
            if isnan(price):
                price = float(m.mark_TN[t - 1, c])
            self.equity += n * price
            self.gross += abs(n) * price

    def after(self, c: int, have: float, signed: float, reference: float, cost: float) -> None:
        self.equity -= cost
        self.gross += (abs(have + signed) - abs(have)) * reference


def _beyond_limit(
    m: Inputs, config: np.void, t: int, c: int, side: float, reference: float, factor: float
) -> bool:
    """Whether the exchange lets nobody trade this side at this price."""
    limit = float(config["limit"])
    if len(m.limit_N) and not isnan(m.limit_N[c]):
        limit = float(m.limit_N[c])
    earlier = np.flatnonzero(m.session_T[:t] < m.session_T[t])
    if not limit > 0 or not len(earlier):
        return False
    before = float(m.mark_TN[earlier[-1], c])
    for a in np.flatnonzero((m.action_row_A > earlier[-1]) & (m.action_row_A <= t)):
        if m.action_column_A[a] == c:
            before = before / float(m.split_A[a]) - float(m.dividend_A[a])
    if isnan(before):
        return False
    level, tick = before * (1 + side * limit), float(config["tick"])
    if tick > 0:
        raw = before / factor
        steps = floor(raw * (1 + side * limit) / tick + 0.5 + 1e-7)
        level = (
            max(steps * tick, raw + tick) if side > 0 else min(steps * tick, raw - tick)
        ) * factor
    return side * (reference - level) >= -1e-9 * abs(level)


def one_order(
    book: Book,
    m: Inputs,
    config: np.void,
    t: int,
    c: int,
    have: float,
    want: float,
    exposure: _Exposure | None,
    reference: float,
    waited: bool,
    limit: float,
) -> tuple[float, float, float, Reason]:
    """(quantity, price, fee, why not in full) of bringing `have` shares to `want`."""
    side = 1.0 if want > have else -1.0
    lot, factor = float(config["lot"]), float(m.factor_TN[t if len(m.factor_TN) > 1 else 0, c])
    if _beyond_limit(m, config, t, c, side, reference, factor):
        return 0.0, 0.0, 0.0, Reason.PRICE_LIMIT
    quantity, reason = abs(want - have), Reason.NONE
    if config["t_plus_one"] and side < 0 and have > 0:
        session, n = book.bought.get(c, (-1, 0.0))
        free = max(have - n, 0.0) if session == m.session_T[t] else have
        if free < quantity:
            quantity, reason = free, Reason.SAME_SESSION
    volume = 0.0
    if config["participation"] > 0 or config["impact"] > 0:
        volume = float(m.volume_TN[t, c])
        if not volume > 0:
            return 0.0, 0.0, 0.0, Reason.VOLUME
        cap = float(config["participation"]) * volume
        if config["participation"] > 0 and cap < quantity:
            quantity, reason = cap, Reason.VOLUME
    everything = want == 0 and quantity == abs(have)
    if lot > 0 and not everything:
        quantity = floor(quantity * factor / lot + LOT_SLACK) * lot / factor
    if quantity <= 0:
        return 0.0, 0.0, 0.0, Reason.LOT if reason == Reason.NONE else reason

    worse = float(config["slippage"])
    if config["slippage_volatility"] > 0 or config["impact"] > 0:
        sigma = float(m.sigma_TN[t, c])
        if isnan(sigma):
            return 0.0, 0.0, 0.0, Reason.NO_VOLATILITY
        worse += float(config["slippage_volatility"]) * sigma
        if config["impact"] > 0:
            worse += float(config["impact"]) * sigma * sqrt(quantity / volume)
    price = reference if waited else max(reference * (1 + side * worse), 0.0)
    if config["inside_bar"]:
        price = min(max(price, float(m.low_TN[t, c])), float(m.high_TN[t, c]))
    if not isnan(limit):
        price = min(price, limit) if side > 0 else max(price, limit)

    rate, least, most = (float(config[name]) for name in ("rate", "min_fee", "max_fee"))
    if len(m.rate_N) and not isnan(m.rate_N[c]):
        rate = float(m.rate_N[c])
    if waited:
        rate = float(config["maker"])
        least = least if rate >= 0 else -np.inf
    per_share = price * rate + float(config["per_share"])
    tax = float(config["buy_tax"] if side > 0 else config["sell_tax"])

    def charged(shares: float) -> float:
        return min(max(shares * per_share, least), most) + shares * price * tax

    fee, cut = charged(quantity), quantity
    if exposure is not None:
        closing = min(quantity, abs(have)) if have * side < 0 else 0.0
        room = float(config["leverage"]) * exposure.equity - exposure.gross + closing * reference
        cut = closing + min(quantity - closing, max(room, 0.0) / reference)
        why = Reason.LEVERAGE
    elif config["margin"]:  # an exit only takes exposure away
        why = Reason.LEVERAGE
    elif side > 0:
        if quantity * price + fee > book.cash:
            whole = price + price * tax
            capped = (book.cash - most) / whole
            cut = min(book.cash / (whole + per_share), (book.cash - least) / whole)
            cut = max(cut, capped, 0.0)
        why = Reason.NO_CASH
    elif book.cash + quantity * price - fee < 0:
        return 0.0, 0.0, 0.0, Reason.NO_CASH
    if cut < quantity:
        if lot > 0:
            cut = floor(cut * factor / lot + LOT_SLACK) * lot / factor
        quantity, reason = cut, why
        if quantity <= 0:
            return 0.0, 0.0, 0.0, reason
        fee = charged(quantity)
    if quantity * price < float(config["min_order"]):
        return 0.0, 0.0, 0.0, Reason.TOO_SMALL
    return quantity, price, fee, reason
