"""What the simulator does, in plain Python: the specification `kernels.simulate_nb` is held to.

Slow and obvious; nothing but tests runs it. A bar t goes through these steps, in this order:

1. *Carrying.* Cash earns (or owes) one bar of interest; shorts pay one bar of borrow fee, and
   longs one bar of funding to shorts, on their last mark.
2. *Actions.* A split multiplies shares (and wanted shares not filled yet); a dividend pays cash per
   share held after the split; a funding rate is paid on the last mark. Levels of exits and limit
   orders are divided by the split and lowered by the dividend, as brokers do.
3. *Payouts.* A delisted name is paid out at its settlement price, free of cost.
4. *Fills.* A margin call sells everything, and a decision due then is dropped. Otherwise, a
   decision of bar t − lag fills now and replaces whatever was carried (orders replace what is
   carried of their own names); otherwise what is carried is tried again.
   A decision wants weight × equity / mark shares of each name it lists, equity and mark being those
   of *its* close, and none of every other name.
   The orders compete for cash in this order: (a) sells of names held, the oldest position first;
   (b) new shorts, as the decision lists them; (c) buys that cover shorts it does not list, the
   oldest position first; (d) all other buys, as the decision lists them. So the strategy's first
   choice is paid first, and the last one gets what is left.
   Exits come before it and after it. At the opening print: positions held for `max_bars`, and those
   whose level the open lies beyond, close at the open. Then, where orders fill at the open, the
   decision; else the decision comes last. In the rest of the bar: a position whose stop the bar
   touches closes at the stop, else one whose take-profit it touches closes there (not on the bar it
   was opened on by a waiting order: the high may have come before). A name closed by an exit is not
   added to by what was decided before that bar's close.
5. *Mark.* Equity = cash + shares × mark (the last close known). Where nothing is left, the walk
   ends.
6. *Margin.* Where equity / gross exposure is below the maintenance level, all is sold `lag` bars
   later (at least one).

An order, one after the other: no reference price → no fill, or where most names are silent too, it
waits; a change within the no-trade band → none; a limit order meets the reference price, or waits
for the rest of the bar to touch its limit; at or beyond the exchange's price limit (on the last
close of the session before), judged at the reference price → no buy (sell); no known volatility or
volume where the price depends on it → no fill; then the quantity is cut by T+1, by the
participation cap and to whole lots (a sale of everything is never rounded); this quantity fixes the
price; then a buy is cut to the cash (margin accounts: what adds to exposure is cut to the leverage
limit, before costs), and to lots again; below the least order value → no fill. A fill never takes
the cash of a cash account below zero. Orders that waited, and take-profits, have no slippage and
pay the maker's fee.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor, isnan, sqrt

import numpy as np
import numpy.typing as npt

from backtest.fills.inputs import Inputs, Targets
from backtest.fills.rules import DUST, LOT_SLACK, Kind, Reason, Unit

Float = npt.NDArray[np.float64]


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


def simulate(m: Inputs, targets: Targets, config: np.void, first: int, last: int) -> Book:
    """Walk bars `first` (all cash at its close) to `last`."""
    book = Book(cash=float(config["cash"]))
    lag = int(config["lag"])
    call_row = -1
    for t in range(first, last + 1):
        if t > first:
            _carry(book, m, config, t)
            _pay_out(book, m, t)
        decided = _decided_at(targets, t - lag) if t - lag >= first else -1
        called = t == call_row
        if t > first or lag == 0:
            wanted: list[Wanted] | None = None
            if called:
                wanted = [(c, 0.0, t, 0.0, np.nan) for c in book.shares]
                if decided >= 0:
                    for k in range(targets.start_R1[decided], targets.start_R1[decided + 1]):
                        c, weight = int(targets.column_M[k]), float(targets.weight_M[k])
                        book.misses.append((t - lag, t, c, weight, 0.0, int(Reason.MARGIN_CALL)))
            elif decided >= 0:
                equity = _equity(book, m, t) if lag == 0 else book.equity_T[t - lag - first]
                wanted = _wanted(book, m, targets, config, decided, t - lag, t, equity)
            elif book.carried:
                wanted = book.carried
            _bar(book, m, config, t, first, wanted, Kind.MARGIN_CALL if called else Kind.TRADE)
        book.equity_T.append(_equity(book, m, t))
        book.cash_T.append(book.cash)
        values = [n * float(m.mark_TN[t, c]) for c, n in book.shares.items()]
        book.short_T.append(sum(-value for value in values if value < 0))
        for c, position in book.positions.items():
            _see(position, book.shares[c], m, t, c)
        if book.equity_T[-1] <= 0:
            rest = last - t
            book.equity_T += [book.equity_T[-1]] * rest
            book.cash_T += [book.equity_T[-1]] * rest
            book.short_T += [0.0] * rest
            book.ruined = True
            break
        gross = sum(abs(value) for value in values)
        short_of = book.equity_T[-1] < float(config["maintenance"]) * gross
        if config["margin"] and short_of and call_row <= t:
            call_row = t + max(lag, 1)
    return book


def _see(position: Position, shares: float, m: Inputs, t: int, c: int) -> None:
    """The best price of the bar; of the one it was opened on, perhaps only the close."""
    best = float(m.high_TN[t, c] if shares > 0 else m.low_TN[t, c])
    if position.inside and position.since == t:
        best = float(m.mark_TN[t, c])
    if not isnan(best):
        position.peak = max(position.peak, best) if shares > 0 else min(position.peak, best)


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
    earned, owed = book.cash * float(rate), 0.0
    for c, n in book.shares.items():
        value = n * float(m.mark_TN[t - 1, c])
        owed += value * float(config["funding"])
        if value < 0:
            own = len(m.borrow_N) and not isnan(m.borrow_N[c])
            owed -= value * float(m.borrow_N[c] if own else config["borrow"])
    for a in np.flatnonzero(m.action_row_A == t):
        c, split, dividend = int(m.action_column_A[a]), float(m.split_A[a]), float(m.dividend_A[a])
        book.carried = [
            (k, w * split, d, x, limit / split - dividend) if k == c else (k, w, d, x, limit)
            for k, w, d, x, limit in book.carried
        ]
        if c in book.shares:
            if len(m.funding_A):
                owed += book.shares[c] * float(m.mark_TN[t - 1, c]) * float(m.funding_A[a])
            book.shares[c] *= split
            book.cash += book.shares[c] * dividend
        if c in book.bought:
            session, n = book.bought[c]
            book.bought[c] = (session, n * split)
        if c in book.positions:
            position = book.positions[c]
            position.basis = position.basis / split - dividend
            position.peak = position.peak / split - dividend
    book.cash += earned - owed


def _pay_out(book: Book, m: Inputs, t: int) -> None:
    for c in [c for c in range(len(m.settle_row_N)) if m.settle_row_N[c] == t]:
        book.carried = [entry for entry in book.carried if entry[0] != c]
        n = book.shares.pop(c, 0.0)
        book.positions.pop(c, None)
        if n:
            price = float(m.settle_price_N[c])
            book.cash += n * price
            book.orders.append((-1, t, c, -n, price, price, 0.0, int(Kind.PAYOUT)))


def _wanted(
    book: Book,
    m: Inputs,
    targets: Targets,
    config: np.void,
    r: int,
    decided: int,
    t: int,
    equity: float,
) -> list[Wanted]:
    """Listed names in their order; then, of target weights, the names held that are not listed, at
    zero, and of orders, those still carried."""
    wanted: list[Wanted] = []
    funds, unit = max(equity, 0.0), Unit.TARGET
    for k in range(int(targets.start_R1[r]), int(targets.start_R1[r + 1])):
        c, number = int(targets.column_M[k]), float(targets.weight_M[k])
        limit = np.nan
        mark, have = float(m.mark_TN[decided, c]), book.shares.get(c, 0.0)
        if 0 <= m.settle_row_N[c] <= t:
            book.misses.append((decided, t, c, number, 0.0, int(Reason.DELISTED)))
            continue
        if isnan(mark):
            book.misses.append((decided, t, c, number, 0.0, int(Reason.NOT_LISTED)))
            continue
        if len(targets.unit_M):
            unit, limit = Unit(targets.unit_M[k]), float(targets.limit_M[k])
        splits = 1.0
        for a in np.flatnonzero((m.action_row_A > decided) & (m.action_row_A <= t)):
            if m.action_column_A[a] == c:
                splits *= float(m.split_A[a])
                limit = limit / float(m.split_A[a]) - float(m.dividend_A[a])
        weighed = number * funds / mark * splits
        shares = {
            Unit.TARGET: weighed,
            Unit.SHARES: have + number * splits,
            Unit.VALUE: have + number / mark * splits,
            Unit.PERCENT: have + weighed,
            Unit.ENTER: have or weighed,
            Unit.EXIT: 0.0,
        }[unit]
        if unit != Unit.TARGET and shares < 0 and not config["short"]:
            book.misses.append((decided, t, c, number, shares, int(Reason.NOT_HELD)))
            shares = min(have, 0.0)
        wanted.append((c, shares, decided, number, limit))
    listed = {entry[0] for entry in wanted}
    if unit != Unit.TARGET:
        return wanted + [entry for entry in book.carried if entry[0] not in listed]
    return wanted + [(c, 0.0, decided, 0.0, np.nan) for c in book.shares if c not in listed]


def _bar(
    book: Book,
    m: Inputs,
    config: np.void,
    t: int,
    first: int,
    wanted: list[Wanted] | None,
    kind: Kind,
) -> None:
    """Exits at the opening print, the decision, exits in the rest of the bar, in their order."""
    if wanted is not None:
        book.carried = []
    base = book.equity_T[-1] if t > first else float(config["cash"])
    _exit(book, m, config, t, at_open=True)
    if not config["at_open"]:
        _exit(book, m, config, t, at_open=False)
    if wanted is not None:
        _fill_all(book, m, config, t, wanted, kind, base)
    if config["at_open"]:
        _exit(book, m, config, t, at_open=False)


def _exit(book: Book, m: Inputs, config: np.void, t: int, *, at_open: bool) -> None:
    for c in [c for c in book.shares if c in book.positions]:
        position, have = book.positions[c], book.shares[c]
        found = _level(position, have, m, config, t, c, at_open)
        if found is None:
            continue
        reference, kind = found
        quantity, price, fee, reason = _order(
            book, m, config, t, c, have, 0.0, None, reference, kind == Kind.TAKE, np.nan
        )
        side = -1.0 if have > 0 else 1.0
        if reason != Reason.NONE:
            missing = side * (abs(have) - quantity)
            book.misses.append((position.since, t, c, 0.0, missing, int(reason)))
        if quantity > 0:
            _settle(book, m, config, t, c, side * quantity, price, fee, waited=False)
            book.exited[c] = t
            book.carried = [entry for entry in book.carried if entry[0] != c]
            book.orders.append((-1, t, c, side * quantity, reference, price, fee, int(kind)))


def _level(
    position: Position, have: float, m: Inputs, config: np.void, t: int, c: int, at_open: bool
) -> tuple[float, Kind] | None:
    """Where the bar closes the position, and what closes it."""
    up = 1.0 if have > 0 else -1.0
    opened, low, high = (float(matrix[t, c]) for matrix in (m.open_TN, m.low_TN, m.high_TN))
    worst, best = (low, high) if up > 0 else (high, low)
    if at_open:
        if config["max_bars"] > 0 and t - position.since >= config["max_bars"]:
            return None if isnan(opened) else (opened, Kind.TIME)
        worst = best = opened
    stops = []
    if config["stop"] > 0:
        stops.append((position.basis * (1 - up * float(config["stop"])), Kind.STOP))
    if config["trail"] > 0:
        stops.append((position.peak * (1 - up * float(config["trail"])), Kind.TRAIL))
    if stops:
        level, kind = max(stops, key=lambda each: up * each[0])
        if up * worst <= up * level:
            return (opened if up * opened <= up * level else level), kind
    if config["take"] > 0 and not (position.inside and position.since == t):
        level = position.basis * (1 + up * float(config["take"]))
        if up * best >= up * level:
            return (opened if up * opened >= up * level else level), Kind.TAKE
    return None


def _fill_all(
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
            quantity, price, fee, reason = _order(
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
        _settle(book, m, config, t, c, signed, price, fee, waited=waited)
        if exposure is not None:
            exposure.after(c, have, signed, reference, abs(price - reference) * quantity + fee)
        book.orders.append((decided, t, c, signed, reference, price, fee, int(kind)))
    book.carried = list(left.values())


def _settle(
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


def _order(
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
