"""The simulator at memory speed: one pass over the bars, touching only the names held.

`backtest.fills.oracle` is the specification, in plain Python and in the same order of steps; a test
holds the two together to 1e-12. Functions on arrays, compiled by Numba and cached on disk; those
below the walk are inlined into it.

Legend: T bars, N symbols; capitals as in `backtest.fills.inputs` and `backtest.fills.book`.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from backtest.fills.account import act_nb, end_nb, owed_nb, pay_out_nb, starts_nb
from backtest.fills.book import (
    Book,
    Count,
    Money,
    drop_closed_nb,
    new_book_nb,
    sides_nb,
    value_nb,
)
from backtest.fills.compiled import borrowing
from backtest.fills.exits import close_touched_nb
from backtest.fills.filling import trade_nb
from backtest.fills.inputs import Inputs, Recorded, Targets
from backtest.fills.levels import see_nb, touched_nb
from backtest.fills.rules import Kind
from backtest.fills.stats import Total
from backtest.fills.wants import decision_nb, left_over_nb, refused_nb


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
    exits = units = False
    if more is not None:
        exits = config.stop > 0 or config.trail > 0 or config.take > 0 or config.max_bars > 0
        units = len(targets.unit_M) > 0
    totals[:] = 0.0
    b = new_book_nb(
        m.mark_TN.shape[1], config.cash, config.margin, config.t_plus_one, units, exits, totals
    )
    _walk_nb(
        b, m, targets, config, first, last, equity_T, cash_T, short_T, recorded, units, exits, more
    )
    orders, misses = b.counts[Count.ORDERS], b.counts[Count.MISSES]
    totals[Total.ORDERS], totals[Total.MISSES] = orders, misses
    return orders, misses


@borrowing
def _walk_nb(
    b: Book, m: Inputs, targets: Targets, config: Any, first: int, last: int, equity_T: Any,
    cash_T: Any, short_T: Any, recorded: Recorded, units: bool, exits: bool, more: bool | None,
) -> None:  # fmt: skip
    lag, margin, at_open = config.lag, config.margin, config.at_open
    # Whether prices and cash alone decide what fills.
    unbound = not (
        config.limit > 0 or len(m.limit_N) > 0 or config.lot > 0 or config.t_plus_one
        or config.participation > 0 or config.impact > 0 or config.slippage_volatility > 0
    )  # fmt: skip
    carries = margin
    if more is not None:
        carries = margin or config.funding != 0
    call_row = -1
    payout, action, r, before_row = starts_nb(m, targets, config.targets, first)
    r_end, n_actions = targets.set_S1[config.targets + 1], len(m.action_row_A)
    n_payouts = len(m.payout_row_S)

    for t in range(first, last + 1):
        if t > first:
            if m.session_T[t] != m.session_T[t - 1]:
                before_row = t - 1
            # 1. carrying
            owed, funding, cash = 0.0, 0.0, b.money[Money.CASH]
            if carries:
                owed, funding = owed_nb(b, m, config, t, more)
            earned = cash * (config.cash_rate if cash > 0 else config.debit_rate)
            # 2. actions
            while action < n_actions and m.action_row_A[action] == t:
                funding += act_nb(b, m, config, action, t, units, exits, more)
                action += 1
            b.money[Money.CASH] += earned - owed - funding
            b.totals[Total.INTEREST] += earned
            b.totals[Total.BORROW] += owed
            b.totals[Total.FUNDING] += funding
            # 3. payouts
            while payout < n_payouts and m.payout_row_S[payout] == t:
                pay_out_nb(b, m, config, recorded.orders, payout, t, units, exits)
                payout += 1

        # 4. fills: what is wanted, then exits and orders
        decided = -1
        kind: int = Kind.TRADE
        rest_to_zero = True
        base = equity_T[t - 1 - first] if t > first else config.cash
        if t > first or lag == 0:
            due = r < r_end and targets.row_R[r] == t - lag
            if t == call_row:
                kind, decided, b.counts[Count.WORK] = Kind.MARGIN_CALL, t, 0
                b.totals[Total.CALLS] += 1
                if due:
                    refused_nb(b, targets, recorded.misses, r, t - lag, t)
                    r += 1
            elif due:
                decided = t - lag
                if lag == 0:
                    equity = b.money[Money.CASH] + value_nb(b, m.mark_TN, t)
                else:
                    equity = equity_T[decided - first]
                rest_to_zero = decision_nb(
                    b, m, targets, config, recorded.misses, r, t, action, max(equity, 0.0), more
                )
                r += 1
            elif b.counts[Count.LEFT] > 0:
                decided, rest_to_zero, b.counts[Count.WORK] = t - lag, False, 0
                left_over_nb(b, t)
            if decided >= 0:
                b.counts[Count.LEFT] = 0
        b.money[Money.TRADED] = 0.0
        if more is not None and exits and t > first:
            touched_nb(b, m, config, t)
        for step in range(3):
            if step == (1 if at_open else 2):
                if decided >= 0:
                    trade_nb(
                        b, m, config, recorded, t, decided, kind, rest_to_zero, base, unbound,
                        units, exits, before_row, action, more,
                    )  # fmt: skip
            elif more is not None and exits and t > first:
                close_touched_nb(
                    b, m, config, recorded, t, step == 0, unbound, units, before_row, action, more
                )
        closed = b.counts[Count.CLOSED]
        if closed > 0 and (more is None or closed * 4 > b.counts[Count.HELD]):
            drop_closed_nb(b, more is not None and (units or exits))
        b.totals[Total.TRADED] += b.money[Money.TRADED]
        if base > 0:
            b.totals[Total.TURNOVER] += b.money[Money.TRADED] / (2 * base)

        # 5. mark
        cash, gross, shorted = b.money[Money.CASH], 0.0, 0.0
        equity = cash + value_nb(b, m.mark_TN, t)
        if margin:
            gross, shorted = sides_nb(b, m.mark_TN, t)
        if more is not None and exits and config.trail > 0:
            see_nb(b, m, config, t)
        equity_T[t - first], cash_T[t - first], short_T[t - first] = equity, cash, shorted
        if equity <= 0:
            b.totals[Total.RUIN] = t - first + 1
            end_nb(equity_T, cash_T, short_T, t - first + 1, equity)
            break
        # 6. margin
        if margin and equity < config.maintenance * gross and call_row <= t:
            call_row = t + max(lag, 1)
