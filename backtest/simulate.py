"""Target weights to fills and daily equity. Knows prices, weights and costs; no forecasts.

Decided at the close of row t, filled at the open of row t + 1: there is no other path from a
weight to an order. Only rows on which something may trade go through the engine; the equity of
all rows follows from its fills.

Legend: T bars, N symbols of the price table, C columns traded by this book, E events (rows with a
rebalance or a settlement), M fills.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.costs import Costs
from backtest.prices import PriceTable
from backtest.strategies import TargetWeights
from backtest.vectorbt_bridge import Fills, OrderBook, fill
from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

MAX_PASSES = 100
FEE_TOLERANCE = 1e-9
LEAST_PRICE = 1e-11
"""What the engine is told where a settlement pays nothing; it refuses prices of zero."""


@dataclass(frozen=True)
class Simulation:
    """Frames of one book, as `backtest.results.Book` describes them."""

    daily: pl.DataFrame
    orders: pl.DataFrame
    rebalances: pl.DataFrame
    untraded: pl.DataFrame
    unfilled_decisions: int
    passes: int


@dataclass(frozen=True)
class _Events:
    """When this book may trade, and what it wants then."""

    rows_E: Int
    decided_E: Int
    """Row of the decision; -1 for a settlement alone."""
    columns_C: Int
    wanted_EC: Float
    """Weights decided; NaN on settlement rows without a rebalance."""
    target_EC: Float
    """The same with settlements: a name that is paid out goes to zero."""
    settled_EC: Bool
    price_EC: Float
    value_price_EC: Float
    unfilled: int


def simulate(
    targets: TargetWeights,
    prices: PriceTable,
    costs: Costs,
    *,
    cash: float,
    first_row: int,
    last_row: int,
) -> Simulation:
    """Trade `targets` from `first_row` (all cash at its close) to the close of `last_row`.

    Sizes are fixed at the fill: the pool is valued at the opens of t + 1 (last closes where a name
    has no bar) and each name is brought to its weight of that. A name without an open is left as
    it is; its share is not handed to others. A delisted name is paid out at its settlement price,
    free of cost. Raises BacktestInputError where commissions do not settle (see `_fill`).
    """
    events = _events(targets, prices, first_row, last_row)
    fills, passes = _fill(events, prices, costs, cash)
    settled_M = events.settled_EC[fills.event_M, fills.column_M]
    flow_M = np.where(fills.buy_M, -1, 1) * fills.size_M * fills.price_M - fills.fee_M
    daily, held_EC = _daily(events, fills, flow_M, prices, cash, first_row, last_row)
    orders = _orders(events, fills, settled_M, prices)
    return Simulation(
        daily=daily,
        orders=orders,
        rebalances=_rebalances(events, orders, daily, prices, first_row),
        untraded=_untraded(events, held_EC, prices),
        unfilled_decisions=events.unfilled,
        passes=passes,
    )


def _events(targets: TargetWeights, prices: PriceTable, first_row: int, last_row: int) -> _Events:
    decided_R = prices.rows_at(targets.as_of_R)
    fillable = [r for r in range(len(targets)) if decided_R[r] + 1 <= last_row]
    columns_C = np.unique(targets.column_M)
    settle_C = prices.settle_row_N[columns_C]
    inside_C = (settle_C > first_row) & (settle_C <= last_row)
    rebalance_rows = decided_R[fillable] + 1
    rows_E = np.union1d(rebalance_rows, settle_C[inside_C])

    shape = (len(rows_E), len(columns_C))
    wanted_EC = np.full(shape, np.nan)
    decided_E = np.full(len(rows_E), -1, np.int64)
    for r, event in zip(fillable, np.searchsorted(rows_E, rebalance_rows), strict=True):
        wanted, weights = targets.entries(r)
        decided_E[event] = decided_R[r]
        wanted_EC[event] = 0.0
        wanted_EC[event, np.searchsorted(columns_C, wanted)] = weights
    settled_EC = (rows_E[:, None] == settle_C) & inside_C
    target_EC = np.where(settled_EC, 0.0, wanted_EC)

    open_EC = prices.open_TN[np.ix_(rows_E, columns_C)]
    before_EC = prices.mark_TN[np.ix_(rows_E - 1, columns_C)]
    payout_EC = np.maximum(prices.settle_price_N[columns_C], LEAST_PRICE)
    price_EC = np.where(settled_EC, payout_EC, open_EC)
    value_price_EC = np.where(np.isfinite(price_EC), price_EC, before_EC)
    # Before its first bar a name has no price; it cannot be held, so any number serves.
    value_price_EC = np.maximum(np.nan_to_num(value_price_EC, nan=1.0), LEAST_PRICE)
    return _Events(
        rows_E=rows_E,
        decided_E=decided_E,
        columns_C=columns_C,
        wanted_EC=wanted_EC,
        target_EC=target_EC,
        settled_EC=settled_EC,
        price_EC=price_EC,
        value_price_EC=value_price_EC,
        unfilled=len(targets) - len(fillable),
    )


def _fill(events: _Events, prices: PriceTable, costs: Costs, cash: float) -> tuple[Fills, int]:
    """Fills with commission max(value · rate, min_fee) on every order.

    The engine knows a rate plus a fixed fee, not their maximum. So: run with the rate everywhere,
    charge exactly the orders below the floor the floor instead, run again (cash changed, so later
    sizes did), until every order was charged what its value says. An early order depends on
    nothing later, so the passes settle from the front.
    """
    if not events.rows_E.size:
        nothing = np.empty(0)
        index = np.empty(0, np.int64)
        return Fills(index, index, nothing, nothing, nothing, np.empty(0, np.bool_)), 0
    floored_EC = np.zeros(events.target_EC.shape, np.bool_)
    free = events.settled_EC
    for done in range(1, MAX_PASSES + 1):
        book = OrderBook(
            target_EN=events.target_EC,
            price_EN=events.price_EC,
            value_price_EN=events.value_price_EC,
            fees_EN=np.where(free | floored_EC, 0.0, costs.rate),
            fixed_fees_EN=np.where(floored_EC & ~free, costs.min_fee, 0.0),
            slippage_EN=np.where(free, 0.0, costs.slippage),
        )
        fills = fill(book, cash)
        at = (fills.event_M, fills.column_M)
        due_M = np.where(free[at], 0.0, costs.commission(fills.size_M * fills.price_M))
        wrong_M = np.abs(fills.fee_M - due_M) > FEE_TOLERANCE * np.maximum(due_M, 1.0)
        if not wrong_M.any():
            return fills, done
        event, column = at[0][wrong_M], at[1][wrong_M]
        floored_EC[event, column] = ~floored_EC[event, column]
    row, symbol = events.rows_E[event[0]], prices.symbols[events.columns_C[column[0]]]
    raise BacktestInputError(
        f"{symbol}: the commission of its order on {prices.labels_T[row]} kept changing sides of "
        f"the minimum fee {costs.min_fee} for {MAX_PASSES} passes. Change --min-fee or --cash a "
        "little."
    )


def _daily(
    events: _Events,
    fills: Fills,
    flow_M: Float,
    prices: PriceTable,
    cash: float,
    first_row: int,
    last_row: int,
) -> tuple[pl.DataFrame, Float]:
    """Equity at every close, and the shares held before each event."""
    n_rows = last_row - first_row + 1
    cash_T, invested_T = np.full(n_rows, cash), np.zeros(n_rows)
    held_C = np.zeros(len(events.columns_C))
    held_EC = np.zeros(events.target_EC.shape)
    signed_M = np.where(fills.buy_M, fills.size_M, -fills.size_M)
    first_fill_E1 = np.searchsorted(fills.event_M, np.arange(len(events.rows_E) + 1))
    ends_E = np.append(events.rows_E[1:], last_row + 1)
    balance = cash
    for event, (row, end) in enumerate(zip(events.rows_E, ends_E, strict=True)):
        held_EC[event] = held_C
        span = slice(first_fill_E1[event], first_fill_E1[event + 1])
        touched = fills.column_M[span]
        held_C[touched] += signed_M[span]
        # The engine drops such dust too; a residue of rounding is not a position.
        held_C[touched[np.abs(held_C[touched]) <= 1e-12 * fills.size_M[span]]] = 0.0
        for flow in flow_M[span]:
            balance += flow
        here = slice(row - first_row, end - first_row)
        cash_T[here] = balance
        held = np.flatnonzero(held_C)
        if held.size:
            value = prices.mark_TN[row:end, events.columns_C[held]] * held_C[held]
            # A running sum depends on the held names alone, never on the shape of the matrix:
            # what happens later must not change the last bits of today.
            invested_T[here] = np.cumsum(value, axis=1)[:, -1]
    rows = slice(first_row, last_row + 1)
    daily = pl.DataFrame(
        {
            "timestamp": prices.labels_T[rows],
            "close_utc": prices.close_utc_T[rows],
            "equity": cash_T + invested_T,
            "cash": cash_T,
            "invested": invested_T,
        }
    ).with_columns(pl.col("close_utc").dt.replace_time_zone("UTC"))
    return daily, held_EC


def _orders(events: _Events, fills: Fills, settled_M: Bool, prices: PriceTable) -> pl.DataFrame:
    rows_M = events.rows_E[fills.event_M]
    decided_M = events.decided_E[fills.event_M]
    column_M = events.columns_C[fills.column_M]
    reference_M = np.where(settled_M, fills.price_M, prices.open_TN[rows_M, column_M])
    as_of_M = np.where(
        settled_M | (decided_M < 0), np.datetime64("NaT"), prices.close_utc_T[decided_M]
    )
    return pl.DataFrame(
        {
            "as_of": as_of_M.astype("datetime64[us]"),
            "timestamp": prices.labels_T[rows_M],
            "close_utc": prices.close_utc_T[rows_M],
            "symbol": [prices.symbols[column] for column in column_M],
            "side": np.where(fills.buy_M, "buy", "sell").tolist(),
            "size": fills.size_M,
            "open": reference_M,
            "price": fills.price_M,
            "value": fills.size_M * fills.price_M,
            "fee": fills.fee_M,
            "slippage": fills.size_M * np.abs(fills.price_M - reference_M),
            "settled": settled_M,
        },
        schema_overrides={"symbol": pl.String, "side": pl.String},
    ).with_columns(pl.col("as_of", "close_utc").dt.replace_time_zone("UTC"))


def _rebalances(
    events: _Events,
    orders: pl.DataFrame,
    daily: pl.DataFrame,
    prices: PriceTable,
    first_row: int,
) -> pl.DataFrame:
    chosen = events.decided_E >= 0
    decided, rows = events.decided_E[chosen], events.rows_E[chosen]
    frame = pl.DataFrame(
        {
            "as_of": prices.close_utc_T[decided],
            "timestamp": prices.labels_T[rows],
            "equity": daily["equity"].to_numpy()[decided - first_row],
        }
    ).with_columns(pl.col("as_of").dt.replace_time_zone("UTC"))
    per_date = (
        orders.filter(~pl.col("settled"))
        .group_by("as_of")
        .agg(
            pl.col("value").sum().alias("traded"),
            pl.col("fee", "slippage").sum(),
            pl.len().cast(pl.Int64).alias("orders"),
        )
    )
    return (
        frame.join(per_date, on="as_of", how="left", maintain_order="left")
        .with_columns(
            pl.col("traded", "fee", "slippage").fill_null(0.0), pl.col("orders").fill_null(0)
        )
        .with_columns((pl.col("traded") / (2 * pl.col("equity"))).alias("turnover"))
    )


def _untraded(events: _Events, held_EC: Float, prices: PriceTable) -> pl.DataFrame:
    held = held_EC > 0
    no_open_EC = np.isnan(events.price_EC) & ((events.wanted_EC > 0) | held)
    gone_EC = events.settled_EC & (events.wanted_EC > 0)
    event, column = np.nonzero((events.decided_E >= 0)[:, None] & (no_open_EC | gone_EC))
    return pl.DataFrame(
        {
            "as_of": prices.close_utc_T[events.decided_E[event]],
            "timestamp": prices.labels_T[events.rows_E[event]],
            "symbol": [prices.symbols[c] for c in events.columns_C[column]],
            "weight": events.wanted_EC[event, column],
            "held": held[event, column],
            "reason": ["delisted" if gone else "no open" for gone in gone_EC[event, column]],
        },
        schema_overrides={"symbol": pl.String, "reason": pl.String},
    ).with_columns(pl.col("as_of").dt.replace_time_zone("UTC"))
