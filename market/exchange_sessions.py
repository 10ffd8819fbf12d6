"""Which days and hours a venue trades, and by which names it goes. Knows exchange_calendars.

Legend: S sessions of a calendar. Opens and closes are UTC without time zone, datetime64[us].
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from market.errors import ConfigError
from market.spec import ALWAYS_OPEN, DAILY, StoreSpec

TimeArray = npt.NDArray[np.datetime64]

_DAY = np.timedelta64(1, "D")

_ALIASES = {
    "XNSE": "XBOM", "NSE": "XBOM",
    "XSHE": "XSHG", "SZSE": "XSHG", "BJSE": "XSHG", "XBEI": "XSHG", "XSSC": "XSHG", "XSEC": "XSHG",
    "XNGS": "XNYS", "XNMS": "XNYS", "XNCM": "XNYS", "IEXG": "XNYS", "AMEX": "XNYS",
    "XCBO": "XNYS", "EDGX": "XNYS", "BATY": "XNYS", "NYSEARCA": "XNYS", "XOTC": "XNYS",
    "XETRA": "XETR", "GETTEX": "XFRA", "TRADEGATE": "XFRA", "XGAT": "XFRA", "XMUN": "XFRA",
    "TSE": "XTKS", "XJPX": "XTKS",
    "TWSE": "XTAI", "ROCO": "XTAI", "TPEX": "XTAI",
    "KRX": "XKRX", "XKOS": "XKRX", "KOSPI": "XKRX", "KOSDAQ": "XKRX",
    "SGX": "XSES", "IDX": "XIDX", "SET": "XBKK", "KLSE": "XKLS", "PSE": "XPHS",
    "MOEX": "XMOS", "MISX": "XMOS", "B3": "BVMF", "XBSP": "BVMF", "BMV": "XMEX",
    "MTAA": "XMIL", "BME": "XMAD", "XVTX": "XSWX", "TADAWUL": "XSAU", "JSE": "XJSE",
    "CBOE": "XCBF", "GLBX": "CMES", "XCME": "CMES", "XCBT": "CMES", "XCEC": "CMES", "XNYM": "CMES",
    "CRYPTO": ALWAYS_OPEN, "BINANCE": ALWAYS_OPEN, "COINBASE": ALWAYS_OPEN, "KRAKEN": ALWAYS_OPEN,
    "BYBIT": ALWAYS_OPEN, "OKX": ALWAYS_OPEN, "24X7": ALWAYS_OPEN,
    "FOREX": "24/5", "FX": "24/5",
}  # fmt: skip
"""Names that exchange_calendars does not know, with the code whose calendar they keep."""


@dataclass(frozen=True, eq=False)
class Sessions:
    """A stretch of one venue's calendar."""

    tz: str
    weekmask: str
    usual_closes: tuple[tuple[np.datetime64, np.timedelta64], ...]
    """From which date (inclusive) which local time of day is the usual close; oldest first."""
    dates_S: TimeArray
    opens_S: TimeArray
    closes_S: TimeArray
    break_starts_S: TimeArray
    break_ends_S: TimeArray


def canonical_venue(name: str) -> str:
    """The calendar code of a venue's name or ISO market code: NYSE gives XNYS, XNSE gives XBOM.

    Raises ConfigError for unknown ones.
    """
    wanted = name.strip().upper()
    wanted = _ALIASES.get(wanted, wanted)
    if wanted == ALWAYS_OPEN:
        return ALWAYS_OPEN
    import exchange_calendars as xc

    known = {code.upper(): code for code in xc.get_calendar_names(include_aliases=True)}
    code = known.get(wanted)
    if code is None:
        near = difflib.get_close_matches(name.upper(), known, n=3) or ["XNYS", "XLON", "XSHG"]
        raise ConfigError(
            f"venue={name!r} is not a calendar of exchange_calendars; close names are "
            f"{', '.join(near)}. Markets that never close are 24/7; leave --venue out where the "
            "exchange has no calendar"
        )
    return str(xc.resolve_alias(code))


def venue_tz(venue: str) -> str:
    """The IANA time zone of a known venue."""
    return "UTC" if venue == ALWAYS_OPEN else venue_sessions(venue, 2020, 2020).tz


def sessions_per_year(venue: str | None) -> float | None:
    """Sessions of 2015 to 2024 per year; 365 where it never closes, None without a calendar."""
    if venue is None or venue == ALWAYS_OPEN:
        return None if venue is None else 365.0
    days_S = venue_sessions(venue, 2015, 2024).dates_S
    years = float((days_S[-1] - days_S[0]) / np.timedelta64(1, "D") / 365.25)
    return round(len(days_S) / years, 1)


def bars_per_year(spec: StoreSpec) -> float:
    """Bars in a year: the calendar's sessions of 2015 to 2024 per year × bars in a usual session.

    24/7 counts every step of 365.25 days, an unknown venue 252 sessions. Raises ConfigError for
    intraday bars of an unknown venue, which has no usual session.
    """
    steps_a_day = _DAY / spec.step
    if spec.venue == ALWAYS_OPEN:
        return float(365.25 * steps_a_day)
    if spec.venue is None:
        if not spec.daily:
            raise ConfigError(
                f"{spec}: how many {spec.freq} bars a year has is not known without a venue; name "
                "one at import, or give --periods-per-year"
            )
        return 252.0
    sessions = sessions_per_year(spec.venue) or 252.0
    if spec.freq == DAILY:
        return sessions
    calendar = venue_sessions(spec.venue, 2015, 2024)
    breaks_S = np.where(
        np.isnat(calendar.break_starts_S),
        np.timedelta64(0, "us"),
        calendar.break_ends_S - calendar.break_starts_S,
    )
    open_S = calendar.closes_S - calendar.opens_S - breaks_S
    return float(sessions * np.median(np.ceil(open_S / spec.step)))


@lru_cache(maxsize=64)
def venue_sessions(venue: str, first_year: int, last_year: int) -> Sessions:
    """The calendar over whole years, as far as its records reach."""
    import warnings

    with warnings.catch_warnings():
        # exchange_calendars uses what newer pandas deprecates; its users can do nothing about it.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _load_sessions(venue, first_year, last_year)


def _load_sessions(venue: str, first_year: int, last_year: int) -> Sessions:
    import exchange_calendars as xc

    template = xc.get_calendar(venue)
    start, end = f"{first_year}-01-01", f"{last_year}-12-31"
    if template.bound_min() is not None:
        start = max(start, str(template.bound_min().date()))
    if template.bound_max() is not None:
        end = min(end, str(template.bound_max().date()))
    # Where nothing is recorded for those years, any stretch serves for the usual hours.
    calendar = xc.get_calendar(venue, start=start, end=end) if start < end else template

    def naive(column: Any) -> TimeArray:
        return column.dt.tz_localize(None).to_numpy().astype("datetime64[us]")  # type: ignore[no-any-return]

    usual = tuple(
        (
            np.datetime64("0001-01-01" if since is None else str(since.date()), "D"),
            np.timedelta64((time.hour * 60 + time.minute) * 60_000_000, "us"),
        )
        for since, time in calendar.close_times
    )
    return Sessions(
        tz=str(calendar.tz),
        weekmask=calendar.weekmask,
        usual_closes=usual,
        dates_S=calendar.sessions.to_numpy().astype("datetime64[D]"),
        opens_S=naive(calendar.opens),
        closes_S=naive(calendar.closes),
        break_starts_S=naive(calendar.break_starts),
        break_ends_S=naive(calendar.break_ends),
    )
