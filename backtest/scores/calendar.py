"""Which of the dates that have scores are traded. Knows sessions, nothing of scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int = npt.NDArray[np.int64]


def rebalance_rows(sessions: npt.NDArray[np.datetime64], row_D: Int, every: str | int) -> Int:
    """Those decision rows that a calendar keeps: each, weekly, monthly, or every n-th.

    weekly and monthly keep the last decision of each ISO week and month that `row_D` reaches. The
    last week or month may be cut short by the end of the data, and is then decided at its last row.
    """
    if isinstance(every, int):
        return row_D[::every]
    if every == "each":
        return row_D
    day_D = sessions[row_D].astype("datetime64[D]")
    # 1970-01-01 was a Thursday: days + 3 puts Mondays at multiples of 7.
    week_D = (day_D.astype(np.int64) + 3) // 7
    key_D = week_D if every == "weekly" else day_D.astype("datetime64[M]").astype(np.int64)
    kept_D: Int = row_D[np.append(key_D[1:] != key_D[:-1], True)]
    return kept_D
