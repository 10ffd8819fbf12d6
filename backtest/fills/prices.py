"""Bars as the price matrices a simulation walks. Knows bars and delistings, nothing of forecasts.

Legend: T bars of the venue (every instant at which some symbol has a bar), N symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from backtest.fills.costs import Costs
from backtest.fills.inputs import Inputs
from backtest.fills.rules import Rules
from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Time = npt.NDArray[np.datetime64]

BAR_COLUMNS = (
    "symbol",
    "timestamp",
    "session",
    "close_utc",
    "open",
    "high",
    "low",
    "close",
    "volume",
)
"""All a backtest reads of a bar."""
VOLATILITY_WINDOW = 20
LEAST_RETURNS = 5
"""A volatility from fewer returns is no estimate."""


@dataclass(frozen=True)
class PriceTable:
    """Bars on the venue's axis; NaN where a symbol has no bar."""

    symbols: tuple[str, ...]
    close_utc_T: Time
    """Close instants in UTC, datetime64[us]; the axis forecasts are placed on."""
    labels_T: Time
    """Exchange-local bar labels, for people."""
    sessions_T: Time
    open_TN: Float
    high_TN: Float
    low_TN: Float
    close_TN: Float
    volume_TN: Float
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
    laid = {name: np.full(shape, np.nan) for name in ("open", "high", "low", "close", "volume")}
    for name, matrix in laid.items():
        matrix[rows, columns] = chosen[name].to_numpy()
    close_TN = laid["close"]

    last_row_N = np.zeros(len(symbols), np.int64)
    np.maximum.at(last_row_N, columns, rows)
    session_number_T = np.unique(sessions_T, return_inverse=True)[1]
    delisted_N = session_number_T[-1] - session_number_T[last_row_N] > max_gap_sessions
    silent_too_long_N = session_number_T[last_row_N] + max_gap_sessions + 1
    settle_row_N = np.where(delisted_N, np.searchsorted(session_number_T, silent_too_long_N), -1)
    last_close_N = close_TN[last_row_N, np.arange(len(symbols))]
    settle_price_N = np.where(delisted_N, last_close_N * recovery, np.nan)

    mark_TN = forward_filled(close_TN)
    for column in np.flatnonzero(delisted_N):
        mark_TN[settle_row_N[column] :, column] = settle_price_N[column]
    return PriceTable(
        symbols=tuple(symbols),
        close_utc_T=close_utc_T,
        labels_T=axis["timestamp"].to_numpy(),
        sessions_T=sessions_T,
        open_TN=laid["open"],
        high_TN=laid["high"],
        low_TN=laid["low"],
        close_TN=close_TN,
        volume_TN=laid["volume"],
        mark_TN=mark_TN,
        settle_row_N=settle_row_N,
        settle_price_N=settle_price_N,
    )


def forward_filled(value_TN: Float) -> Float:
    """The last value known at each row; NaN before the first."""
    known_TN = np.where(np.isfinite(value_TN), np.arange(len(value_TN))[:, None], 0)
    np.maximum.accumulate(known_TN, axis=0, out=known_TN)
    return np.take_along_axis(value_TN, known_TN, axis=0)


def kernel_inputs(
    prices: PriceTable,
    costs: Costs,
    rules: Rules,
    *,
    actions: pl.DataFrame | None = None,
    factor_TN: Float | None = None,
) -> Inputs:
    """What the kernels read of a price table under these costs and rules.

    actions: corporate actions of *raw* prices, one row each: symbol, session, split (new shares per
    old one, 1 for none), dividend (cash per new share, 0 for none); they happen before the first
    bar of the session. Leave them away where prices are adjusted.
    factor_TN: adjusted / raw price, shape (T, N) or (1, N), so that lots are of raw shares.
    """
    n = len(prices.symbols)
    unread = np.full((1, 1), np.nan)
    fill_TN = {"open": prices.open_TN, "close": prices.close_TN}.get(rules.fill)
    if fill_TN is None:
        fill_TN = (prices.open_TN + prices.high_TN + prices.low_TN + prices.close_TN) / 4
    payouts = np.argsort(prices.settle_row_N, kind="stable")
    payouts = payouts[prices.settle_row_N[payouts] >= 0]
    acted = _action_rows(actions, prices)
    return Inputs(
        fill_TN=fill_TN,
        low_TN=prices.low_TN if rules.inside_bar else unread,
        high_TN=prices.high_TN if rules.inside_bar else unread,
        volume_TN=prices.volume_TN if rules.participation or costs.impact else unread,
        sigma_TN=bar_volatility(prices.mark_TN) if costs.needs_volatility else unread,
        factor_TN=np.ones((1, n)) if factor_TN is None else factor_TN,
        mark_TN=prices.mark_TN,
        session_T=np.unique(prices.sessions_T, return_inverse=True)[1].astype(np.int64),
        settle_row_N=prices.settle_row_N,
        settle_price_N=prices.settle_price_N,
        payout_row_S=prices.settle_row_N[payouts],
        payout_column_S=payouts.astype(np.int64),
        action_row_A=acted["row"].to_numpy(),
        action_column_A=acted["column"].to_numpy(),
        split_A=acted["split"].to_numpy(),
        dividend_A=acted["dividend"].to_numpy(),
    )


def _action_rows(actions: pl.DataFrame | None, prices: PriceTable) -> pl.DataFrame:
    schema = {"row": pl.Int64, "column": pl.Int64, "split": pl.Float64, "dividend": pl.Float64}
    if actions is None:
        return pl.DataFrame(schema=schema)
    known = set(prices.symbols)
    rows = []
    for action in actions.sort("session", "symbol").iter_rows(named=True):
        split, dividend = action["split"], action["dividend"]
        if not (split > 0 and np.isfinite(split) and dividend >= 0 and np.isfinite(dividend)):
            raise BacktestInputError(
                f"{action['symbol']}: action of {action['session']} has split {split}, dividend "
                f"{dividend} (rule: split > 0, dividend >= 0)"
            )
        row = int(np.searchsorted(prices.sessions_T, np.datetime64(action["session"], "D")))
        if action["symbol"] in known and row < len(prices.sessions_T):
            rows.append((row, prices.column(action["symbol"]), float(split), float(dividend)))
    return pl.DataFrame(rows, schema=schema, orient="row").sort("row", maintain_order=True)


@njit(cache=True, nogil=True)
def bar_volatility(mark_TN: Float, window: int = VOLATILITY_WINDOW) -> Float:
    """Volatility of one bar as known before it: row t reads marks up to t − 1 only.

    Root mean square of the last `window` log returns; NaN with fewer than `LEAST_RETURNS`. A plain
    sum over the window, so that earlier history cannot change its last bits.
    """
    n_bars, n = mark_TN.shape
    out = np.full((n_bars, n), np.nan)
    for t in range(LEAST_RETURNS + 1, n_bars):
        for c in range(n):
            total, count = 0.0, 0
            for i in range(max(1, t - window), t):
                before, after = mark_TN[i - 1, c], mark_TN[i, c]
                if before > 0 and after > 0:
                    total += np.log(after / before) ** 2
                    count += 1
            if count >= LEAST_RETURNS:
                out[t, c] = np.sqrt(total / count)
    return out


def _check(chosen: pl.DataFrame, symbols: Sequence[str]) -> None:
    known = set(chosen["symbol"].unique())
    unknown = [symbol for symbol in symbols if symbol not in known]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise BacktestInputError(
            f"scores name {', '.join(unknown[:3])}{more}, of which the store holds no bar. "
            "Backtest with the store they were made from."
        )
    doubled = chosen.filter(chosen.select("symbol", "close_utc").is_duplicated())
    if doubled.height:
        bar = doubled.row(0, named=True)
        raise BacktestInputError(
            f"{bar['symbol']}: two bars at {bar['timestamp']} (rule: unique timestamp). Import "
            "them through 'candlecast data import', which quarantines such rows."
        )
    for price in ("open", "high", "low", "close"):
        bad = chosen.filter(~(pl.col(price).is_finite() & (pl.col(price) > 0)).fill_null(False))
        if bad.height:
            bar = bad.row(0, named=True)
            raise BacktestInputError(
                f"{bar['symbol']}: bar {bar['timestamp']} has {price} {bar[price]} (rule: price > "
                "0). Import it through 'candlecast data import', which quarantines such rows."
            )
