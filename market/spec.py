"""What one history lake holds: venue, frequency, time zone, label side. Knows no storage.

One lake holds one venue and one frequency; everything about time follows from its StoreSpec.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

import numpy as np

from market.errors import ConfigError

ALWAYS_OPEN = "24/7"
"""Venue name of markets that never close."""

DAILY = "1d"

_FREQ = re.compile(r"(\d+)\s*(min|m|h|d)")
_UNIT_MINUTES = {"min": 1, "m": 1, "h": 60, "d": 1440}


class Label(StrEnum):
    """Which instant of a bar its timestamp names."""

    START = "start"
    END = "end"
    SESSION = "session"
    """The timestamp names the trading session (a daily bar's date), not an instant."""


def parse_freq(text: str) -> str:
    """The canonical name of a bar length: 5m and 5min give 5min, 60min gives 1h, 24h gives 1d.

    Raises ConfigError for anything that is not whole minutes or hours within a day, or one day.
    """
    found = _FREQ.fullmatch(text.strip().lower())
    minutes = int(found[1]) * _UNIT_MINUTES[found[2]] if found else 0
    if not 0 < minutes <= 1440 or 1440 % minutes:
        raise ConfigError(
            f"freq={text!r}: a bar must be one day (1d) or minutes or hours that divide a day "
            "(1min, 5min, 15min, 1h, 4h)"
        )
    if minutes == 1440:
        return DAILY
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}min"


@dataclass(frozen=True)
class StoreSpec:
    """How the bars of one lake are to be read in time."""

    venue: str | None
    """Code of exchange_calendars, "24/7", or None: unknown, learned from the series."""
    freq: str
    """Length of a bar: 1d, 1h, 5min, ..."""
    tz: str
    """Time zone of the labels, as an IANA name."""
    label: Label
    """Which instant the labels name."""
    price_basis: str = "as given"
    """raw, adjusted, or "as given" where the source does not say; copied into forecasts."""

    def __post_init__(self) -> None:
        if parse_freq(self.freq) != self.freq:
            raise ConfigError(f"freq={self.freq!r}: write it as {parse_freq(self.freq)!r}")
        try:
            ZoneInfo(self.tz)
        except (KeyError, ValueError, OSError):
            raise ConfigError(
                f"tz={self.tz!r} is not a time zone; use an IANA name such as America/New_York"
            ) from None
        if not self.daily and self.label is Label.SESSION:
            raise ConfigError(
                f"label=session fits daily bars only; {self.freq} bars are labelled by start or end"
            )

    @property
    def daily(self) -> bool:
        return self.freq == DAILY

    @property
    def step(self) -> np.timedelta64:
        """Length of a bar in microseconds."""
        found = _FREQ.fullmatch(self.freq)
        assert found is not None
        return np.timedelta64(int(found[1]) * _UNIT_MINUTES[found[2]] * 60_000_000, "us")

    def __str__(self) -> str:
        venue = self.venue or "unknown venue"
        return f"{venue}, {self.freq}, {self.tz}, label {self.label}, prices {self.price_basis}"


@dataclass(frozen=True)
class AsOf:
    """A moment up to which, inclusive, everything is known."""

    session: date
    """Session of the last close at or before the moment."""
    close_utc: datetime
    """That close, with time zone UTC."""

    @property
    def close_us(self) -> np.datetime64:
        """The close as a naive UTC datetime64[us], as the arrays hold it."""
        return np.datetime64(self.close_utc.replace(tzinfo=None), "us")
