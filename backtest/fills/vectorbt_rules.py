"""`compat="vectorbt"`: the fills of vectorbt's `Portfolio.from_orders`, without its cost.

The same orders, sizes, fees and equity as `from_orders` with `size_type="targetpercent"`,
`cash_sharing=True`, `call_seq="auto"` and one group, on a held list instead of dense matrices.
Behaviour of vectorbt 1.2, quirks included, written from its observed results:

- At a fill the pool is valued at the order prices of that bar (last known ones where NaN); every
  size comes from that value, so a size depends on a price known only at the fill.
- Orders run in ascending order of their approximate value: the biggest sell first, the biggest buy
  last; ties by column. Costs are not set aside when sizing, so the last buys are cut to the cash.
- A listed weight of NaN leaves the position alone; a name not listed goes to zero.
- Granularity is a bare floor division: 0.3 at a step of 0.1 gives 0.2.
- No delisting, no dividends, no interest: a name that falls silent keeps its last price forever.
"""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np
from numba import njit

from backtest.fills.inputs import Recorded, Targets

REL, ABS = 1e-9, 1e-12
"""vectorbt treats numbers this close as equal."""
LEAST_SIZE = 1e-8
"""Smaller orders are rejected."""
FEW = 64
"""Below this many orders an insertion sort is faster."""


@njit(cache=True, nogil=True, error_model="numpy")
def _near(a: float, b: float) -> bool:
    return a == b or abs(a - b) <= max(REL * max(abs(a), abs(b)), ABS)


@njit(cache=True, nogil=True, error_model="numpy")
def _plus(a: float, b: float) -> float:
    """a + b, or 0 where they cancel but for rounding."""
    return 0.0 if a * b <= 0 and _near(abs(a), abs(b)) else a + b


@njit(cache=True, nogil=True, error_model="numpy")
def _ascending(key_Q: Any, order_Q: Any, n: int) -> None:
    """Stable argsort of the first n keys into order_Q."""
    if n > FEW:
        order_Q[:n] = np.argsort(key_Q[:n], kind="mergesort")
        return
    for j in range(n):
        i, key = j - 1, key_Q[j]
        while i >= 0 and key_Q[order_Q[i]] > key:
            order_Q[i + 1] = order_Q[i]
            i -= 1
        order_Q[i + 1] = j


@njit(cache=True, nogil=True, error_model="numpy")
def vectorbt_nb(
    fill_TN: Any,
    mark_TN: Any,
    targets: Targets,
    config: Any,
    granularity: float,
    long_only: bool,
    first: int,
    last: int,
    equity_T: Any,
    cash_T: Any,
    recorded: Recorded,
) -> int:
    """Walk bars first..last; as `kernels.simulate_nb`, returns the number of orders.

    Reads rate, min_fee (as vectorbt's fixed fee, which is *added*), slippage, lag, cash and targets
    of the configuration. granularity: NaN for fractional shares. Without long_only a weight may be
    negative; cash alone limits buys, and nothing limits shorts.
    """
    n = mark_TN.shape[1]
    rate, fixed, slippage, lag = config.rate, config.min_fee, config.slippage, config.lag
    room, n_orders = len(recorded.orders), 0
    shares_N, weight_N = np.zeros(n), np.zeros(n)
    stamp_N = np.full(n, -1, np.int64)
    held_N, column_N = np.empty(n, np.int64), np.empty(n, np.int64)
    price_N, size_N, key_N = np.empty(n), np.empty(n), np.empty(n)
    order_N = np.empty(n, np.int64)
    n_held, cash = 0, config.cash
    r, r_end = targets.set_S1[config.targets], targets.set_S1[config.targets + 1]
    while r < r_end and targets.row_R[r] < first:
        r += 1
    for t in range(first, last + 1):
        if r < r_end and targets.row_R[r] + lag == t:
            for k in range(targets.start_R1[r], targets.start_R1[r + 1]):
                c = targets.column_M[k]
                stamp_N[c], weight_N[c] = t, targets.weight_M[k]
            r += 1
            value, n_names = cash, 0
            for c in range(n):
                if shares_N[c] == 0 and stamp_N[c] != t:
                    continue
                price = float(fill_TN[t, c])
                known = t
                while isnan(price) and known > first:
                    known -= 1
                    price = float(fill_TN[known, c])
                column_N[n_names], price_N[n_names] = c, price
                n_names += 1
                if shares_N[c] != 0:
                    value += shares_N[c] * price
            n_wanted = 0
            if not (value <= 0 or _near(value, 0.0)):
                for i in range(n_names):
                    c, price = column_N[i], price_N[i]
                    weight = weight_N[c] if stamp_N[c] == t else 0.0
                    if isnan(weight) or isnan(fill_TN[t, c]):
                        continue
                    key_N[n_wanted] = weight * value - shares_N[c] * price
                    size_N[n_wanted] = weight * value / price - shares_N[c]
                    column_N[n_wanted], price_N[n_wanted] = c, price
                    n_wanted += 1
            _ascending(key_N, order_N, n_wanted)
            for i in range(n_wanted):
                at = order_N[i]
                c, size, have = column_N[at], size_N[at], shares_N[column_N[at]]
                if _near(cash, 0.0):
                    cash = 0.0
                fee = 0.0
                if size > 0:
                    price = price_N[at] * (1 + slippage)
                    if cash == 0:
                        continue
                    if not isnan(granularity):
                        size = size // granularity * granularity
                    if _near(size, 0.0):
                        continue
                    due = size * price
                    fee = due * rate + fixed
                    paid = due + fee
                    if not (paid < cash or _near(paid, cash)):
                        funds = _plus(cash, -fixed) / (1 + rate)
                        if funds <= 0:
                            continue
                        size, fee, paid = funds / price, cash - funds, cash
                        if not isnan(granularity):
                            size = size // granularity * granularity
                            fee = size * price * rate + fixed
                            paid = size * price + fee
                    if size < LEAST_SIZE:
                        continue
                    cash = _plus(cash, -paid)
                    now = _plus(have, size)
                else:
                    price = price_N[at] * (1 - slippage)
                    size = -size
                    if long_only:
                        size = min(have, size)
                    if not isnan(granularity):
                        size = size // granularity * granularity
                    if _near(size, 0.0) or size < LEAST_SIZE:
                        continue
                    fee = size * price * rate + fixed
                    got = _plus(size * price, -fee)
                    if got < 0:
                        continue
                    cash += got
                    now = _plus(have, -size)
                    size = -size
                if _near(now, 0.0):
                    now = 0.0
                shares_N[c] = now
                if have == 0 and now != 0:
                    held_N[n_held] = c
                    n_held += 1
                if n_orders < room:
                    order = recorded.orders[n_orders]
                    order.decided, order.row, order.column, order.size = t - lag, t, c, size
                    order.reference, order.price, order.fee = price_N[at], price, fee
                    order.kind = 0
                n_orders += 1
            kept = 0
            for i in range(n_held):
                held_N[kept] = held_N[i]
                kept += shares_N[held_N[i]] != 0
            n_held = kept
        invested = 0.0
        for i in range(n_held):
            invested += shares_N[held_N[i]] * mark_TN[t, held_N[i]]
        equity_T[t - first] = cash + invested
        cash_T[t - first] = cash
    return n_orders
