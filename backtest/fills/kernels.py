"""The simulator at memory speed: one pass over the bars, touching only the names held.

`backtest.fills.oracle` is the specification, in plain Python and in the same order of steps; a test
holds the two together to 1e-12. Flat functions on arrays, compiled by Numba and cached on disk.

Legend: T bars, N symbols, C configurations, K statistics; capitals as in `backtest.fills.inputs`.
"""

from __future__ import annotations

from math import isnan, sqrt
from typing import Any

import numpy as np
from numba import njit, prange

from backtest.fills.inputs import MISS, ORDER, Inputs, Recorded, Targets
from backtest.fills.order import affordable_nb, quantity_nb, to_lots_nb
from backtest.fills.rules import DUST, Kind, Reason
from backtest.fills.stats import N_STATS, N_TOTALS, Total, block_sums_nb, summarise_nb


@njit(cache=True, nogil=True, error_model="numpy")
def simulate_nb(
    m: Inputs,
    targets: Targets,
    config: Any,
    first: int,
    last: int,
    equity_T: Any,
    cash_T: Any,
    totals: Any,
    recorded: Recorded,
) -> tuple[int, int]:
    """Walk bars `first` (all cash at its close) to `last`.

    equity_T and cash_T, one value per bar walked, and totals (see `stats.Total`) are written.
    Orders and misses are recorded while there is room; how many there were is returned.
    """
    rate, per_share, least_fee = config.rate, config.per_share, config.min_fee
    slippage, slippage_sigma, impact = config.slippage, config.slippage_volatility, config.impact
    lag, inside_bar, cap = config.lag, config.inside_bar, config.participation
    carry, lot, t_plus_one = config.carry, config.lot, config.t_plus_one
    limit, margin, leverage = config.limit, config.margin, config.leverage
    needs_sigma, needs_volume = slippage_sigma > 0 or impact > 0, cap > 0 or impact > 0
    n = m.mark_TN.shape[1]
    room_orders, room_misses = len(recorded.orders), len(recorded.misses)
    n_orders, n_misses = 0, 0
    fees, slipped, traded, turnover, impacted = 0.0, 0.0, 0.0, 0.0, 0.0
    interest, borrow, dividends, calls = 0.0, 0.0, 0.0, 0.0

    shares_N = np.zeros(n)
    held_N = np.empty(n, np.int64)
    n_held = 0
    stamp_N = np.full(n, -1, np.int64)
    want_N = np.zeros(n)
    weight_N = np.zeros(n)
    work_N = np.empty(n, np.int64)
    left_N = np.empty(n, np.int64)
    n_left, left_decided = 0, -1
    tried_N = np.full(n if margin else 1, -1, np.int64)
    bought_N = np.zeros(n if t_plus_one else 1)
    session_N = np.full(n if t_plus_one else 1, -1, np.int64)
    cash = config.cash
    call_row = -1
    payout, action = 0, 0
    while payout < len(m.payout_row_S) and m.payout_row_S[payout] <= first:
        payout += 1
    while action < len(m.action_row_A) and m.action_row_A[action] <= first:
        action += 1
    r, r_end = targets.set_S1[config.targets], targets.set_S1[config.targets + 1]
    while r < r_end and targets.row_R[r] < first:
        r += 1

    for t in range(first, last + 1):
        action_from = action
        if t > first:
            # 1. carrying
            owed = 0.0
            if margin:
                for i in range(n_held):
                    if shares_N[held_N[i]] < 0:
                        owed += -shares_N[held_N[i]] * m.mark_TN[t - 1, held_N[i]] * config.borrow
            earned = cash * (config.cash_rate if cash > 0 else config.debit_rate)
            cash += earned - owed
            interest += earned
            borrow += owed
            # 2. actions
            while action < len(m.action_row_A) and m.action_row_A[action] == t:
                c, split = m.action_column_A[action], m.split_A[action]
                want_N[c] *= split
                shares_N[c] *= split
                cash += shares_N[c] * m.dividend_A[action]
                dividends += shares_N[c] * m.dividend_A[action]
                if t_plus_one:
                    bought_N[c] *= split
                action += 1
            # 3. payouts
            while payout < len(m.payout_row_S) and m.payout_row_S[payout] == t:
                c = m.payout_column_S[payout]
                payout += 1
                for i in range(n_left):
                    if left_N[i] == c:
                        n_left -= 1
                        left_N[i:n_left] = left_N[i + 1 : n_left + 1]
                        break
                size = shares_N[c]
                if size != 0:
                    price = m.settle_price_N[c]
                    cash += size * price
                    shares_N[c] = 0.0
                    at = 0
                    for i in range(n_held):
                        held_N[at] = held_N[i]
                        at += held_N[i] != c
                    n_held = at
                    if n_orders < room_orders:
                        order = recorded.orders[n_orders]
                        order.decided, order.row, order.column, order.size = -1, t, c, -size
                        order.reference, order.price = price, price
                        order.fee, order.kind = 0.0, Kind.PAYOUT
                    n_orders += 1

        # 4. fills: gather what is wanted into work_N, want_N, weight_N, stamped with t
        decided, n_work, kind = -1, 0, Kind.TRADE
        rest_to_zero = True
        if t > first or lag == 0:
            if t == call_row:
                kind, decided = Kind.MARGIN_CALL, t
                calls += 1
                if r < r_end and targets.row_R[r] == t - lag:
                    r += 1
            elif r < r_end and targets.row_R[r] == t - lag:
                decided = t - lag
                equity = cash
                if lag == 0:
                    for i in range(n_held):
                        equity += shares_N[held_N[i]] * m.mark_TN[t, held_N[i]]
                else:
                    equity = equity_T[decided - first]
                funds = max(equity, 0.0)
                for k in range(targets.start_R1[r], targets.start_R1[r + 1]):
                    c, weight = targets.column_M[k], targets.weight_M[k]
                    mark = m.mark_TN[decided, c]
                    gone = m.settle_row_N[c] >= 0 and m.settle_row_N[c] <= t
                    if gone or isnan(mark):
                        if n_misses < room_misses:
                            miss = recorded.misses[n_misses]
                            miss.decided, miss.row, miss.column = decided, t, c
                            miss.weight, miss.size = weight, 0.0
                            miss.reason = Reason.DELISTED if gone else Reason.NOT_LISTED
                        n_misses += 1
                        continue
                    want = weight * funds / mark
                    if len(m.action_row_A) > 0:
                        for a in range(action - 1, -1, -1):
                            if m.action_row_A[a] <= decided:
                                break
                            if m.action_column_A[a] == c:
                                want *= m.split_A[a]
                    want_N[c], weight_N[c], stamp_N[c] = want, weight, t
                    work_N[n_work] = c
                    n_work += 1
                r += 1
            elif n_left > 0:
                decided, rest_to_zero = left_decided, False
                for i in range(n_left):
                    work_N[i] = left_N[i]
                    stamp_N[left_N[i]] = t
                n_work = n_left
        if decided >= 0:
            n_left, left_decided = 0, decided
            n_held_before = n_held
            worth, gross = cash, 0.0
            if margin:
                for i in range(n_held):
                    c = held_N[i]
                    price = float(m.fill_TN[t, c])
                    if isnan(price):
                        price = float(m.mark_TN[t - 1, c])
                    worth += shares_N[c] * price
                    gross += abs(shares_N[c]) * price
            bar_traded = 0.0
            for phase in range(4):
                if (phase == 1 or phase == 2) and not margin:
                    continue
                by_age = phase == 0 or phase == 2
                selling = phase < 2
                side = -1.0 if selling else 1.0
                for i in range(n_held_before if by_age else n_work):
                    c = held_N[i] if by_age else work_N[i]
                    have, want, weight = shares_N[c], 0.0, 0.0
                    if stamp_N[c] == t:
                        want, weight = want_N[c], weight_N[c]
                    elif not rest_to_zero:
                        continue
                    delta = want - have
                    if delta * side <= 0 or abs(delta) <= DUST * max(abs(want), abs(have)):
                        continue
                    listed = want != 0 or weight != 0
                    if (phase == 1 and not listed) or (phase == 2 and listed):
                        continue
                    if margin:
                        if tried_N[c] == t:
                            continue
                        tried_N[c] = t
                    # One order: as oracle._order.
                    reason: int = Reason.NONE
                    quantity, price, fee = 0.0, 0.0, 0.0
                    reference = float(m.fill_TN[t, c])
                    volume = 0.0
                    if isnan(reference):
                        reason = Reason.NO_PRICE
                    if reason == 0 and limit > 0 and t > 0:
                        before = float(m.mark_TN[t - 1, c])
                        for a in range(action_from, action):
                            if m.action_column_A[a] == c:
                                before /= m.split_A[a]
                        if side * (reference / before - 1) >= limit - 1e-12:
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
                        factor = 1.0
                        if lot > 0:
                            factor = m.factor_TN[t if len(m.factor_TN) > 1 else 0, c]
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
                        price = max(reference * (1 + side * worse), 0.0)
                        if inside_bar:
                            price = min(max(price, float(m.low_TN[t, c])), float(m.high_TN[t, c]))
                    if quantity > 0:
                        each = price * rate + per_share
                        if margin:
                            closing = min(quantity, abs(have)) if have * side < 0 else 0.0
                            room = leverage * worth - gross + closing * reference
                            most = closing + min(quantity - closing, max(room, 0.0) / reference)
                            why = Reason.LEVERAGE
                        else:
                            most = affordable_nb(quantity, price, each, least_fee, cash, selling)
                            why = Reason.NO_CASH
                        if most < quantity:
                            quantity, reason = max(to_lots_nb(most, lot, factor), 0.0), why
                        fee = max(quantity * each, least_fee)
                    if reason != 0:
                        if n_misses < room_misses:
                            miss = recorded.misses[n_misses]
                            miss.decided, miss.row, miss.column = decided, t, c
                            miss.weight, miss.reason = weight, reason
                            miss.size = side * (abs(delta) - quantity)
                        n_misses += 1
                        if carry and reason <= Reason.SAME_SESSION:
                            want_N[c], weight_N[c] = want, weight
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
                    fees += fee
                    slipped += lost
                    impacted += reference * share_of_impact * quantity
                    bar_traded += quantity * price
                    if n_orders < room_orders:
                        order = recorded.orders[n_orders]
                        order.decided, order.row, order.column = decided, t, c
                        order.size, order.reference, order.price = signed, reference, price
                        order.fee, order.kind = fee, kind
                    n_orders += 1
            at = 0
            for i in range(n_held):
                c = held_N[i]
                held_N[at] = c
                at += shares_N[c] != 0
            n_held = at
            traded += bar_traded
            base = equity_T[t - 1 - first] if t > first else config.cash
            if base > 0:
                turnover += bar_traded / (2 * base)

        # 5. mark
        invested, gross = 0.0, 0.0
        for i in range(n_held):
            c = held_N[i]
            invested += shares_N[c] * m.mark_TN[t, c]
        equity_T[t - first] = cash + invested
        cash_T[t - first] = cash
        # 6. margin
        if margin:
            for i in range(n_held):
                gross += abs(shares_N[held_N[i]]) * m.mark_TN[t, held_N[i]]
            if equity_T[t - first] < config.maintenance * gross and call_row <= t:
                call_row = t + max(lag, 1)

    totals[Total.FEES], totals[Total.SLIPPAGE], totals[Total.IMPACT] = fees, slipped, impacted
    totals[Total.TRADED], totals[Total.TURNOVER] = traded, turnover
    totals[Total.INTEREST], totals[Total.BORROW] = interest, borrow
    totals[Total.DIVIDENDS], totals[Total.CALLS] = dividends, calls
    totals[Total.ORDERS], totals[Total.MISSES] = n_orders, n_misses
    return n_orders, n_misses


@njit(cache=True, parallel=True, nogil=True, error_model="numpy")
def simulate_many_nb(
    m: Inputs,
    targets: Targets,
    configs_C: Any,
    first: int,
    last: int,
    periods: float,
    edge_B1: Any,
) -> tuple[Any, Any]:
    """Many configurations in parallel; nothing per bar is kept.

    Returns statistics (C, K) and, per block of returns edge_B1[b]:edge_B1[b + 1], their sum and sum
    of squares (C, 2, B).
    """
    out_CK = np.empty((len(configs_C), N_STATS))
    block_C2B = np.empty((len(configs_C), 2, len(edge_B1) - 1))
    for i in prange(len(configs_C)):
        equity_T = np.empty(last - first + 1)
        cash_T = np.empty(last - first + 1)
        totals = np.zeros(N_TOTALS)
        nothing = Recorded(np.empty(0, ORDER), np.empty(0, MISS))
        simulate_nb(m, targets, configs_C[i], first, last, equity_T, cash_T, totals, nothing)
        summarise_nb(equity_T, cash_T, totals, periods, out_CK[i])
        block_sums_nb(equity_T, edge_B1, block_C2B[i])
    return out_CK, block_C2B
