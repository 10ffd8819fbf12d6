"""What differs from symbol to symbol: boards, fees, borrow. Knows a table, no bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]

LEAST_MOST = {"limit": (0.0, 1.0), "commission_bps": (0.0, 9_999.0), "borrow_bps": (0.0, np.inf)}


@dataclass(frozen=True)
class Terms:
    """A table with `symbol` and some of limit (price limit as a fraction), commission_bps and
    borrow_bps (per year); null, or a symbol without a row: as `Rules` and `Costs` say.

    Raises BacktestInputError for a symbol named twice and for values out of range.
    """

    table: pl.DataFrame

    def __post_init__(self) -> None:
        known = ("symbol", *LEAST_MOST)
        unknown = [name for name in self.table.columns if name not in (*known, "group")]
        if "symbol" not in self.table.columns or unknown:
            raise BacktestInputError(
                f"terms of symbols have the columns {', '.join(self.table.columns)}; they may have "
                f"{', '.join(known)} and group"
            )
        doubled = self.table.filter(pl.col("symbol").is_duplicated())
        if doubled.height:
            raise BacktestInputError(
                f"{doubled['symbol'][0]}: two rows of terms (rule: one per symbol)"
            )
        for name, (least, most) in LEAST_MOST.items():
            if name in self.table.columns:
                value = pl.col(name).cast(pl.Float64)
                bad = self.table.filter(~value.is_between(least, most).fill_null(True))
                if bad.height:
                    row = bad.row(0, named=True)
                    raise BacktestInputError(
                        f"{row['symbol']}: {name} {row[name]} (rule: from {least:g} to {most:g})"
                    )

    def column(self, name: str, symbols: Sequence[str]) -> Float:
        """Values in the order of `symbols`, NaN where there is none; empty without the column."""
        if name not in self.table.columns:
            return np.empty(0)
        given = dict(self.table.select("symbol", pl.col(name).cast(pl.Float64)).iter_rows())
        values = [given.get(symbol) for symbol in symbols]
        out = np.array([np.nan if value is None else value for value in values], np.float64)
        return out if np.isfinite(out).any() else np.empty(0)
