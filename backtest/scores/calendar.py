"""Which of the dates that have scores are traded. Knows sessions, nothing of scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from market.closings import unannounced

Int = npt.NDArray[np.int64]


def rebalance_rows(
    sessions: npt.NDArray[np.datetime64], row_D: Int, every: str | int, venue: str | None = None
) -> Int:
    """Those decision rows that a calendar keeps: each, weekly, monthly, or every n-th.

    weekly and monthly keep the last decision of each ISO week and month that `row_D` reaches. The
    last week or month may be cut short by the end of the data, and is then decided at its last row.
    Where the venue is known, a decision after which a session of the same period was expected, and
    then called off, is none of these: nobody could know that it was the last.
    """
    if isinstance(every, int):
        return row_D[::every]
    if every == "each":
        return row_D
    day_D = sessions[row_D].astype("datetime64[D]")
    key_D = _periods(day_D, every)
    last_D = key_D[1:] != key_D[:-1]
    for d in np.flatnonzero(last_D):
        called_off = unannounced(venue, day_D[d])
        last_D[d] = not np.isin(_periods(called_off, every), key_D[d]).any()
    kept_D: Int = row_D[np.append(last_D, True)]
    return kept_D


def _periods(days: npt.NDArray[np.datetime64], every: str) -> Int:
    """The ISO week or the month of each day, as numbers that rise with time."""
    if every == "weekly":
        # 1970-01-01 was a Thursday: days + 3 puts Mondays at multiples of 7.
        return (days.astype(np.int64) + 3) // 7
    return days.astype("datetime64[M]").astype(np.int64)
