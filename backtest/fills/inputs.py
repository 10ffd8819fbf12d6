"""What the kernels and the oracle read: plain arrays in named tuples, no objects inside.

Legend: T bars, N symbols, R decisions, M (decision, symbol) entries, A corporate actions,
S payouts of delisted names. Matrices that a configuration does not read may have shape (1, 1);
`factor_TN` may have one row for all bars.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]
NO_MATRIX, NO_FLOATS, NO_INTS = np.full((1, 1), np.nan), np.empty(0), np.empty(0, np.int64)
NO_FLAGS = np.zeros(0, np.bool_)


class Inputs(NamedTuple):
    """Prices and what happened, float64 or float32 throughout."""

    fill_TN: Array
    """Reference price orders fill at; NaN: no trade on that bar."""
    low_TN: Array
    high_TN: Array
    volume_TN: Array
    """Shares; NaN or 0: nobody to trade with."""
    sigma_TN: Array
    """Volatility of one bar as known before it, a fraction."""
    factor_TN: Array
    """Raw shares per share of these prices; 1 where prices are raw."""
    mark_TN: Array
    """Last close known; NaN before the first, the settlement price after the last."""
    session_T: Int
    """Number of the session each bar belongs to, increasing."""
    settle_row_N: Int
    """Bar on which holders of a delisted name are paid; -1 where it lives."""
    settle_price_N: Float
    payout_row_S: Int
    """The rows of settle_row_N that are ≥ 0, sorted, with their columns."""
    payout_column_S: Int
    action_row_A: Int
    """Sorted."""
    action_column_A: Int
    split_A: Float
    """New shares per old share; 1: none."""
    dividend_A: Float
    """Cash per (new) share; 0: none."""
    funding_A: Float = NO_FLOATS
    """Fraction of a position's value that a long pays then; may be empty."""
    open_TN: Array = NO_MATRIX
    """Read, with low and high, by exits and limit orders."""
    limit_N: Float = NO_FLOATS
    """Price limit of each symbol; empty, or NaN for one: the configuration's."""
    rate_N: Float = NO_FLOATS
    """Commission rate of each symbol, likewise."""
    borrow_N: Float = NO_FLOATS
    """Borrow fee per bar of each symbol, likewise."""
    thin_T: npt.NDArray[np.bool_] = NO_FLAGS
    """Bars on which most names do not trade: an order without a price then waits; may be empty."""


class Targets(NamedTuple):
    """Decisions of one or several strategies in compressed rows."""

    set_S1: Int
    """Decisions of target set s are set_S1[s]:set_S1[s + 1]; their rows increase."""
    row_R: Int
    """Bar at whose close a decision is made."""
    start_R1: Int
    column_M: Int
    """In the order in which they compete for cash."""
    weight_M: Float
    """Fraction of equity; a name not listed is wanted at zero."""
    unit_M: Int = NO_INTS
    """What weight_M means (`rules.Unit`), the same throughout a decision; empty: all TARGET."""
    limit_M: Float = NO_FLOATS
    """Limit price of each order, in prices of the decision's bar; NaN: none. As long as unit_M."""


def more_of(m: Inputs, targets: Targets, configs_C: Any) -> bool | None:
    """True where a configuration needs more than the plain rules, which compile on their own.

    More are: exits, orders that are not target weights, terms of single symbols, bars on which
    most names do not trade, no-trade bands, least order values, taxes, fee caps, maker fees,
    funding.
    """
    extra = (targets.unit_M, m.limit_N, m.rate_N, m.borrow_N, m.thin_T, m.funding_A)
    numbers = ("buy_tax", "sell_tax", "funding", "band", "min_order", "stop", "trail", "take")
    needed = any(len(values) for values in extra) or any(
        (configs_C[name] != 0).any() for name in (*numbers, "max_bars")
    )
    return True if needed or np.isfinite(configs_C["max_fee"]).any() else None


class Recorded(NamedTuple):
    """Room for what a simulation does; arrays of length 0 record nothing."""

    orders: Array
    misses: Array


ORDER = np.dtype(
    [
        ("decided", np.int64),
        ("row", np.int64),
        ("column", np.int64),
        ("size", np.float64),
        ("reference", np.float64),
        ("price", np.float64),
        ("fee", np.float64),
        ("kind", np.int64),
    ]
)
"""A fill; size is signed, decided is -1 for payouts."""
MISS = np.dtype(
    [
        ("decided", np.int64),
        ("row", np.int64),
        ("column", np.int64),
        ("weight", np.float64),
        ("size", np.float64),
        ("reason", np.int64),
    ]
)
"""An order that did not fill, or not in full; size is the signed shortfall in shares."""
