"""The only place that imports vectorbt, and only when asked for: our fills as its `Portfolio`.

Knows finished simulations and prices. The engine is pinned to Numba: `engine="auto"` would
silently switch to another one where it is installed.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from backtest.figures.metrics import bars_per_year
from backtest.fills.prices import PriceTable
from backtest.fills.simulation import Simulation
from market.errors import BacktestInputError

LEAST_PRICE = 1e-11
"""The price vectorbt is given where a payout is worth nothing; it refuses prices of zero."""


def to_vectorbt(
    simulation: Simulation, prices: PriceTable, periods_per_year: float | None = None
) -> Any:
    """A real `vectorbt.Portfolio` with the simulation's orders, in their order, and its equity.

    Its frequency is a year of 365 days over the bars of a year (None: counted), so that its
    annualised figures are ours, and its durations, nights and weekends included, are of the
    calendar.

    For vectorbt's plots and statistics. It knows neither interest nor borrow fees nor dividends nor
    splits, so a simulation with any of these is refused with BacktestInputError.
    """
    periods = periods_per_year or bars_per_year(prices.labels_T, prices.sessions_T)
    for name in ("interest", "borrow", "dividends", "funding"):
        if simulation.totals[name]:
            raise BacktestInputError(
                f"the simulation has {name} of {simulation.totals[name]:.6g}, which a vectorbt "
                "Portfolio cannot hold. Set its rate to 0."
            )
    if simulation.daily["cash"].min() < 0:  # type: ignore[operator]
        raise BacktestInputError("vectorbt refuses negative cash: a margin account cannot convert")
    rows = np.searchsorted(prices.close_utc_T, simulation.daily["close_utc"].to_numpy())
    orders = simulation.orders
    order_row = np.searchsorted(prices.close_utc_T, orders["close_utc"].to_numpy()) - rows[0]
    columns = np.searchsorted(np.array(prices.symbols), orders["symbol"].to_numpy().astype(str))
    traded, column = np.unique(columns, return_inverse=True)
    shape = (len(rows), max(len(traded), 1))
    size, price, fee = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape)
    signs = np.where(orders["side"].to_numpy() == "buy", 1.0, -1.0)
    size[order_row, column] = signs * orders["size"].to_numpy()
    price[order_row, column] = np.maximum(orders["price"].to_numpy(), LEAST_PRICE)
    fee[order_row, column] = orders["fee"].to_numpy()
    sequence = np.tile(np.arange(shape[1]), (shape[0], 1))
    for row in np.unique(order_row):
        first = column[order_row == row]
        rest = np.setdiff1d(np.arange(shape[1]), first)
        sequence[row] = np.concatenate((first, rest))
    mark = np.maximum(prices.mark_TN[np.ix_(rows, traded)], LEAST_PRICE)
    if not len(traded):
        mark = np.ones(shape)
    with warnings.catch_warnings():
        # Its import and its pandas glue warn about other libraries' plans; our inputs are checked.
        warnings.simplefilter("ignore")
        import pandas as pd
        import vectorbt as vbt

        frame = pd.DataFrame(
            mark,
            index=pd.DatetimeIndex(simulation.daily["timestamp"].to_numpy()),
            columns=[prices.symbols[c] for c in traded] or ["cash"],
        )
        portfolio = vbt.Portfolio.from_orders(
            frame,
            size=size,
            size_type="amount",
            direction="both",
            price=price,
            fixed_fees=fee,
            init_cash=float(simulation.daily["cash"][0]),
            cash_sharing=True,
            group_by=True,
            call_seq=sequence,
            freq=pd.Timedelta(days=365 / periods),
            engine="numba",
        )
        value = np.asarray(portfolio.value())
    if not np.allclose(value, simulation.daily["equity"].to_numpy(), rtol=1e-6):
        raise BacktestInputError(
            "vectorbt's equity of these orders differs from the simulation's: splits changed "
            "shares between orders, which a Portfolio cannot hold. Use adjusted prices."
        )
    return portfolio
