"""Target weights to fills and equity, as frames. Knows prices, weights, costs and rules.

The order of events within a bar is written down in `backtest.fills.oracle`; the kernels do the
work.

Legend: T bars, N symbols of the price table, C configurations, K statistics.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.fills.costs import Costs
from backtest.fills.inputs import MISS, ORDER, Recorded, Targets, more_of
from backtest.fills.prices import PriceTable, kernel_inputs
from backtest.fills.rules import KIND_WORDS, WORDS, Kind, Reason, Rules, configs
from backtest.fills.simulation import Simulation
from backtest.fills.stats import N_TOTALS, Total
from backtest.fills.targets import check_targets
from backtest.fills.terms import Terms
from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Compat = Literal["none", "vectorbt"]


def simulate(
    targets: Targets,
    prices: PriceTable,
    costs: Costs,
    rules: Rules = Rules(),
    *,
    cash: float,
    first_row: int,
    last_row: int,
    bars_per_year: float = 252.0,
    compat: Compat = "none",
    actions: pl.DataFrame | None = None,
    factor_TN: Float | None = None,
    terms: Terms | None = None,
) -> Simulation:
    """Trade one target set from `first_row` (all cash at its close) to the close of `last_row`.

    compat="vectorbt" sizes and fills as vectorbt's `from_orders` would at the same prices, with
    `min_fee` as its (added) fixed fee; of the rules it reads lag, fill, lot and short alone.
    actions: corporate actions of raw prices, where `prices` do not hold them yet (see
    `prices.with_actions`). factor_TN: see `prices.kernel_inputs`. terms: what differs from symbol
    to symbol. bars_per_year turns yearly rates into rates per bar. An account that has nothing left
    ends there: its frames stop at that bar. Raises BacktestInputError as `check_targets`.
    """
    check_targets(targets, prices, rules)
    if compat == "vectorbt" and (rules.exits or len(targets.unit_M)):
        raise BacktestInputError(
            'compat="vectorbt" knows target weights alone: no exits, no orders'
        )
    if actions is not None:
        prices = prices.with_actions(actions)
    inputs = kernel_inputs(
        prices, costs, rules, factor_TN=factor_TN, terms=terms, bars_per_year=bars_per_year
    )
    many = configs([(0, costs, rules, cash)], bars_per_year)
    n_rows = last_row - first_row + 1
    equity_T, cash_T, short_T, totals = *np.zeros((3, n_rows)), np.zeros(N_TOTALS)

    def walk(n_orders: int, n_misses: int) -> tuple[int, int, Recorded]:
        recorded = Recorded(np.zeros(n_orders, ORDER), np.zeros(n_misses, MISS))
        if compat == "vectorbt":
            from backtest.fills.vectorbt_rules import vectorbt_nb

            lot = rules.lot or np.nan
            count = vectorbt_nb(
                inputs.fill_TN, inputs.mark_TN, targets, many[0], lot, not rules.short,
                first_row, last_row, equity_T, cash_T, recorded,
            )  # fmt: skip
            return count, 0, recorded
        from backtest.fills.kernels import simulate_nb

        counts = simulate_nb(
            inputs, targets, many[0], first_row, last_row, equity_T, cash_T, short_T, totals,
            recorded, more_of(inputs, targets, many),
        )  # fmt: skip
        return *counts, recorded

    n_orders, n_misses, _ = walk(0, 0)
    *_, recorded = walk(n_orders, n_misses)
    if compat == "vectorbt" and rules.short:
        short_T = _shorts(recorded.orders, prices, first_row, n_rows)
    if ruined := int(totals[Total.RUIN]):
        last_row = first_row + ruined - 1
        equity_T, cash_T, short_T = equity_T[:ruined], cash_T[:ruined], short_T[:ruined]
    invested_T = equity_T - cash_T
    daily = pl.DataFrame(
        {
            "timestamp": prices.labels_T[first_row : last_row + 1],
            "close_utc": prices.close_utc_T[first_row : last_row + 1],
            "equity": equity_T,
            "cash": cash_T,
            "invested": invested_T,
            "long": invested_T + short_T,
            "short": short_T,
        }
    ).with_columns(pl.col("close_utc").dt.replace_time_zone("UTC"))
    orders = orders_frame(recorded.orders, prices)
    row_R = targets.row_R[(targets.row_R >= first_row) & (targets.row_R <= last_row)]
    fillable_R = row_R[row_R + rules.lag <= last_row]
    return Simulation(
        daily=daily,
        orders=orders,
        rebalances=rebalances_frame(fillable_R, rules.lag, orders, equity_T, prices, first_row),
        untraded=untraded_frame(recorded, prices),
        unfilled_decisions=len(row_R) - len(fillable_R),
        totals={total.name.lower(): float(totals[total]) for total in Total},
    )


def _shorts(filled: Any, prices: PriceTable, first_row: int, n_rows: int) -> Float:
    """Value of the short positions that orders left, per bar."""
    columns, place_M = np.unique(filled["column"], return_inverse=True)
    shares = np.zeros((n_rows, len(columns)))
    np.add.at(shares, (filled["row"] - first_row, place_M), filled["size"])
    values = np.cumsum(shares, axis=0) * prices.mark_TN[first_row : first_row + n_rows, columns]
    total_T: Float = np.maximum(-np.nan_to_num(values), 0.0).sum(axis=1)
    return total_T


def orders_frame(filled: Any, prices: PriceTable) -> pl.DataFrame:
    decided_M, row_M = filled["decided"], filled["row"]
    payout_M = filled["kind"] == Kind.PAYOUT
    as_of_M = np.where(decided_M < 0, np.datetime64("NaT"), prices.close_utc_T[decided_M])
    size_M = np.abs(filled["size"])
    return pl.DataFrame(
        {
            "as_of": as_of_M.astype("datetime64[us]"),
            "timestamp": prices.labels_T[row_M],
            "close_utc": prices.close_utc_T[row_M],
            "symbol": [prices.symbols[column] for column in filled["column"]],
            "side": np.where(filled["size"] > 0, "buy", "sell").tolist(),
            "size": size_M,
            "reference": filled["reference"].copy(),
            "price": filled["price"].copy(),
            "value": size_M * filled["price"],
            "fee": filled["fee"].copy(),
            "slippage": size_M * np.abs(filled["price"] - filled["reference"]),
            "settled": payout_M,
            "margin_call": filled["kind"] == Kind.MARGIN_CALL,
            "kind": [KIND_WORDS[Kind(kind)] for kind in filled["kind"]],
        },
        schema_overrides={"symbol": pl.String, "side": pl.String, "kind": pl.String},
    ).with_columns(pl.col("as_of", "close_utc").dt.replace_time_zone("UTC"))


def rebalances_frame(
    row_R: Int, lag: int, orders: pl.DataFrame, equity_T: Float, prices: PriceTable, first_row: int
) -> pl.DataFrame:
    """One row per decision that filled; carried orders count with their decision."""
    frame = pl.DataFrame(
        {
            "as_of": prices.close_utc_T[row_R],
            "timestamp": prices.labels_T[row_R + lag],
            "equity": equity_T[row_R - first_row],
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


def untraded_frame(recorded: Recorded, prices: PriceTable) -> pl.DataFrame:
    """Misses as a frame. A buy that was merely cut to the cash left is not a miss."""
    misses, orders = recorded.misses, recorded.orders
    place = len(prices.symbols)
    short_of_money = np.isin(misses["reason"], (Reason.NO_CASH, Reason.LEVERAGE))
    traded = np.isin(
        misses["row"] * place + misses["column"], orders["row"] * place + orders["column"]
    )
    misses = misses[~(short_of_money & traded)]
    held = []
    for miss in misses:
        before = (orders["column"] == miss["column"]) & (orders["row"] < miss["row"])
        sizes = orders["size"][before]
        held.append(bool(abs(sizes.sum()) > 1e-9 * max(np.abs(sizes).max(initial=0.0), 1e-300)))
    return pl.DataFrame(
        {
            "as_of": prices.close_utc_T[misses["decided"]],
            "timestamp": prices.labels_T[misses["row"]],
            "symbol": [prices.symbols[c] for c in misses["column"]],
            "weight": misses["weight"].copy(),
            "held": held,
            "reason": [WORDS[Reason(reason)] for reason in misses["reason"]],
        },
        schema_overrides={"symbol": pl.String, "reason": pl.String, "held": pl.Boolean},
    ).with_columns(pl.col("as_of").dt.replace_time_zone("UTC"))
