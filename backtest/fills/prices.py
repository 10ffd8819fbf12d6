"""Bars as the price matrices a simulation walks. Knows bars and delistings, nothing of forecasts.

Legend: T bars of the venue (every instant at which some symbol has a bar), N symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from backtest.fills.actions import action_rows, adjusted_marks
from backtest.fills.costs import Costs
from backtest.fills.inputs import NO_FLOATS, NO_INTS, Inputs
from backtest.fills.rules import Rules
from backtest.fills.terms import Terms
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
"""A volatility from fewer returns is not an estimate."""


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
    """Last known close, restated for splits and dividends since; the settlement price once
    delisted; NaN before the first bar."""
    settle_row_N: Int
    """Row at which a holder of a delisted name is paid out; -1 where the name is alive."""
    settle_price_N: Float
    """What is paid per share then: last close * recovery; NaN where the name is alive."""
    action_row_A: Int = field(default_factory=lambda: NO_INTS)
    """Corporate actions of raw prices, by row: column, new shares per old one, cash per new share,
    and funding (fraction of a position's value that a long pays)."""
    action_column_A: Int = field(default_factory=lambda: NO_INTS)
    split_A: Float = field(default_factory=lambda: NO_FLOATS)
    dividend_A: Float = field(default_factory=lambda: NO_FLOATS)
    funding_A: Float = field(default_factory=lambda: NO_FLOATS)
    growth_TN: Float | None = None
    """Shares that one share has become, dividends reinvested; None: no action."""

    @property
    def total_marks(self) -> Float:
        """Marks with splits and dividends reinvested: what returns are computed from."""
        return self.mark_TN if self.growth_TN is None else self.mark_TN * self.growth_TN

    def with_actions(self, actions: pl.DataFrame) -> Self:
        """The table of raw prices that these actions happen to, marks and settlements restated.

        actions: one row each: symbol, session, split (new shares per old one, 1 for none), dividend
        (cash per new share, 0 for none), perhaps funding; they happen before the first bar of the
        session, or with a column close_utc at that bar. Raises BacktestInputError for values out of
        range.
        """
        rows = action_rows(actions, self.symbols, self.sessions_T, self.close_utc_T)
        row_A, column_A, split_A, dividend_A, funding_A = rows
        mark_TN, settle_N, growth_TN = adjusted_marks(
            self.close_TN, self.mark_TN, self.settle_row_N, self.settle_price_N,
            row_A, column_A, split_A, dividend_A,
        )  # fmt: skip
        return replace(
            self,
            mark_TN=mark_TN,
            settle_price_N=settle_N,
            action_row_A=row_A,
            action_column_A=column_A,
            split_A=split_A,
            dividend_A=dividend_A,
            funding_A=funding_A,
            growth_TN=growth_TN,
        )

    def column(self, symbol: str) -> int:
        return int(np.searchsorted(np.array(self.symbols), symbol))

    def rows_at(self, close_utc: Time) -> Int:
        """Rows of the given close instants; -1 where the venue has no bar closing then."""
        at = np.searchsorted(self.close_utc_T, close_utc)
        found = self.close_utc_T[np.minimum(at, len(self.close_utc_T) - 1)] == close_utc
        return np.where(found, at, -1).astype(np.int64)


def price_table(
    bars: pl.DataFrame,
    symbols: Sequence[str],
    *,
    recovery: float,
    max_gap_sessions: int,
    actions: pl.DataFrame | None = None,
) -> PriceTable:
    """Lay the bars of `symbols` on the axis of all bars given.

    actions: of raw prices, see `PriceTable.with_actions`.

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
    table = PriceTable(
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
    return table if actions is None else table.with_actions(actions)


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
    terms: Terms | None = None,
    bars_per_year: float = 252.0,
) -> Inputs:
    """What the kernels read of a price table under these costs, rules and terms.

    actions: see `PriceTable.with_actions`, where the table does not hold them yet.
    factor_TN: adjusted / raw price, shape (T, N) or (1, N), so that lots and ticks are of raw
    shares and prices.
    """
    if actions is not None:
        prices = prices.with_actions(actions)
    unread = np.full((1, 1), np.nan)
    fill_TN = {"open": prices.open_TN, "close": prices.close_TN}.get(rules.fill)
    if fill_TN is None:
        fill_TN = (prices.open_TN + prices.high_TN + prices.low_TN + prices.close_TN) / 4
    payouts = np.argsort(prices.settle_row_N, kind="stable")
    payouts = payouts[prices.settle_row_N[payouts] >= 0]
    terms = terms or Terms(pl.DataFrame(schema={"symbol": pl.String}))
    thin_T = thin_bars(prices)
    return Inputs(
        fill_TN=fill_TN,
        low_TN=prices.low_TN,
        high_TN=prices.high_TN,
        volume_TN=prices.volume_TN if rules.participation or costs.impact else unread,
        sigma_TN=bar_volatility(known_returns(prices)) if costs.needs_volatility else unread,
        factor_TN=np.ones((1, len(prices.symbols))) if factor_TN is None else factor_TN,
        mark_TN=prices.mark_TN,
        session_T=np.unique(prices.sessions_T, return_inverse=True)[1].astype(np.int64),
        settle_row_N=prices.settle_row_N,
        settle_price_N=prices.settle_price_N,
        payout_row_S=prices.settle_row_N[payouts],
        payout_column_S=payouts.astype(np.int64),
        action_row_A=prices.action_row_A,
        action_column_A=prices.action_column_A,
        split_A=prices.split_A,
        dividend_A=prices.dividend_A,
        funding_A=prices.funding_A if prices.funding_A.any() else NO_FLOATS,
        open_TN=prices.open_TN,
        limit_N=terms.column("limit", prices.symbols),
        rate_N=terms.column("commission_bps", prices.symbols) / 10_000,
        borrow_N=terms.column("borrow_bps", prices.symbols) / 10_000 / bars_per_year,
        thin_T=thin_T if thin_T.any() else thin_T[:0],
    )


THIN_WINDOW = 20


def thin_bars(prices: PriceTable) -> Bool:
    """Bars on which most names do not trade, as known by then: another symbol's stray bar.

    Fewer than half as many names as usual (the median of the bars before) have a bar then; or half
    as many, and neither that weekday nor, of several bars a session, that time of day has been seen
    before. An order that finds no price there waits for the next bar instead of being cancelled.
    """
    count_T = np.isfinite(prices.close_TN).sum(axis=1)
    day_T = prices.labels_T.astype("datetime64[D]")
    clock_T = (prices.labels_T - day_T).astype(np.int64)
    weekday_T = (day_T.astype(np.int64) + 3) % 7
    slot_T = clock_T if len(np.unique(prices.sessions_T)) < len(count_T) else weekday_T
    first_seen: dict[int, int] = {}
    for t, slot in enumerate(slot_T.tolist()):
        first_seen.setdefault(slot, t)
    thin_T = np.zeros(len(count_T), np.bool_)
    if count_T.min(initial=0) == count_T.max(initial=0):
        return thin_T
    for t in range(1, len(count_T)):
        usual = float(np.median(count_T[max(t - THIN_WINDOW, 0) : t]))
        unseen = first_seen[int(slot_T[t])] == t and (t >= 5 or weekday_T[t] >= 5)
        few = 2 * count_T[t] < usual or (2 * count_T[t] == usual and unseen)
        thin_T[t] = few and usual > 1
    return thin_T


def known_returns(prices: PriceTable) -> Float:
    """Simple returns (T, N) from one known close to the next, splits and dividends reinvested.

    NaN on bars without a close, and on those that only repeat the last one (sources fill up so):
    silence is not calm. A return over k bars counts as one of one bar, shrunk by √k.
    """
    total_marks = prices.total_marks
    known_TN = np.isfinite(prices.close_TN)
    flat = prices.high_TN[1:] == prices.low_TN[1:]
    known_TN[1:] &= ~(flat & (prices.close_TN[1:] == prices.mark_TN[:-1]))
    at_TN = np.where(known_TN, np.arange(len(known_TN))[:, None], -1)
    np.maximum.accumulate(at_TN, axis=0, out=at_TN)
    out = np.full(total_marks.shape, np.nan)
    gap_TN = np.arange(1, len(known_TN))[:, None] - at_TN[:-1]
    good = known_TN[1:] & (at_TN[:-1] >= 0)
    change = total_marks[1:] / total_marks[:-1] - 1
    out[1:][good] = change[good] / np.sqrt(gap_TN[good])
    return out


@njit(cache=True, nogil=True)
def bar_volatility(return_TN: Float, window: int = VOLATILITY_WINDOW) -> Float:
    """Volatility of one bar as known before it: row t reads returns up to t − 1 only.

    Root mean square of the known log returns among the last `window` bars; NaN with fewer than
    `LEAST_RETURNS`. A plain sum over the window, so that earlier history cannot change its last
    bits. return_TN: simple returns, NaN where not known.
    """
    n_bars, n = return_TN.shape
    out = np.full((n_bars, n), np.nan)
    for t in range(LEAST_RETURNS + 1, n_bars):
        for c in range(n):
            total, count = 0.0, 0
            for i in range(max(1, t - window), t):
                change = return_TN[i, c]
                if change > -1:
                    total += np.log1p(change) ** 2
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
