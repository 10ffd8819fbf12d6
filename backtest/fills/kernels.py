"""The simulator at memory speed: one pass over the bars, touching only the names held.

`backtest.fills.oracle` is the specification, in plain Python and in the same order of steps; a test
holds the two together to 1e-12. Flat functions on arrays, compiled by Numba and cached on disk.

Legend: T bars, N symbols; capitals as in `backtest.fills.inputs`.
"""

from __future__ import annotations

from math import isnan, sqrt
from typing import Any

import numpy as np
from numba import njit

from backtest.fills.account import (
    end_nb,
    gross_nb,
    last_close_nb,
    miss_nb,
    order_nb,
    sides_nb,
    since_nb,
    starts_nb,
    still_held_nb,
    without_nb,
)
from backtest.fills.exits import bound_nb, see_nb, touched_nb
from backtest.fills.inputs import Inputs, Recorded, Targets
from backtest.fills.order import (
    affordable_nb,
    beyond_limit_nb,
    exit_nb,
    fee_nb,
    limit_order_nb,
    quantity_nb,
    to_lots_nb,
    wanted_nb,
    within_leverage_nb,
)
from backtest.fills.rules import DUST, Kind, Reason, Unit
from backtest.fills.stats import Total

HELD, WORK, TOUCHED = 0, 1, 2
"""Lists of names: held, oldest first; wanted at this bar; whose exit levels it touches."""
AT_OPEN, INSIDE = 4, 5
"""Phases of a bar beyond the four of a decision: exits at the opening print, and after it."""


@njit(cache=True, nogil=True, error_model="numpy")
def simulate_nb(
    m: Inputs,
    targets: Targets,
    config: Any,
    first: int,
    last: int,
    equity_T: Any,
    cash_T: Any,
    short_T: Any,
    totals: Any,
    recorded: Recorded,
    more: bool | None,
) -> tuple[int, int]:
    """Walk bars `first` (all cash at its close) to `last`.

    equity_T, cash_T and short_T (value of the shorts, 0 or more), one value per bar walked, and
    totals (see `stats.Total`) are written. Orders and misses are recorded while there is room; how
    many there were is returned.

    more: None leaves out all that `inputs.more_of` counts as more than the plain rules. It is
    compiled away then, which makes the plain rules half as slow again as with it in place.
    """
    rate, per_share, least_fee = config.rate, config.per_share, config.min_fee
    slippage, slippage_sigma, impact = config.slippage, config.slippage_volatility, config.impact
    lag, inside_bar, cap = config.lag, config.inside_bar, config.participation
    carry, lot, t_plus_one = config.carry, config.lot, config.t_plus_one
    margin, leverage, at_open = config.margin, config.leverage, config.at_open
    stop, trail, take, max_bars = config.stop, config.trail, config.take, config.max_bars
    exits = units = waits = own_limits = own_rates = own_borrow = False
    if more is not None:
        exits = stop > 0 or trail > 0 or take > 0 or max_bars > 0
        units, waits, own_limits = len(targets.unit_M) > 0, len(m.thin_T) > 0, len(m.limit_N) > 0
        own_rates, own_borrow = len(m.rate_N) > 0, len(m.borrow_N) > 0
    limits = own_limits or config.limit > 0
    needs_sigma, needs_volume = slippage_sigma > 0 or impact > 0, cap > 0 or impact > 0
    orders, misses, space = recorded.orders, recorded.misses, len(recorded.orders)
    n = m.mark_TN.shape[1]
    n_orders, n_misses, n_exits, n_banded, n_opened = 0, 0, 0, 0, 0
    fees, slipped, traded, turnover, impacted = 0.0, 0.0, 0.0, 0.0, 0.0
    interest, borrow, dividends, calls, funded = 0.0, 0.0, 0.0, 0.0, 0.0

    shares_N = np.zeros(n)
    names_3N = np.empty((3, n), np.uintp)
    held_N, work_N, touched_N = names_3N[HELD], names_3N[WORK], names_3N[TOUCHED]
    n_held, n_touched = 0, 0
    stamp_N = np.full(n, -1, np.int64)
    want_N = np.zeros(n)
    weight_N = np.zeros(n)
    due_N = np.full(n, -1, np.int64)
    left_N = np.empty(n, np.uintp)
    n_left = 0
    tried_N = np.full(n if margin else 1, -1, np.int64)
    bought_N = np.zeros(n if t_plus_one else 1)
    session_N = np.full(n if t_plus_one else 1, -1, np.int64)
    limit_N = np.full(n if units else 1, np.nan)
    # Of positions, where exits are on: average fill price, best price, bar of the first fill, bar
    # whose low and high may lie before it, and bar of the last exit.
    basis_N, peak_N = np.zeros(n if exits else 1), np.zeros(n if exits else 1)
    since_N = np.full(n if exits else 1, -1, np.int64)
    inside_N, gone_N, opened_N = since_N.copy(), since_N.copy(), since_N.copy()
    low_N, high_N = basis_N - np.inf, basis_N + np.inf
    cash = config.cash
    call_row = -1
    payout, action, r, before_row = starts_nb(m, targets, config.targets, first)
    r_end = targets.set_S1[config.targets + 1]

    for t in range(first, last + 1):
        if t > first:
            if m.session_T[t] != m.session_T[t - 1]:
                before_row = t - 1
            # 1. carrying
            owed, funding = 0.0, 0.0
            if margin or (more is not None and config.funding != 0):
                for i in range(n_held):
                    c: Any = held_N[i]
                    value, fee = shares_N[c] * m.mark_TN[t - 1, c], config.borrow
                    if more is not None:
                        funding += value * config.funding
                        if own_borrow and not isnan(m.borrow_N[c]):
                            fee = m.borrow_N[c]
                    owed += max(-value, 0.0) * fee
            earned = cash * (config.cash_rate if cash > 0 else config.debit_rate)
            # 2. actions
            while action < len(m.action_row_A) and m.action_row_A[action] == t:
                c = np.uintp(m.action_column_A[action])
                split, dividend = m.split_A[action], m.dividend_A[action]
                if more is not None:
                    if len(m.funding_A) > 0 and shares_N[c] != 0:
                        funding += shares_N[c] * m.mark_TN[t - 1, c] * m.funding_A[action]
                want_N[c] *= split
                shares_N[c] *= split
                cash += shares_N[c] * dividend
                dividends += shares_N[c] * dividend
                if t_plus_one:
                    bought_N[c] *= split
                if more is not None:
                    if exits:
                        basis_N[c] = basis_N[c] / split - dividend
                        peak_N[c] = peak_N[c] / split - dividend
                        bound_nb(
                            low_N, high_N, c, shares_N[c], basis_N[c], peak_N[c], stop, trail, take
                        )
                    if units:
                        limit_N[c] = limit_N[c] / split - dividend
                action += 1
            cash += earned - owed - funding
            interest += earned
            borrow += owed
            funded += funding
            # 3. payouts
            while payout < len(m.payout_row_S) and m.payout_row_S[payout] == t:
                c = np.uintp(m.payout_column_S[payout])
                payout += 1
                n_left = without_nb(left_N, n_left, c)
                size = shares_N[c]
                if size != 0:
                    price = m.settle_price_N[c]
                    cash += size * price
                    shares_N[c] = 0.0
                    n_held = without_nb(held_N, n_held, c)
                    if n_orders < space:
                        order_nb(orders[n_orders], -1, t, c, -size, price, price, 0.0, Kind.PAYOUT)
                    n_orders += 1

        # 4. fills: gather what is wanted into work_N, want_N, weight_N, due_N, stamped with t
        decided, n_work = -1, 0
        bar_kind: int = Kind.TRADE
        rest_to_zero = True
        base = equity_T[t - 1 - first] if t > first else config.cash
        if t > first or lag == 0:
            due = r < r_end and targets.row_R[r] == t - lag
            if t == call_row:
                bar_kind, decided = Kind.MARGIN_CALL, t
                calls += 1
                if due:
                    for k in range(targets.start_R1[r], targets.start_R1[r + 1]):
                        n_misses = miss_nb(
                            misses, n_misses, t - lag, t, targets.column_M[k],
                            targets.weight_M[k], 0.0, Reason.MARGIN_CALL,
                        )  # fmt: skip
                    r += 1
            elif due:
                decided = t - lag
                if lag == 0:
                    invested = 0.0
                    for i in range(n_held):
                        invested += shares_N[held_N[i]] * m.mark_TN[t, held_N[i]]
                    equity = cash + invested
                else:
                    equity = equity_T[decided - first]
                funds = max(equity, 0.0)
                for k in range(targets.start_R1[r], targets.start_R1[r + 1]):
                    c, weight = np.uintp(targets.column_M[k]), targets.weight_M[k]
                    mark = m.mark_TN[decided, c]
                    gone = m.settle_row_N[c] >= 0 and m.settle_row_N[c] <= t
                    if gone or isnan(mark):
                        n_misses = miss_nb(
                            misses, n_misses, decided, t, c, weight, 0.0,
                            Reason.DELISTED if gone else Reason.NOT_LISTED,
                        )  # fmt: skip
                        continue
                    scale, dividend = 1.0, 0.0
                    if len(m.action_row_A) > 0:
                        scale, dividend = since_nb(
                            m.action_row_A, m.action_column_A, m.split_A, m.dividend_A,
                            action, decided, c,
                        )  # fmt: skip
                    want = weight * funds / mark * scale
                    if more is not None:
                        if units:
                            unit, have = targets.unit_M[k], shares_N[c]
                            limit_N[c] = targets.limit_M[k] / scale - dividend
                            rest_to_zero = unit == Unit.TARGET
                            want = wanted_nb(unit, weight, funds, mark, scale, have)
                            if want < 0 and not config.short and not rest_to_zero:
                                n_misses = miss_nb(
                                    misses, n_misses, decided, t, c, weight, want, Reason.NOT_HELD
                                )
                                want = min(have, 0.0)
                    want_N[c], weight_N[c], due_N[c], stamp_N[c] = want, weight, decided, t
                    work_N[n_work] = c
                    n_work += 1
                if more is not None and not rest_to_zero:
                    for i in range(n_left):
                        if stamp_N[left_N[i]] != t:
                            stamp_N[left_N[i]] = t
                            work_N[n_work] = left_N[i]
                            n_work += 1
                r += 1
            elif n_left > 0:
                decided, rest_to_zero = t - lag, False
                for i in range(n_left):
                    work_N[i] = left_N[i]
                    stamp_N[left_N[i]] = t
                n_work = n_left
        if more is not None and exits:
            n_touched = 0
            if t > first and max_bars > 0:
                n_touched = n_held
                touched_N[:n_held] = held_N[:n_held]
            elif t > first:
                n_touched = touched_nb(
                    touched_N, held_N, n_held, low_N, high_N, opened_N, m.low_TN, m.high_TN, t
                )
        if decided >= 0 or n_touched > 0:
            n_left = 0
            n_aged, worth, gross, bar_traded = n_held, 0.0, 0.0, 0.0
            steps, orders_before = 4, n_orders
            if more is not None:
                steps = 6
            for step in range(steps):
                phase, exiting = step, False
                if more is not None:
                    if at_open:
                        phase = AT_OPEN if step == 0 else step - 1 if step < 5 else INSIDE
                    else:
                        phase = AT_OPEN + step if step < 2 else step - 2
                    exiting = phase >= AT_OPEN
                if exiting:
                    if phase == INSIDE and exits and t > first and n_orders > orders_before:
                        n_touched = touched_nb(
                            touched_N, held_N, n_held, low_N, high_N, opened_N,
                            m.low_TN, m.high_TN, t,
                        )  # fmt: skip
                    if n_touched == 0:
                        continue
                elif decided < 0 or ((phase == 1 or phase == 2) and not margin):
                    continue
                by_age = phase == 0 or phase == 2
                selling = phase < 2
                side = -1.0 if selling else 1.0
                if phase == 0:
                    n_aged = n_held
                    if margin:
                        worth, gross = gross_nb(held_N, n_held, shares_N, m.fill_TN, m.mark_TN, t)
                        worth += cash
                source, count = (HELD, n_aged) if by_age else (WORK, n_work)
                if more is not None and exiting:
                    source, count = TOUCHED, n_touched
                for i in range(count):
                    c = names_3N[source, i]
                    have, want, weight, at = shares_N[c], 0.0, 0.0, decided
                    kind, reference, waited = bar_kind, 0.0, False
                    if more is not None:
                        if exiting:
                            if have == 0:
                                continue
                            at = since_N[c]
                            open_ = float(m.open_TN[t, c])
                            if phase == AT_OPEN and max_bars > 0 and t - at >= max_bars:
                                reference, kind = open_, Kind.TIME
                            else:
                                reference, kind = exit_nb(
                                    have, basis_N[c], peak_N[c], open_,
                                    float(m.low_TN[t, c]), float(m.high_TN[t, c]),
                                    stop, trail, take, phase == AT_OPEN, inside_N[c] != t,
                                )  # fmt: skip
                            if isnan(reference):
                                continue
                            waited = kind == Kind.TAKE
                            selling = have > 0
                            side = -1.0 if selling else 1.0
                    if not exiting:
                        if stamp_N[c] == t:
                            want, weight, at = want_N[c], weight_N[c], due_N[c]
                        elif not rest_to_zero:
                            continue
                    delta = want - have
                    if delta * side <= 0 or abs(delta) <= DUST * max(abs(want), abs(have)):
                        continue
                    # One order: as oracle._order.
                    reason: int = Reason.NONE
                    quantity, price, fee, volume = 0.0, 0.0, 0.0, 0.0
                    if not exiting:
                        listed = want != 0 or weight != 0
                        if (phase == 1 and not listed) or (phase == 2 and listed):
                            continue
                        if margin:
                            if tried_N[c] == t:
                                continue
                            tried_N[c] = t
                        reference = float(m.fill_TN[t, c])
                        if isnan(reference):
                            reason = Reason.NO_PRICE
                        if more is not None:
                            if exits and at < gone_N[c] and abs(want) > abs(have):
                                reason = Reason.EXITED
                            elif reason == 0 and want * have > 0:
                                if abs(delta) * reference < config.band * base:
                                    n_banded += 1
                                    continue
                            if reason == 0 and units and stamp_N[c] == t:
                                if not isnan(limit_N[c]):
                                    reference, waited, reached = limit_order_nb(
                                        reference, limit_N[c], side,
                                        float(m.low_TN[t, c]), float(m.high_TN[t, c]), at_open,
                                    )  # fmt: skip
                                    if not reached:
                                        reason = Reason.UNREACHED
                    factor = 1.0
                    if lot > 0 or limits:
                        factor = m.factor_TN[t if len(m.factor_TN) > 1 else 0, c]
                    if reason == 0 and limits and before_row >= 0:
                        limit = config.limit
                        if more is not None:
                            if own_limits and not isnan(m.limit_N[c]):
                                limit = m.limit_N[c]
                        if limit > 0:
                            before = float(m.mark_TN[before_row, c])
                            if action > 0:
                                before = last_close_nb(
                                    before, m.action_row_A, m.action_column_A, m.split_A,
                                    m.dividend_A, action, before_row, c,
                                )  # fmt: skip
                            if beyond_limit_nb(reference, before, side, limit, config.tick, factor):
                                reason = Reason.PRICE_LIMIT
                    if reason == 0 and needs_volume:
                        volume = float(m.volume_TN[t, c])
                        if not volume > 0:
                            reason = Reason.VOLUME
                    if reason == 0:
                        free = np.inf
                        if t_plus_one and selling and have > 0:
                            same = session_N[c] == m.session_T[t]
                            free = max(have - bought_N[c], 0.0) if same else have
                        most = cap * volume if cap > 0 else np.inf
                        quantity, reason = quantity_nb(
                            abs(delta), free, most, abs(have) if want == 0 else -1.0, lot, factor
                        )
                    share_of_impact = 0.0
                    if quantity > 0:
                        worse = slippage
                        if needs_sigma:
                            sigma = float(m.sigma_TN[t, c])
                            if isnan(sigma):
                                quantity, reason = 0.0, Reason.NO_VOLATILITY
                            worse += slippage_sigma * sigma
                            if impact > 0:
                                share_of_impact = impact * sigma * sqrt(quantity / volume)
                                worse += share_of_impact
                        if more is not None and waited:
                            worse, share_of_impact = 0.0, 0.0
                        price = max(reference * (1 + side * worse), 0.0)
                        if inside_bar:
                            price = min(max(price, float(m.low_TN[t, c])), float(m.high_TN[t, c]))
                        if more is not None:
                            if units and not exiting and stamp_N[c] == t:
                                if side * (price - limit_N[c]) > 0:
                                    price = limit_N[c]
                    if quantity > 0:
                        share, least = rate, least_fee
                        if more is None:
                            most_fee, tax = None, None
                        else:
                            most_fee = config.max_fee
                            tax = config.sell_tax if selling else config.buy_tax
                            if own_rates and not isnan(m.rate_N[c]):
                                share = m.rate_N[c]
                            if waited:
                                share = config.maker
                                least = least_fee if share >= 0 else -np.inf
                        each = price * share + per_share
                        if margin:
                            most = within_leverage_nb(
                                quantity, have, side, reference, worth, gross, leverage
                            )
                            why = Reason.LEVERAGE
                        else:
                            most = affordable_nb(
                                quantity, price, each, least, most_fee, tax, cash, selling
                            )
                            why = Reason.NO_CASH
                        if most < quantity:
                            quantity, reason = max(to_lots_nb(most, lot, factor), 0.0), why
                        if more is not None and quantity > 0:
                            if quantity * price < config.min_order:
                                quantity, reason = 0.0, Reason.TOO_SMALL
                        fee = fee_nb(quantity, price, each, least, most_fee, tax)
                    if reason != 0:
                        wait = False
                        if more is not None:
                            wait = waits and reason == Reason.NO_PRICE and m.thin_T[t]
                        if not wait:
                            n_misses = miss_nb(
                                misses, n_misses, at, t, c, weight,
                                side * (abs(delta) - quantity), reason,
                            )  # fmt: skip
                        again = reason <= Reason.SAME_SESSION or reason == Reason.UNREACHED
                        if not exiting and (wait or (carry and again)):
                            if more is not None and units and stamp_N[c] != t:
                                limit_N[c] = np.nan
                            want_N[c], weight_N[c], due_N[c] = want, weight, at
                            left_N[n_left] = c
                            n_left += 1
                    if quantity <= 0:
                        continue
                    signed = side * quantity
                    cash -= signed * price + fee
                    if not selling and not margin:
                        cash = max(cash, 0.0)
                    lost = abs(price - reference) * quantity
                    now = have + signed
                    worth -= lost + fee
                    gross += (abs(now) - abs(have)) * reference
                    if abs(now) <= DUST * max(abs(have), quantity):
                        now = 0.0
                    shares_N[c] = now
                    if have == 0:
                        held_N[n_held] = c
                        n_held += 1
                    if t_plus_one and not selling:
                        same = session_N[c] == m.session_T[t]
                        bought_N[c] = quantity + (bought_N[c] if same else 0.0)
                        session_N[c] = m.session_T[t]
                    if more is not None:
                        if exiting:
                            gone_N[c] = t
                            if now == 0:
                                low_N[c], high_N[c] = -np.inf, np.inf
                            n_exits += 1
                            n_left = without_nb(left_N, n_left, c)
                        elif exits and (have * now <= 0 or abs(now) > abs(have)):
                            if have == 0:
                                n_opened += 1
                                opened_N[c] = n_opened
                            if have * now <= 0:
                                basis_N[c], peak_N[c], since_N[c] = price, price, t
                                inside_N[c] = t if waited or not at_open else -1
                            else:
                                basis_N[c] = (basis_N[c] * abs(have) + price * quantity) / abs(now)
                            bound_nb(
                                low_N, high_N, c, now, basis_N[c], peak_N[c], stop, trail, take
                            )
                    fees += fee
                    slipped += lost
                    impacted += reference * share_of_impact * quantity
                    bar_traded += quantity * price
                    if n_orders < space:
                        order_nb(
                            orders[n_orders], -1 if exiting else at, t, c,
                            signed, reference, price, fee, kind,
                        )  # fmt: skip
                    n_orders += 1
                if phase == 3 or (exiting and n_touched > 0):
                    n_held = still_held_nb(held_N, n_held, shares_N)
            traded += bar_traded
            if base > 0:
                turnover += bar_traded / (2 * base)

        # 5. mark
        invested, shorted, gross = 0.0, 0.0, 0.0
        for i in range(n_held):
            c = held_N[i]
            invested += shares_N[c] * m.mark_TN[t, c]
        if margin:
            gross, shorted = sides_nb(held_N, n_held, shares_N, m.mark_TN, t)
        if more is not None and trail > 0:
            see_nb(
                held_N, n_held, shares_N, basis_N, peak_N, inside_N, low_N, high_N,
                m.low_TN, m.high_TN, m.mark_TN, t, stop, trail, take,
            )  # fmt: skip
        equity_T[t - first] = cash + invested
        cash_T[t - first] = cash
        short_T[t - first] = shorted
        if cash + invested <= 0:
            end_nb(equity_T, cash_T, short_T, totals, t - first + 1, cash + invested)
            break
        # 6. margin
        if margin and equity_T[t - first] < config.maintenance * gross and call_row <= t:
            call_row = t + max(lag, 1)

    totals[Total.FEES], totals[Total.SLIPPAGE], totals[Total.IMPACT] = fees, slipped, impacted
    totals[Total.TRADED], totals[Total.TURNOVER] = traded, turnover
    totals[Total.INTEREST], totals[Total.BORROW] = interest, borrow
    totals[Total.DIVIDENDS], totals[Total.CALLS] = dividends, calls
    totals[Total.FUNDING], totals[Total.BANDED] = funded, n_banded
    totals[Total.EXITS] = n_exits
    totals[Total.ORDERS], totals[Total.MISSES] = n_orders, n_misses
    return n_orders, n_misses
