"""Splits, dividends and funding on the bar axis, and marks restated for them. Knows arrays alone.

Legend: T bars, N symbols, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Time = npt.NDArray[np.datetime64]


def action_rows(
    actions: pl.DataFrame, symbols: Sequence[str], sessions_T: Time, close_utc_T: Time
) -> tuple[Int, Int, Float, Float, Float]:
    """(row, column, split, dividend, funding) of the actions of `symbols`, sorted by row.

    See `PriceTable.with_actions`. Actions after the last bar are left out, as are those on or
    before the first: nothing was held yet.
    """
    for name in ("symbol", "session"):
        if name not in actions.columns:
            raise BacktestInputError(
                f"actions lack the column {name}; found {', '.join(actions.columns)}"
            )
    for name, nothing in (("split", 1.0), ("dividend", 0.0), ("funding", 0.0)):
        given = pl.col(name).cast(pl.Float64) if name in actions.columns else pl.lit(None)
        actions = actions.with_columns(given.fill_null(nothing).cast(pl.Float64).alias(name))
    split, dividend, funding = pl.col("split"), pl.col("dividend"), pl.col("funding")
    fine = (split > 0) & split.is_finite() & (dividend >= 0) & dividend.is_finite()
    bad = actions.filter(~(fine & funding.is_finite()))
    if bad.height:
        row = bad.sort("session", "symbol").row(0, named=True)
        raise BacktestInputError(
            f"{row['symbol']}: action of {row['session']} has split {row['split']}, dividend "
            f"{row['dividend']}, funding {row['funding']} (rule: split > 0, dividend >= 0)"
        )
    column = {symbol: i for i, symbol in enumerate(symbols)}
    chosen = actions.filter(pl.col("symbol").is_in(list(column))).sort(
        "session", "symbol", maintain_order=True
    )
    if "close_utc" in chosen.columns:
        row_A = np.searchsorted(
            close_utc_T, chosen["close_utc"].to_numpy().astype("datetime64[us]")
        )
    else:
        row_A = np.searchsorted(sessions_T, chosen["session"].to_numpy().astype("datetime64[D]"))
    column_A = np.array([column[symbol] for symbol in chosen["symbol"]], np.int64)
    order = np.argsort(row_A, kind="stable")
    order = order[(row_A[order] > 0) & (row_A[order] < len(sessions_T))]
    values = (chosen[name].to_numpy()[order] for name in ("split", "dividend", "funding"))
    return (row_A[order].astype(np.int64), column_A[order], *values)  # type: ignore[return-value]


@njit(cache=True, nogil=True)
def adjusted_marks(
    close_TN: Float, mark_TN: Float, settle_row_N: Int, settle_price_N: Float,
    row_A: Int, column_A: Int, split_A: Float, dividend_A: Float,
) -> tuple[Float, Float, Float]:  # fmt: skip
    """(marks, settlement prices, growth) of raw prices under these actions.

    A name that does not trade on the day of an action is carried at (last close) / split −
    dividend until it does. growth: shares that one share has become, each dividend reinvested at
    that theoretical price; row t reads nothing after t.
    """
    mark, settle = mark_TN.copy(), settle_price_N.copy()
    growth = np.ones(mark_TN.shape)
    n_bars = len(mark)
    for a in range(len(row_A)):
        t, c = row_A[a], column_A[a]
        before = mark[t - 1, c]
        if a > 0:
            # Several actions of one name on one bar follow one another.
            for other in range(a - 1, -1, -1):
                if row_A[other] != t:
                    break
                if column_A[other] == c:
                    before = before / split_A[other] - dividend_A[other]
                    break
        ex = before / split_A[a] - dividend_A[a]
        if not ex > 0:
            continue
        growth[t:, c] *= before / ex
        if settle_row_N[c] >= 0 and t >= settle_row_N[c]:
            continue
        u = t
        while u < n_bars and np.isnan(close_TN[u, c]) and u != settle_row_N[c]:
            mark[u, c] = mark[u, c] / split_A[a] - dividend_A[a]
            u += 1
        if settle_row_N[c] >= 0 and u == settle_row_N[c]:
            settle[c] *= ex / before
            mark[u:, c] = settle[c]
    return mark, settle, growth
