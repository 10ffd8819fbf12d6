"""Actions and bars as tables: raw, split-adjusted or total-return prices as known at a date.

Knows polars; what is multiplied by what is decided in factors.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from market.actions.factors import Basis, SymbolActions, factors
from market.actions.table import ACTION_SCHEMA
from market.fields import PRICES


def actions_by_symbol(actions: pl.DataFrame) -> dict[str, SymbolActions]:
    """ACTION_SCHEMA as arrays per symbol."""
    found = {}
    for (symbol,), rows in actions.sort("symbol", "ex_date").partition_by(
        "symbol", as_dict=True
    ).items():  # fmt: skip
        ex = rows["ex_date"].to_numpy().astype("datetime64[D]")
        announced = rows["announced"].fill_null(rows["ex_date"]).to_numpy().astype("datetime64[D]")
        found[str(symbol)] = SymbolActions(
            ex, np.maximum(ex, announced), rows["split"].to_numpy(), rows["dividend"].to_numpy()
        )
    return found


def adjust_bars(
    bars: pl.DataFrame, actions: pl.DataFrame, as_of: np.datetime64, basis: Basis
) -> pl.DataFrame:
    """Bars with prices and volumes as known at a session; amounts stay, they are money.

    bars: BAR_SCHEMA columns, any symbols. actions: ACTION_SCHEMA.
    """
    if basis == "raw" or not actions.height or not bars.height:
        return bars
    per_symbol = actions_by_symbol(actions.cast(ACTION_SCHEMA))
    parts = []
    for (symbol,), rows in bars.sort("symbol", "close_utc").partition_by(
        "symbol", as_dict=True, maintain_order=True
    ).items():  # fmt: skip
        own = per_symbol.get(str(symbol))
        if own is None:
            parts.append(rows)
            continue
        found = factors(
            rows["session"].to_numpy().astype("datetime64[D]"),
            rows["close"].to_numpy(), own, as_of, basis,
        )  # fmt: skip
        parts.append(
            rows.with_columns(
                *(pl.col(name) * pl.Series(found.price_N) for name in PRICES),
                pl.col("volume") * pl.Series(found.volume_N),
            )
        )
    return pl.concat(parts)
