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

from math import isnan

import numpy as np
import numpy.typing as npt

from backtest.fills.inputs import Inputs, Targets
from backtest.fills.oracle_orders import Book, Position, Wanted, fill_all, one_order, settle
from backtest.fills.rules import Kind, Reason, Unit

Float = npt.NDArray[np.float64]


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
        fill_all(book, m, config, t, wanted, kind, base)
    if config["at_open"]:
        _exit(book, m, config, t, at_open=False)


def _exit(book: Book, m: Inputs, config: np.void, t: int, *, at_open: bool) -> None:
    for c in [c for c in book.shares if c in book.positions]:
        position, have = book.positions[c], book.shares[c]
        found = _level(position, have, m, config, t, c, at_open)
        if found is None:
            continue
        reference, kind = found
        quantity, price, fee, reason = one_order(
            book, m, config, t, c, have, 0.0, None, reference, kind == Kind.TAKE, np.nan
        )
        side = -1.0 if have > 0 else 1.0
        if reason != Reason.NONE:
            missing = side * (abs(have) - quantity)
            book.misses.append((position.since, t, c, 0.0, missing, int(reason)))
        if quantity > 0:
            settle(book, m, config, t, c, side * quantity, price, fee, waited=False)
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
