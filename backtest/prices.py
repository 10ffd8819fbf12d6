"""Bars as the price matrices a simulation walks. Knows bars and delistings, nothing of forecasts.

Legend: T bars of the venue (every instant at which some symbol has a bar), N symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Time = npt.NDArray[np.datetime64]

BAR_COLUMNS = ("symbol", "timestamp", "session", "close_utc", "open", "close")
"""All a backtest reads of a bar."""


@dataclass(frozen=True)
class PriceTable:
    """Opens and closes on the venue's bar axis; NaN where a symbol has no bar."""

    symbols: tuple[str, ...]
    close_utc_T: Time
    """Close instants in UTC, datetime64[us]; the axis forecasts are placed on."""
    labels_T: Time
    """Exchange-local bar labels, for people."""
    sessions_T: Time
    open_TN: Float
    close_TN: Float
    mark_TN: Float
    """Last known close; the settlement price once delisted; NaN before the first bar."""
    settle_row_N: Int
    """Row at which a holder of a delisted name is paid out; -1 where the name is alive."""
    settle_price_N: Float
    """What is paid per share then: last close * recovery; NaN where the name is alive."""

    def column(self, symbol: str) -> int:
        return int(np.searchsorted(np.array(self.symbols), symbol))

    def rows_at(self, close_utc: Time) -> Int:
        """Rows of the given close instants; -1 where the venue has no bar closing then."""
        at = np.searchsorted(self.close_utc_T, close_utc)
        found = self.close_utc_T[np.minimum(at, len(self.close_utc_T) - 1)] == close_utc
        return np.where(found, at, -1).astype(np.int64)


def price_table(
    bars: pl.DataFrame, symbols: Sequence[str], *, recovery: float, max_gap_sessions: int
) -> PriceTable:
    """Lay the bars of `symbols` on the axis of all bars given.

    A symbol that stays silent to the end of *all* bars given, and for more than
    `max_gap_sessions` sessions, counts as delisted: its holders get last close × `recovery` on the
    first bar by which it has been silent that long. Bars cut short before then carry it at its
    last close, so cutting them changes nothing earlier. A long suspension at their end looks like
    a delisting; one that ends within them does not.

    Raises BacktestInputError for missing columns, unknown symbols, doubled bars and prices that
    are not positive numbers.
    """
    missing = [name for name in BAR_COLUMNS if name not in bars.columns]
    if missing:
        raise BacktestInputError(
            f"bars lack the columns {', '.join(missing)}; found {', '.join(bars.columns)}"
        )
    axis = (
        bars.group_by("close_utc")
        .agg(pl.col("timestamp").min(), pl.col("session").min())
        .sort("close_utc")
    )
    index = pl.DataFrame(
        {"symbol": list(symbols), "column": range(len(symbols))},
        schema={"symbol": pl.String, "column": pl.Int64},
    )
    chosen = bars.select(BAR_COLUMNS).join(index, on="symbol", how="inner")
    _check(chosen, symbols)

    close_utc_T = axis["close_utc"].to_numpy()
    sessions_T = axis["session"].to_numpy().astype("datetime64[D]")
    shape = (len(close_utc_T), len(symbols))
    rows = np.searchsorted(close_utc_T, chosen["close_utc"].to_numpy())
    columns = chosen["column"].to_numpy()
    open_TN, close_TN = np.full(shape, np.nan), np.full(shape, np.nan)
    open_TN[rows, columns] = chosen["open"].to_numpy()
    close_TN[rows, columns] = chosen["close"].to_numpy()

    last_row_N = np.zeros(len(symbols), np.int64)
    np.maximum.at(last_row_N, columns, rows)
    session_number_T = np.unique(sessions_T, return_inverse=True)[1]
    delisted_N = session_number_T[-1] - session_number_T[last_row_N] > max_gap_sessions
    silent_too_long_N = session_number_T[last_row_N] + max_gap_sessions + 1
    settle_row_N = np.where(delisted_N, np.searchsorted(session_number_T, silent_too_long_N), -1)
    last_close_N = close_TN[last_row_N, np.arange(len(symbols))]
    settle_price_N = np.where(delisted_N, last_close_N * recovery, np.nan)

    known_TN = np.where(np.isfinite(close_TN), np.arange(shape[0])[:, None], 0)
    np.maximum.accumulate(known_TN, axis=0, out=known_TN)
    mark_TN = np.take_along_axis(close_TN, known_TN, axis=0)
    for column in np.flatnonzero(delisted_N):
        mark_TN[settle_row_N[column] :, column] = settle_price_N[column]
    return PriceTable(
        symbols=tuple(symbols),
        close_utc_T=close_utc_T,
        labels_T=axis["timestamp"].to_numpy(),
        sessions_T=sessions_T,
        open_TN=open_TN,
        close_TN=close_TN,
        mark_TN=mark_TN,
        settle_row_N=settle_row_N,
        settle_price_N=settle_price_N,
    )


def _check(chosen: pl.DataFrame, symbols: Sequence[str]) -> None:
    known = set(chosen["symbol"].unique())
    unknown = [symbol for symbol in symbols if symbol not in known]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise BacktestInputError(
            f"forecasts name {', '.join(unknown[:3])}{more}, of which the store holds no bar. "
            "Backtest with the store the forecasts were made from."
        )
    doubled = chosen.filter(chosen.select("symbol", "close_utc").is_duplicated())
    if doubled.height:
        bar = doubled.row(0, named=True)
        raise BacktestInputError(
            f"{bar['symbol']}: two bars at {bar['timestamp']} (rule: unique timestamp). Import "
            "them through 'candlecast data import', which quarantines such rows."
        )
    for price in ("open", "close"):
        bad = chosen.filter(~(pl.col(price).is_finite() & (pl.col(price) > 0)).fill_null(False))
        if bad.height:
            bar = bad.row(0, named=True)
            raise BacktestInputError(
                f"{bar['symbol']}: bar {bar['timestamp']} has {price} {bar[price]} (rule: price > "
                "0). Import it through 'candlecast data import', which quarantines such rows."
            )
