"""When the next bars come. Knows calendars through `market`."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np

from candlecast.errors import speaks_python
from market.calendars import future_timestamps as _future
from market.errors import ConfigError
from market.exchange_sessions import canonical_venue, venue_tz
from market.spec import DAILY, Label, StoreSpec, parse_freq

if TYPE_CHECKING:
    import pandas as pd


@speaks_python
def future_timestamps(
    venue: str,
    after: str | date | datetime | np.datetime64,
    n: int,
    freq: str = "1d",
    *,
    label: str | None = None,
) -> pd.DatetimeIndex:
    """Labels of the next n bars after a bar, exchange-local, holidays and half days left out.

    venue: a calendar of exchange_calendars (XNYS, NYSE, XSHG, …), or "24/7". after: label of the
    last known bar, wall time of the exchange; a daily bar's is its date. freq: length of a bar.
    label: whether intraday labels name a bar's start (the usual case) or end.
    Returns a naive DatetimeIndex of length n, as `KronosPredictor.predict` takes it. Raises
    ConfigError for an unknown venue or frequency, and for n below 1.

    >>> cc.future_timestamps("XNYS", "2024-07-03", 3)
    DatetimeIndex(['2024-07-05', '2024-07-08', '2024-07-09'], dtype='datetime64[us]', freq=None)
    """
    import pandas as pd

    if n < 1:
        raise ConfigError(f"n={n}: must be a whole number >= 1")
    code = canonical_venue(venue)
    bar = parse_freq(freq)
    try:
        last = pd.Timestamp(after)
    except ValueError:
        raise ConfigError(
            f"after={after!r} is not a time; write 2024-03-11 or 2024-03-11 15:30"
        ) from None
    tz = venue_tz(code)
    if last.tzinfo is not None:
        last = last.tz_convert(tz).tz_localize(None)
    if bar == DAILY:
        side = Label.SESSION
    else:
        try:
            side = Label.START if label is None else Label(label)
        except ValueError:
            raise ConfigError(f"label={label!r}: must be start or end") from None
    spec = StoreSpec(code, bar, tz, side)
    known = np.array([last.to_datetime64()], dtype="datetime64[us]")
    return pd.DatetimeIndex(_future(spec, known, n))
