"""What a simulation hands back. A plain record: no computing here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class Simulation:
    """Frames of one simulated portfolio."""

    daily: pl.DataFrame
    """Per bar: timestamp, close_utc, equity, cash, invested (positions at their marks, net),
    long and short (what is held and owed, both 0 or more). The last bar is the one on which nothing
    was left, if ever."""
    orders: pl.DataFrame
    """Per fill, in execution order: as_of, timestamp, close_utc, symbol, side, size, reference,
    price, value, fee, slippage (impact included), settled (true: the payout of a delisted name,
    as_of null), margin_call,
    kind (what it came from: decision, payout, margin call, stop loss, trailing stop, take profit,
    time exit; of exits as_of is null too)."""
    rebalances: pl.DataFrame
    """Per rebalance filled: as_of, timestamp, equity (at the decision), traded, turnover, fee,
    slippage, orders."""
    untraded: pl.DataFrame
    """Wanted changes that could not trade: as_of, timestamp, symbol, weight, held, reason."""
    unfilled_decisions: int
    """Rebalances decided too late to fill within the bars."""
    totals: Mapping[str, float]
    """Sums over the whole walk, as `backtest.fills.stats.Total` names them."""
