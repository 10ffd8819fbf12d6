"""Windows into one symbol's bars, as index ranges. Knows numpy alone: no storage, no model.

A window never sees a bar that closes after its as_of, and a view never copies. Changing or adding
later bars changes no earlier window.

Legend: N bars, L lookback, F features (open, high, low, close, volume, amount), W windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from market.actions.factors import NO_ACTIONS, Factors, SymbolActions, factors, forward_factors
from market.errors import ConfigError, ForecastInputError
from market.fields import PRICES
from market.flags import Flag
from market.spec import AsOf

TimeArray = npt.NDArray[np.datetime64]


@dataclass(frozen=True, eq=False)
class SymbolSeries:
    """Every bar of one symbol, oldest first, in arrays that windows share."""

    symbol: str
    timestamps_N: TimeArray
    """Exchange-local labels, datetime64[us], strictly increasing."""
    sessions_N: TimeArray
    """Session dates, datetime64[D]."""
    close_utc_N: TimeArray
    """Close instants in UTC, datetime64[us]."""
    values_NF: npt.NDArray[np.float64]
    """C-contiguous (N, 6): open, high, low, close, volume, amount."""
    flags_N: npt.NDArray[np.int32]
    """Bits of market.flags.Flag."""
    actions: SymbolActions = NO_ACTIONS
    """Corporate actions of the symbol; values_NF are raw whatever they say."""

    def __len__(self) -> int:
        return len(self.timestamps_N)


class Window(NamedTuple):
    """A range of rows of one series: first inclusive, last exclusive."""

    symbol: str
    as_of: np.datetime64
    """Moment up to which the window may know, UTC, datetime64[us]."""
    first: int
    last: int


def window_at(
    series: SymbolSeries, as_of: AsOf | np.datetime64 | datetime, lookback: int
) -> Window:
    """The last `lookback` bars whose close is at or before as_of.

    as_of: an AsOf, or an instant in UTC (a datetime without time zone counts as UTC).
    Raises ForecastInputError where fewer bars are known by then.
    """
    _require_positive(lookback=lookback)
    moment = _instant(as_of)
    last = known_bars(series, moment)
    if last < lookback:
        raise ForecastInputError(
            f"{series.symbol}: {last} bars are known at {moment} UTC, a lookback of {lookback} "
            "needs more; choose a shorter lookback or a later as_of"
        )
    return Window(series.symbol, moment, last - lookback, last)


def rolling_windows(
    series: SymbolSeries, lookback: int, horizon: int = 0, stride: int = 1
) -> list[Window]:
    """Every window of `lookback` bars that has `horizon` bars after it, `stride` bars apart.

    The first one starts at bar 0; the rows to forecast are [last, last + horizon). Each as_of is
    the close of the window's last bar. There are (N - lookback - horizon) // stride + 1 of them,
    none where the series is shorter than lookback + horizon. Raises ConfigError for a lookback or
    stride below 1, or a horizon below 0.
    """
    _require_positive(lookback=lookback, stride=stride)
    if horizon < 0:
        raise ConfigError(f"horizon={horizon}: must be >= 0")
    closes_N = series.close_utc_N
    return [
        Window(series.symbol, closes_N[first + lookback - 1], first, first + lookback)
        for first in range(0, len(series) - lookback - horizon + 1, stride)
    ]


def view(series: SymbolSeries, window: Window) -> npt.NDArray[np.float64]:
    """The window's bars as traded, shape (L, F), sharing memory with the series."""
    return series.values_NF[window.first : window.last]


def adjusted_view(series: SymbolSeries, window: Window) -> npt.NDArray[np.float64]:
    """The window's bars with prices and volumes divided by the splits in it, shape (L, F).

    They come in the raw unit of the window's last bar; splits not known by its session change
    nothing. Shares memory with the series where there is none.
    """
    raw_LF = view(series, window)
    if not len(series.actions):
        return raw_LF
    sessions_L = series.sessions_N[window.first : window.last]
    last = sessions_L[-1].astype("datetime64[D]")
    return _multiplied(raw_LF, factors(sessions_L, raw_LF[:, 3], series.actions, last, "split"))


def continuous_values(series: SymbolSeries) -> npt.NDArray[np.float64]:
    """All bars in the unit of the first one, splits carried on to the bars after them, (N, F).

    What windows of any length are cut from where only their shape matters, as in training: a later
    split changes no earlier bar. Shares memory with the series where there is no split.
    """
    if not len(series.actions):
        return series.values_NF
    days_N = series.sessions_N.astype("datetime64[D]")
    return _multiplied(series.values_NF, forward_factors(days_N, series.actions))


def _multiplied(raw_LF: npt.NDArray[np.float64], by: Factors) -> npt.NDArray[np.float64]:
    """Bars times factors of prices and of volumes; the same array where all of them are 1."""
    if (by.price_N == 1.0).all():
        return raw_LF
    adjusted_LF = raw_LF.copy()
    adjusted_LF[:, : len(PRICES)] *= by.price_N[:, None]
    adjusted_LF[:, len(PRICES)] *= by.volume_N
    return adjusted_LF


def stack_windows(
    parts: Sequence[tuple[SymbolSeries, Window]], out: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Copies windows of one lookback, adjusted for splits in them, into the first rows of `out`
    and returns those rows.

    out: shape (capacity, L, F), capacity >= len(parts). What it held before is overwritten: one
    array that serves batch after batch costs half as much as fresh memory for each.
    """
    for row, (series, window) in enumerate(parts):
        out[row] = adjusted_view(series, window)
    return out[: len(parts)]


def known_bars(series: SymbolSeries, as_of: AsOf | np.datetime64 | datetime) -> int:
    """How many bars of the series have closed at as_of, inclusive."""
    return int(np.searchsorted(series.close_utc_N, _instant(as_of), side="right"))


def time_features(timestamps: TimeArray) -> npt.NDArray[np.int16]:
    """Minute, hour, weekday (Monday 0), day of month and month of each label, shape (..., 5).

    Taken from the exchange-local label, so that a daily bar is 00:00 whatever its close in UTC.
    """
    minutes = timestamps.astype("datetime64[m]").astype(np.int64)
    days = timestamps.astype("datetime64[D]")
    months = timestamps.astype("datetime64[M]")
    return np.stack(
        [
            minutes % 60,
            minutes // 60 % 24,
            (days.astype(np.int64) + 3) % 7,  # 1970-01-01 was a Thursday
            (days - months.astype("datetime64[D]")).astype(np.int64) + 1,
            months.astype(np.int64) % 12 + 1,
        ],
        axis=-1,
    ).astype(np.int16)


def eligibility(
    series: SymbolSeries,
    as_of: AsOf,
    lookback: int,
    *,
    sessions: TimeArray,
    max_gap_sessions: int = 5,
    allow_suspected_splits: bool = True,
) -> str | None:
    """Why this symbol cannot be forecast at as_of, or None where it can.

    sessions: the history's sessions, sorted, datetime64[D]; those after as_of are not looked at.
    max_gap_sessions: how many sessions in a row may be missing inside the lookback.
    allow_suspected_splits: forecast windows that hold a move like a split that no action explains.
    The text before the colon names the kind of reason: halted, too short, constant prices, gap,
    suspected split.
    """
    last = known_bars(series, as_of)
    if last == 0:
        return f"too short: no bar up to {as_of.session}"
    last_session = series.sessions_N[last - 1]
    if last_session != np.datetime64(as_of.session, "D"):
        return f"halted: last bar {last_session}, before the as_of session {as_of.session}"
    if last < lookback:
        return f"too short: {last} bars up to {as_of.session}, lookback is {lookback}"
    first = last - lookback
    prices = series.values_NF[first:last, : len(PRICES)]
    if (prices == prices[0, 0]).all():
        return f"constant prices: every price of the last {lookback} bars is {prices[0, 0]}"
    own = series.sessions_N[first:last]
    missing = np.diff(np.searchsorted(sessions, own)) - 1
    if missing.size and missing.max() > max_gap_sessions:
        at = int(missing.argmax())
        return (
            f"gap: {missing[at]} sessions missing between {own[at]} and {own[at + 1]}, "
            f"{max_gap_sessions} are allowed"
        )
    if not allow_suspected_splits:
        moves = series.flags_N[first + 1 : last] & int(Flag.SUSPECTED_SPLIT) != 0
        if len(series.actions) and moves.any():  # announced since
            known = series.actions.known(np.datetime64(as_of.session, "D"))
            moves &= ~np.isin(own[1:].astype("datetime64[D]"), known.ex_A)
        if moves.any():
            at = first + 1 + int(np.flatnonzero(moves)[-1])
            close = series.values_NF[:, 3]
            return (
                f"suspected split: close {close[at - 1]:.10g} to {close[at]:.10g} on "
                f"{series.sessions_N[at]}; record it with 'candlecast data actions', or forecast "
                "it with --allow-suspected-splits"
            )
    return None


def _instant(as_of: AsOf | np.datetime64 | datetime) -> np.datetime64:
    if isinstance(as_of, AsOf):
        return as_of.close_us
    if isinstance(as_of, np.datetime64):
        moment: np.datetime64 = as_of.astype("datetime64[us]")
        return moment
    if as_of.tzinfo is not None:
        as_of = as_of.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(as_of, "us")


def _require_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{name}={size}: must be >= 1")
