"""From what is wanted to what fills: orders one after the other, against the books of a walk.

`order` has the rules of one order as functions of numbers; here they meet bars and books. The
functions are inlined into the walk (`kernels.simulate_nb`): called, each would hand over forty
arrays.

Legend: N symbols, T bars.
"""

from __future__ import annotations

from math import isnan, sqrt
from typing import Any

import numpy as np

from backtest.fills.account import last_close_nb
from backtest.fills.book import (
    SCATTER,
    Book,
    Count,
    Money,
    drop_closed_nb,
    fill_nb,
    gross_nb,
    insert_by_age_nb,
    miss_nb,
    without_nb,
)
from backtest.fills.compiled import inlined
from backtest.fills.inputs import Inputs, Recorded
from backtest.fills.levels import bound_nb
from backtest.fills.order import (
    affordable_nb,
    beyond_limit_nb,
    fee_nb,
    limit_order_nb,
    quantity_nb,
    to_lots_nb,
    within_leverage_nb,
)
from backtest.fills.rules import DUST, Reason
from backtest.fills.stats import Total


@inlined
def trade_nb(
    b: Book, m: Inputs, config: Any, recorded: Recorded, t: int, decided: int, kind: int,
    rest_to_zero: bool, base: float, unbound: bool, units: bool, exits: bool,
    before_row: int, action: int, more: bool | None,
) -> None:  # fmt: skip
    """Bring the books to what is wanted, in the four phases of `oracle`.

    base: equity at the last close. unbound: whether prices and cash alone decide what fills.
    before_row: last bar of the session before. action: how many actions lie behind.
    """
    margin, n_aged, aged = config.margin, b.counts[Count.HELD], Count.HELD
    if margin:
        worth, gross = gross_nb(b, m.fill_TN, m.mark_TN, t)
        b.money[Money.WORTH], b.money[Money.GROSS] = b.money[Money.CASH] + worth, gross
    few = not rest_to_zero and b.counts[Count.WORK] * SCATTER < n_aged
    if more is not None and few and (units or exits):
        aged, b.counts[Count.AGED] = Count.AGED, 0
        for i in range(b.counts[Count.WORK]):
            c: Any = b.names_5N[Count.WORK, i]
            if b.shares_N[c] != 0 and b.want_N[c] != b.shares_N[c]:
                insert_by_age_nb(b, Count.AGED, c)
        n_aged = b.counts[Count.AGED]
    for phase in range(4):
        if (phase == 1 or phase == 2) and not margin:
            continue
        by_age, side = phase == 0 or phase == 2, -1.0 if phase < 2 else 1.0
        source, n = (aged, n_aged) if by_age else (Count.WORK, b.counts[Count.WORK])
        n = min(n, b.counts[source])  # an opening may have dropped names that were closed
        for i in range(n):
            c = b.names_5N[source, i]
            have, want, weight, at = b.shares_N[c], 0.0, 0.0, decided
            if b.stamp_N[c] == t:
                want, weight, at = b.want_N[c], b.weight_N[c], b.due_N[c]
            elif not rest_to_zero:
                continue
            delta = want - have
            if delta * side <= 0 or abs(delta) <= DUST * max(abs(want), abs(have)):
                continue
            if more is not None and by_age and have == 0:
                continue
            listed = want != 0 or weight != 0
            if (phase == 1 and not listed) or (phase == 2 and listed):
                continue
            if margin:
                if b.tried_N[c] == t:
                    continue
                b.tried_N[c] = t
            reference, waited = float(m.fill_TN[t, c]), False
            reason: int = Reason.NO_PRICE if isnan(reference) else Reason.NONE
            if more is not None:
                if exits and at < b.gone_N[c] and abs(want) > abs(have):
                    reason = Reason.EXITED
                elif (
                    reason == 0 and want * have > 0 and abs(delta) * reference < config.band * base
                ):
                    b.totals[Total.BANDED] += 1
                    continue
                if reason == 0 and units and b.stamp_N[c] == t and not isnan(b.limit_N[c]):
                    reference, waited, reached = limit_order_nb(
                        reference, b.limit_N[c], side,
                        float(m.low_TN[t, c]), float(m.high_TN[t, c]), config.at_open,
                    )  # fmt: skip
                    if not reached:
                        reason = Reason.UNREACHED
            one_order_nb(
                b, m, config, recorded, t, c, at, want, weight, side, kind, reference, waited,
                reason, False, unbound, units, exits, before_row, action, more,
            )  # fmt: skip


@inlined
def one_order_nb(
    b: Book, m: Inputs, config: Any, recorded: Recorded, t: int, c: Any, at: int, want: float,
    weight: float, side: float, kind: int, reference: float, waited: bool, reason: int,
    exiting: bool, unbound: bool, units: bool, exits: bool, before_row: int, action: int,
    more: bool | None,
) -> None:  # fmt: skip
    """Fill an order, all of it, in part or not at all, and write down which.

    at: bar it was decided on. reason: why it cannot fill, if that is known.
    """
    have, lot, margin, selling = b.shares_N[c], config.lot, config.margin, side < 0
    quantity, worse, impacted, price, fee = abs(want - have), config.slippage, 0.0, 0.0, 0.0
    if reason != 0:
        quantity = 0.0
    elif not unbound:
        quantity, reason, worse, impacted = bound_by_market_nb(
            b, m, config, t, c, have, want, side, reference, before_row, action, more
        )
    if quantity > 0:
        if more is not None and waited:
            worse, impacted = 0.0, 0.0
        price = max(reference * (1 + side * worse), 0.0)
        if config.inside_bar:
            price = min(max(price, float(m.low_TN[t, c])), float(m.high_TN[t, c]))
        rate, least = config.rate, config.min_fee
        if more is None:
            most_fee, tax = None, None
        else:
            if units and not exiting and b.stamp_N[c] == t and side * (price - b.limit_N[c]) > 0:
                price = b.limit_N[c]
            most_fee = config.max_fee
            tax = config.sell_tax if selling else config.buy_tax
            if len(m.rate_N) > 0 and not isnan(m.rate_N[c]):
                rate = m.rate_N[c]
            if waited:
                rate = config.maker
                least = least if rate >= 0 else -np.inf
        each = price * rate + config.per_share
        if margin:
            most = within_leverage_nb(
                quantity, have, side, reference, b.money[Money.WORTH], b.money[Money.GROSS],
                config.leverage,
            )  # fmt: skip
        else:
            cash = b.money[Money.CASH]
            most = affordable_nb(quantity, price, each, least, most_fee, tax, cash, selling)
        if most < quantity:
            reason = Reason.LEVERAGE if margin else Reason.NO_CASH
            factor = m.factor_TN[t if len(m.factor_TN) > 1 else 0, c] if lot > 0 else 1.0
            quantity = max(to_lots_nb(most, lot, factor), 0.0)
        if more is not None and quantity > 0 and quantity * price < config.min_order:
            quantity, reason = 0.0, Reason.TOO_SMALL
        fee = fee_nb(quantity, price, each, least, most_fee, tax)
    if reason != 0:
        missing = side * (abs(want - have) - quantity)
        missed_nb(
            b, m, config, recorded, t, c, at, want, weight, missing, reason, exiting, units, more
        )
    if quantity > 0:
        settle_nb(
            b, m, config, recorded, t, c, at, side, quantity, reference, price, fee, impacted,
            kind, waited, exiting, units, exits, more,
        )  # fmt: skip


@inlined
def bound_by_market_nb(
    b: Book, m: Inputs, config: Any, t: int, c: Any, have: float, want: float, side: float,
    reference: float, before_row: int, action: int, more: bool | None,
) -> tuple[float, int, float, float]:  # fmt: skip
    """(shares, why not all of them, slippage, its part from impact) of an order at this price:
    price limits, volume, T+1, lots, volatility."""
    limit, lot, cap, impact = config.limit, config.lot, config.participation, config.impact
    factor, volume, worse, impacted = 1.0, 0.0, config.slippage, 0.0
    if more is not None and len(m.limit_N) > 0 and not isnan(m.limit_N[c]):
        limit = m.limit_N[c]
    if lot > 0 or limit > 0:
        factor = float(m.factor_TN[t if len(m.factor_TN) > 1 else 0, c])
    if limit > 0 and before_row >= 0:
        before = last_close_nb(m, action, before_row, c)
        if beyond_limit_nb(reference, before, side, limit, config.tick, factor):
            return 0.0, Reason.PRICE_LIMIT, worse, impacted
    if cap > 0 or impact > 0:
        volume = float(m.volume_TN[t, c])
        if not volume > 0:
            return 0.0, Reason.VOLUME, worse, impacted
    free, most = np.inf, cap * volume if cap > 0 else np.inf
    if config.t_plus_one and side < 0 and have > 0:
        same = b.session_N[c] == m.session_T[t]
        free = max(have - b.bought_N[c], 0.0) if same else have
    all_of_it = abs(have) if want == 0 else -1.0
    quantity, reason = quantity_nb(abs(want - have), free, most, all_of_it, lot, factor)
    if quantity > 0 and (config.slippage_volatility > 0 or impact > 0):
        sigma = float(m.sigma_TN[t, c])
        if isnan(sigma):
            return 0.0, Reason.NO_VOLATILITY, worse, impacted
        worse += config.slippage_volatility * sigma
        if impact > 0:
            impacted = impact * sigma * sqrt(quantity / volume)
            worse += impacted
    return quantity, reason, worse, impacted


@inlined
def missed_nb(
    b: Book, m: Inputs, config: Any, recorded: Recorded, t: int, c: Any, at: int, want: float,
    weight: float, missing: float, reason: int, exiting: bool, units: bool, more: bool | None,
) -> None:  # fmt: skip
    """Write down what did not fill, and carry it over where the rules say so."""
    wait = False
    if more is not None:
        wait = len(m.thin_T) > 0 and reason == Reason.NO_PRICE and m.thin_T[t]
    if not wait:
        miss_nb(b, recorded.misses, at, t, c, weight, missing, reason)
    again = reason <= Reason.SAME_SESSION or reason == Reason.UNREACHED
    if not exiting and (wait or (config.carry and again)):
        if more is not None and units and b.stamp_N[c] != t:
            b.limit_N[c] = np.nan
        b.want_N[c], b.weight_N[c], b.due_N[c] = want, weight, at
        b.names_5N[Count.LEFT, b.counts[Count.LEFT]] = c
        b.counts[Count.LEFT] += 1


@inlined
def settle_nb(
    b: Book, m: Inputs, config: Any, recorded: Recorded, t: int, c: Any, at: int, side: float,
    quantity: float, reference: float, price: float, fee: float, impacted: float, kind: int,
    waited: bool, exiting: bool, units: bool, exits: bool, more: bool | None,
) -> None:  # fmt: skip
    """Cash, shares, T+1 and the position after a fill."""
    have, signed, lost = b.shares_N[c], side * quantity, abs(price - reference) * quantity
    cash = b.money[Money.CASH] - (signed * price + fee)
    b.money[Money.CASH] = max(cash, 0.0) if side > 0 and not config.margin else cash
    now = have + signed
    if config.margin:
        b.money[Money.WORTH] -= lost + fee
        b.money[Money.GROSS] += (abs(now) - abs(have)) * reference
    if abs(now) <= DUST * max(abs(have), quantity):
        now = 0.0
        b.counts[Count.CLOSED] += 1
    if have == 0:
        if more is not None and (units or exits):
            if b.opened_N[c] != 0:
                drop_closed_nb(b, True)
            b.counts[Count.OPENED] += 1
            b.opened_N[c] = b.counts[Count.OPENED]
        b.names_5N[Count.HELD, b.counts[Count.HELD]] = c
        b.counts[Count.HELD] += 1
    b.shares_N[c] = now
    if config.t_plus_one and side > 0:
        same = b.session_N[c] == m.session_T[t]
        b.bought_N[c] = quantity + (b.bought_N[c] if same else 0.0)
        b.session_N[c] = m.session_T[t]
    if more is not None and exits:
        if exiting:
            b.gone_N[c] = t
            b.totals[Total.EXITS] += 1
            without_nb(b, Count.LEFT, c)
        if have * now <= 0:
            b.basis_N[c], b.peak_N[c], b.since_N[c] = price, price, t
            b.inside_N[c] = t if waited or not config.at_open else -1
        elif abs(now) > abs(have):
            b.basis_N[c] = (b.basis_N[c] * abs(have) + price * quantity) / abs(now)
        bound_nb(b, config, c)
        if (
            config.at_open
            and not exiting
            and (m.low_TN[t, c] <= b.low_N[c] or m.high_TN[t, c] >= b.high_N[c])
        ):
            insert_by_age_nb(b, Count.TOUCHED, c)
    b.totals[Total.FEES] += fee
    b.totals[Total.SLIPPAGE] += lost
    b.totals[Total.IMPACT] += reference * impacted * quantity
    b.money[Money.TRADED] += quantity * price
    fill_nb(b, recorded.orders, -1 if exiting else at, t, c, signed, reference, price, fee, kind)
