"""Top-k dropout on Qlib's exchange as a `Simulation`, like any other book. Knows prices and scores.

`backtest.fills.qlib` does the walk; this lays scores, costs and rules out for it, and its holdings
as orders.

Legend: T bars, N symbols, D decisions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.fills.costs import Costs
from backtest.fills.inputs import MISS, ORDER, Recorded
from backtest.fills.prices import PriceTable
from backtest.fills.qlib import LEAST_PRICE, QlibReport, QlibSettings, qlib_topk_dropout
from backtest.fills.rules import Kind, Rules
from backtest.fills.simulate import orders_frame, rebalances_frame, untraded_frame
from backtest.fills.simulation import Simulation
from backtest.fills.stats import Total
from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

UNREAD = (
    "participation", "carry", "t_plus_one", "inside_bar", "short", "leverage", "maintenance",
    "band", "min_order", "stop_loss", "trailing_stop", "take_profit", "max_bars", "allow_same_bar",
)  # fmt: skip
UNREAD_COSTS = (
    "commission_per_share", "max_fee", "slippage_volatility", "borrow_bps", "funding_bps",
    "cash_rate", "debit_rate", "maker_bps",
)  # fmt: skip


def simulate_qlib(
    score_DN: Float,
    row_D: Int,
    prices: PriceTable,
    costs: Costs,
    rules: Rules,
    *,
    topk: int,
    n_drop: int,
    cash: float,
    first_row: int,
    last_row: int,
) -> Simulation:
    """Trade scores as Qlib's TopkDropoutStrategy does, from `first_row` to the close of `last_row`.

    Of the costs, commission and taxes are its open_cost and close_cost (slippage_bps is added to
    both, since Qlib fills at the price itself), min_fee its min_cost, impact its impact_cost; of
    the rules, fill (open or close) is its deal price, lot its trade_unit, limit its limit_threshold
    on the change of the day's close (0: none). Prices must be adjusted. Raises BacktestInputError
    for anything that Qlib does not know.
    """
    _refuse(prices, costs, rules)
    deal_TN = prices.open_TN if rules.fill == "open" else prices.close_TN
    score_TN = np.full(prices.close_TN.shape, np.nan)
    score_TN[row_D] = score_DN
    change_TN = np.full_like(score_TN, np.nan)
    change_TN[1:] = prices.close_TN[1:] / prices.mark_TN[:-1] - 1
    open_cost = (costs.commission_bps + costs.buy_tax_bps + costs.slippage_bps) / 10_000
    close_cost = (costs.commission_bps + costs.sell_tax_bps + costs.slippage_bps) / 10_000
    settings = QlibSettings(
        topk=topk,
        n_drop=n_drop,
        account=cash,
        impact_cost=costs.impact,
        limit_threshold=rules.limit or np.inf,
        open_cost=open_cost,
        close_cost=close_cost,
        min_cost=costs.min_fee,
        trade_unit=rules.lot,
    )
    made = qlib_topk_dropout(
        score_TN, deal_TN, prices.close_TN, change_TN, prices.volume_TN,
        np.ones(len(prices.symbols)), settings, first=first_row + 1, last=last_row,
    )  # fmt: skip
    filled = _filled(made.amounts, deal_TN, prices, settings, first_row + 1)
    return _simulation(made, filled, row_D, prices, cash, (first_row, last_row))


def _filled(
    amount_TN: Float, deal_TN: Float, prices: PriceTable, settings: QlibSettings, first: int
) -> Any:
    """Changes of the holdings as orders, sells before buys, with the fees that Qlib charged.

    amount_TN: shares held at the end of each bar from `first` on.
    """
    change = np.diff(amount_TN, axis=0, prepend=0.0)
    step, column = np.nonzero(change)
    sells_first = np.lexsort((column, change[step, column] > 0, step))
    step, column = step[sells_first], column[sells_first]
    filled = np.zeros(len(step), ORDER)
    row, size = step + first, change[step, column]
    price = deal_TN[row, column]
    price = np.where(price > LEAST_PRICE, price, prices.close_TN[row, column])
    value = np.abs(size) * price
    of_bar = value / (prices.volume_TN[row, column] * price)
    share = np.nan_to_num(of_bar**2, nan=1.0, posinf=1.0)
    ratio = np.where(size > 0, settings.open_cost, settings.close_cost)
    ratio = ratio + settings.impact_cost * share
    filled["decided"], filled["row"], filled["column"] = row - 1, row, column
    filled["size"], filled["reference"], filled["price"] = size, price, price
    filled["fee"], filled["kind"] = np.maximum(value * ratio, settings.min_cost), Kind.TRADE
    return filled


def _simulation(
    made: QlibReport,
    filled: Any,
    row_D: Int,
    prices: PriceTable,
    cash: float,
    span: tuple[int, int],
) -> Simulation:
    """The frames of a walk. span: its first and last row."""
    first_row, last_row = span
    equity_T = np.append(cash, made.account)
    cash_T = np.append(cash, made.cash)
    walked = slice(first_row, last_row + 1)
    nothing = np.zeros(len(equity_T))
    daily = pl.DataFrame(
        {
            "timestamp": prices.labels_T[walked],
            "close_utc": prices.close_utc_T[walked],
            "equity": equity_T,
            "cash": cash_T,
            "invested": equity_T - cash_T,
            "long": equity_T - cash_T,
            "short": nothing,
        }
    ).with_columns(pl.col("close_utc").dt.replace_time_zone("UTC"))
    orders = orders_frame(filled, prices)
    row_R = row_D[(row_D >= first_row) & (row_D <= last_row)]
    fillable_R = row_R[row_R + 1 <= last_row]
    totals = {total.name.lower(): 0.0 for total in Total}
    totals |= {
        "fees": float(filled["fee"].sum()),
        "traded": float(orders["value"].sum()),
        "turnover": float(made.turnover.sum() / 2),
        "orders": float(len(filled)),
    }
    return Simulation(
        daily=daily,
        orders=orders,
        rebalances=rebalances_frame(fillable_R, 1, orders, equity_T, prices, first_row),
        untraded=untraded_frame(Recorded(filled, np.zeros(0, MISS)), prices),
        unfilled_decisions=len(row_R) - len(fillable_R),
        totals=totals,
    )


def _refuse(prices: PriceTable, costs: Costs, rules: Rules) -> None:
    """What Qlib's exchange does not know must be off."""
    plain_rules, plain_costs = Rules(), Costs()
    for name in UNREAD:
        if getattr(rules, name) != getattr(plain_rules, name):
            raise BacktestInputError(f"{name}: Qlib's exchange does not know it; leave it out")
    for name in UNREAD_COSTS:
        if getattr(costs, name) != getattr(plain_costs, name):
            raise BacktestInputError(f"{name}: Qlib's exchange does not know it; leave it out")
    if rules.lag != 1 or rules.fill == "vwap":
        raise BacktestInputError("compat qlib fills at the open or close of the next bar: lag 1")
    if len(prices.action_row_A):
        raise BacktestInputError(
            "compat qlib trades adjusted prices: give --no-store-actions and a store of them"
        )
