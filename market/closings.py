"""Closings that nobody had planned, and since when they were known. Knows dates; no calendars.

exchange_calendars records what came to pass. Who stood before such a day expected a session like
any other, so that a forecast made then must label it: to leave it out would be hindsight. Each day
in here is one on which a regular session was called off, with the date (exchange-local) by whose
close the exchange had said so; in doubt the later date.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

DateArray = npt.NDArray[np.datetime64]

_NEW_YORK = {
    "1963-11-25": "1963-11-23",  # funeral of President Kennedy
    "1968-04-09": "1968-04-08",  # funeral of Martin Luther King
    "1969-02-10": "1969-02-10",  # snow
    "1969-03-31": "1969-03-29",  # funeral of President Eisenhower
    "1972-12-28": "1972-12-27",  # funeral of President Truman
    "1973-01-25": "1973-01-23",  # funeral of President Johnson
    "1977-07-14": "1977-07-14",  # power cut
    "1985-09-27": "1985-09-27",  # hurricane Gloria
    "1994-04-27": "1994-04-25",  # funeral of President Nixon
    "2001-09-11": "2001-09-11",  # attacks
    "2001-09-12": "2001-09-11",
    "2001-09-13": "2001-09-12",
    "2001-09-14": "2001-09-13",
    "2004-06-11": "2004-06-07",  # funeral of President Reagan
    "2007-01-02": "2006-12-28",  # funeral of President Ford
    "2012-10-29": "2012-10-28",  # hurricane Sandy
    "2012-10-30": "2012-10-29",
    "2018-12-05": "2018-12-01",  # funeral of President Bush
    "2025-01-09": "2024-12-30",  # funeral of President Carter
}
_LONDON = {"2022-09-19": "2022-09-10"}  # funeral of Queen Elizabeth II
_SHANGHAI = {"2020-01-31": "2020-01-27"}  # epidemic: the new year's holidays were extended
_SYDNEY = {"2022-09-22": "2022-09-12"}  # mourning for Queen Elizabeth II
_TORONTO = {"2001-09-11": "2001-09-11", "2001-09-12": "2001-09-11"}
_TYPHOONS = {  # called off on the evening before, or the same morning
    "XHKG": ("2008-08-06", "2008-08-22", "2016-08-02", "2016-10-21", "2017-08-23", "2020-10-13",
             "2021-10-13", "2023-07-17", "2023-09-01"),
    "XTAI": ("2013-08-21", "2014-07-23", "2015-07-10", "2015-09-29", "2016-07-08", "2016-09-27",
             "2016-09-28", "2019-08-09", "2019-09-30", "2023-08-03", "2024-07-24", "2024-07-25",
             "2024-10-02", "2024-10-03", "2024-10-31"),
}  # fmt: skip
_CLOSINGS = {
    **dict.fromkeys(("XNYS", "XCBF", "CMES", "IEPA"), _NEW_YORK),
    "XLON": _LONDON,
    "XSHG": _SHANGHAI,
    "XASX": _SYDNEY,
    "XTSE": _TORONTO,
    **{venue: dict(zip(days, days, strict=True)) for venue, days in _TYPHOONS.items()},
}


@lru_cache(maxsize=64)
def _of(venue: str | None) -> tuple[DateArray, DateArray]:
    known = _CLOSINGS.get(venue or "", {})
    return (
        np.array(list(known), dtype="datetime64[D]"),
        np.array(list(known.values()), dtype="datetime64[D]"),
    )


def unannounced(venue: str | None, day: np.datetime64) -> DateArray:
    """Days after `day` that at its close were still expected to be sessions, and became none."""
    closed, announced = _of(venue)
    return closed[(closed > day) & (announced > day)]
