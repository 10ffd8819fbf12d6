"""What the simulator does, in plain Python: the specification `kernels.simulate_nb` is held to.

Slow and obvious; nothing but tests runs it. A bar t goes through these steps, in this order:

1. *Carrying.* Cash earns (or owes) one bar of interest; shorts pay one bar of borrow fee on their
   last mark.
2. *Actions.* A split multiplies shares (and wanted shares not filled yet); a dividend pays cash per
   share held after the split.
3. *Payouts.* A delisted name is paid out at its settlement price, free of cost.
4. *Fills.* A margin call sells everything. Otherwise, a decision of bar t − lag fills now and
   replaces whatever was carried; otherwise what is carried is tried again.
   A decision wants weight × equity / mark shares of each name it lists, equity and mark being those
   of *its* close, and none of every other name.
   The orders compete for cash in this order: (a) sells of names held, the oldest position first;
   (b) new shorts, as the decision lists them; (c) buys that cover shorts it does not list, the
   oldest position first; (d) all other buys, as the decision lists them. So the strategy's first
   choice is paid first, and the last one gets what is left.
5. *Mark.* Equity = cash + shares × mark (the last close known).
6. *Margin.* Where equity / gross exposure is below the maintenance level, all is sold `lag` bars
   later (at least one).

An order, one after the other: no reference price → no fill; up (down) by the price limit on the
last close, judged at the reference price → no buy (sell); no known volatility or volume where the
price depends on it → no fill; then the quantity is cut by T+1, by the participation cap and to
whole lots (a sale of everything is never rounded); this quantity fixes the price; then a buy is cut
to the cash (margin accounts: what adds to exposure is cut to the leverage limit, before costs), and
to lots again. A fill never takes the cash of a cash account below zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor, isnan, sqrt

import numpy as np
import numpy.typing as npt

from backtest.fills.inputs import Inputs, Targets
from backtest.fills.rules import DUST, LOT_SLACK, Kind, Reason

Float = npt.NDArray[np.float64]


@dataclass
class Book:
    """State of one cash pool, and what it did."""

    cash: float
    shares: dict[int, float] = field(default_factory=dict)
    """Oldest position first."""
    bought: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Session of the last buys, and how many shares."""
    carried: list[tuple[int, float, int, float]] = field(default_factory=list)
    """(column, wanted shares, decided row, weight)."""
    equity_T: list[float] = field(default_factory=list)
    cash_T: list[float] = field(default_factory=list)
    orders: list[tuple[int, int, int, float, float, float, float, int]] = field(
        default_factory=list
    )
    """(decided row, row, column, signed shares, reference, price, fee, kind)."""
    misses: list[tuple[int, int, int, float, float, int]] = field(default_factory=list)
    """(decided row, row, column, weight, signed shares not filled, reason)."""


def simulate(m: Inputs, targets: Targets, config: np.void, first: int, last: int) -> Book:
    """Walk bars `first` (all cash at its close) to `last`."""
    book = Book(cash=float(config["cash"]))
    lag = int(config["lag"])
    call_row = -1
    for t in range(first, last + 1):
        if t > first:
            _carry(book, m, config, t)
            _act(book, m, t)
            _pay_out(book, m, t)
        decided = _decided_at(targets, t - lag) if t - lag >= first else -1
        if t > first or lag == 0:
            if t == call_row:
                wanted = [(c, 0.0, t, 0.0) for c in book.shares]
                _fill_all(book, m, config, t, wanted, Kind.MARGIN_CALL)
            elif decided >= 0:
                last_equity = _equity(book, m, t) if lag == 0 else book.equity_T[t - lag - first]
                wanted = _wanted(book, m, targets, decided, t - lag, t, last_equity)
                _fill_all(book, m, config, t, wanted, Kind.TRADE)
            elif book.carried:
                _fill_all(book, m, config, t, book.carried, Kind.TRADE)
        book.equity_T.append(_equity(book, m, t))
        book.cash_T.append(book.cash)
        gross = sum(abs(n) * float(m.mark_TN[t, c]) for c, n in book.shares.items())
        short_of = book.equity_T[-1] < float(config["maintenance"]) * gross
        if config["margin"] and short_of and call_row <= t:
            call_row = t + max(lag, 1)
    return book


def _equity(book: Book, m: Inputs, t: int) -> float:
    invested = 0.0
    for c, n in book.shares.items():
        invested += n * float(m.mark_TN[t, c])
    return book.cash + invested


def _decided_at(targets: Targets, row: int) -> int:
    found = np.flatnonzero(targets.row_R == row)
    return int(found[0]) if len(found) else -1


def _carry(book: Book, m: Inputs, config: np.void, t: int) -> None:
    rate = config["cash_rate"] if book.cash > 0 else config["debit_rate"]
    owed = 0.0
    for c, n in book.shares.items():
        if n < 0:
            owed += -n * float(m.mark_TN[t - 1, c]) * float(config["borrow"])
    book.cash += book.cash * float(rate) - owed


def _act(book: Book, m: Inputs, t: int) -> None:
    for a in np.flatnonzero(m.action_row_A == t):
        c, split = int(m.action_column_A[a]), float(m.split_A[a])
        book.carried = [(k, w * split if k == c else w, d, x) for k, w, d, x in book.carried]
        if c in book.shares:
            book.shares[c] *= split
            book.cash += book.shares[c] * float(m.dividend_A[a])
        if c in book.bought:
            session, n = book.bought[c]
            book.bought[c] = (session, n * split)


def _pay_out(book: Book, m: Inputs, t: int) -> None:
    for c in [c for c in range(len(m.settle_row_N)) if m.settle_row_N[c] == t]:
        book.carried = [entry for entry in book.carried if entry[0] != c]
        n = book.shares.pop(c, 0.0)
        if n:
            price = float(m.settle_price_N[c])
            book.cash += n * price
            book.orders.append((-1, t, c, -n, price, price, 0.0, int(Kind.PAYOUT)))


def _wanted(
    book: Book, m: Inputs, targets: Targets, r: int, decided: int, t: int, equity: float
) -> list[tuple[int, float, int, float]]:
    """Listed names in their order, then the names held that are not listed, at zero."""
    wanted = []
    for k in range(int(targets.start_R1[r]), int(targets.start_R1[r + 1])):
        c, weight = int(targets.column_M[k]), float(targets.weight_M[k])
        mark = float(m.mark_TN[decided, c])
        if 0 <= m.settle_row_N[c] <= t:
            book.misses.append((decided, t, c, weight, 0.0, int(Reason.DELISTED)))
        elif isnan(mark):
            book.misses.append((decided, t, c, weight, 0.0, int(Reason.NOT_LISTED)))
        else:
            shares = weight * max(equity, 0.0) / mark
            for a in np.flatnonzero((m.action_row_A > decided) & (m.action_row_A <= t)):
                if m.action_column_A[a] == c:
                    shares *= float(m.split_A[a])
            wanted.append((c, shares, decided, weight))
    listed = {entry[0] for entry in wanted}
    return wanted + [(c, 0.0, decided, 0.0) for c in book.shares if c not in listed]


def _fill_all(
    book: Book,
    m: Inputs,
    config: np.void,
    t: int,
    wanted: list[tuple[int, float, int, float]],
    kind: Kind,
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
    book.carried = []
    left: dict[int, tuple[int, float, int, float]] = {}
    for entry, side in orders:
        c, want, decided, weight = entry
        have = book.shares.get(c, 0.0)
        delta = want - have
        if delta * side <= 0 or abs(delta) <= DUST * max(abs(want), abs(have)):
            continue
        quantity, price, fee, reason = _order(book, m, config, t, c, have, want, exposure)
        if reason != Reason.NONE:
            missing = side * (abs(delta) - quantity)
            book.misses.append((decided, t, c, weight, missing, int(reason)))
            if config["carry"] and reason in (
                Reason.NO_PRICE,
                Reason.PRICE_LIMIT,
                Reason.VOLUME,
                Reason.SAME_SESSION,
            ):
                left[c] = entry
        if quantity <= 0:
            continue
        reference = float(m.fill_TN[t, c])
        signed = side * quantity
        book.cash -= signed * price + fee
        if side > 0 and not config["margin"]:
            book.cash = max(book.cash, 0.0)
        if exposure is not None:
            exposure.after(c, have, signed, reference, abs(price - reference) * quantity + fee)
        now = have + signed
        if abs(now) <= DUST * max(abs(have), quantity):
            book.shares.pop(c)
        else:
            book.shares[c] = now
        if side > 0:
            session, n = book.bought.get(c, (-1, 0.0))
            today = int(m.session_T[t])
            book.bought[c] = (today, quantity + (n if session == today else 0.0))
        book.orders.append((decided, t, c, signed, reference, price, fee, int(kind)))
    book.carried = list(left.values())


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


def _order(
    book: Book,
    m: Inputs,
    config: np.void,
    t: int,
    c: int,
    have: float,
    want: float,
    exposure: _Exposure | None,
) -> tuple[float, float, float, Reason]:
    """(quantity, price, fee, why not in full) of bringing `have` shares to `want`."""
    side = 1.0 if want > have else -1.0
    reference = float(m.fill_TN[t, c])
    if isnan(reference):
        return 0.0, 0.0, 0.0, Reason.NO_PRICE
    limit = float(config["limit"])
    if limit > 0 and t > 0:
        before = float(m.mark_TN[t - 1, c])
        for a in np.flatnonzero((m.action_row_A == t) & (m.action_column_A == c)):
            before /= float(m.split_A[a])
        if side * (reference / before - 1) >= limit - 1e-12:
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
    lot, factor = float(config["lot"]), float(m.factor_TN[t if len(m.factor_TN) > 1 else 0, c])
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
    price = max(reference * (1 + side * worse), 0.0)
    if config["inside_bar"]:
        price = min(max(price, float(m.low_TN[t, c])), float(m.high_TN[t, c]))

    per_share = price * float(config["rate"]) + float(config["per_share"])
    least = float(config["min_fee"])
    fee = max(quantity * per_share, least)
    cut = quantity
    if exposure is not None:
        closing = min(quantity, abs(have)) if have * side < 0 else 0.0
        room = float(config["leverage"]) * exposure.equity - exposure.gross + closing * reference
        cut = closing + min(quantity - closing, max(room, 0.0) / reference)
        why = Reason.LEVERAGE
    elif side > 0:
        if quantity * price + fee > book.cash:
            cut = max(min(book.cash / (price + per_share), (book.cash - least) / price), 0.0)
        why = Reason.NO_CASH
    elif book.cash + quantity * price - fee < 0:
        return 0.0, 0.0, 0.0, Reason.NO_CASH
    if cut < quantity:
        if lot > 0:
            cut = floor(cut * factor / lot + LOT_SLACK) * lot / factor
        quantity, reason = cut, why
        if quantity <= 0:
            return 0.0, 0.0, 0.0, reason
        fee = max(quantity * per_share, least)
    return quantity, price, fee, reason
