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
