"""The only place that imports vectorbt, and only when a simulation runs.

Knows price and size matrices; nothing of forecasts, dates or reports. The engine is pinned to
Numba: `engine="auto"` would silently switch to another one where it is installed.

Legend: E events (bars on which something may trade), N columns, M orders.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class OrderBook:
    """What vectorbt is given; all matrices float64 in C order, so that it compiles once."""

    target_EN: Float
    """Wanted fraction of the group's value; NaN: leave the position alone."""
    price_EN: Float
    """Price before slippage; NaN: cannot trade, the order is ignored."""
    value_price_EN: Float
    """Price the group is valued and sized at; never NaN, which would break the order of sells."""
    fees_EN: Float
    fixed_fees_EN: Float
    slippage_EN: Float


@dataclass(frozen=True)
class Fills:
    """Filled orders, in the order they were executed."""

    event_M: Int
    column_M: Int
    size_M: Float
    """Shares, > 0."""
    price_M: Float
    """Fill price, slippage included."""
    fee_M: Float
    buy_M: Bool


def fill(book: OrderBook, cash: float) -> Fills:
    """Run one long-only cash pool through `Portfolio.from_orders`.

    vectorbt's rules: the pool is valued at `value_price_EN` once per event; orders go from the
    biggest sell to the biggest buy; a buy the remaining cash cannot pay in full, fees included,
    is filled in part (costs are not anticipated when sizing).
    """
    with warnings.catch_warnings():
        # Its import and its pandas glue warn about other libraries' plans; our inputs are checked.
        warnings.simplefilter("ignore")
        import vectorbt as vbt

        portfolio = vbt.Portfolio.from_orders(
            book.value_price_EN,
            size=book.target_EN,
            size_type="targetpercent",
            direction="longonly",
            price=book.price_EN,
            val_price=book.value_price_EN,
            fees=book.fees_EN,
            fixed_fees=book.fixed_fees_EN,
            slippage=book.slippage_EN,
            init_cash=float(cash),
            cash_sharing=True,
            group_by=True,
            call_seq="auto",
            freq="D",
            engine="numba",
        )
        records = portfolio.order_records
    return Fills(
        event_M=records["idx"].astype(np.int64),
        column_M=records["col"].astype(np.int64),
        size_M=records["size"].astype(np.float64),
        price_M=records["price"].astype(np.float64),
        fee_M=records["fees"].astype(np.float64),
        buy_M=records["side"] == int(vbt.portfolio.enums.OrderSide.Buy),
    )
