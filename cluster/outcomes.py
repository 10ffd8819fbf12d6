"""What became of forecasts: the bars that followed, from the history. Knows no forecast table.

Legend: N windows, H horizon, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from market.fields import FEATURES
from market.lake.history import MarketHistory

CLOSE = FEATURES.index("close")
TimeArray = npt.NDArray[np.datetime64]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Bars that followed each (symbol, as_of), by position: step 1 is the symbol's next bar."""

    values_NHF: npt.NDArray[np.float64]
    """NaN where there was none: not yet, delisted, or a gap longer than allowed."""
    ended_NH: TimeArray
    """Close of each bar, UTC; NaT where there was none."""
    base_N: npt.NDArray[np.float64]
    """The store's own close at as_of; NaN where the symbol has no bar there."""
    base_volume_N: npt.NDArray[np.float64]

    @property
    def log_return_NH(self) -> npt.NDArray[np.float64]:
        """Log return of the close from the close at as_of."""
        with np.errstate(invalid="ignore", divide="ignore"):
            value: npt.NDArray[np.float64] = np.log(
                self.values_NHF[..., CLOSE] / self.base_N[:, None]
            )
        return value


def outcomes(
    history: MarketHistory,
    symbols: npt.NDArray[np.str_] | list[str],
    as_of_N: TimeArray,
    horizon: int,
    *,
    known_by: datetime | None = None,
    max_gap_sessions: int = 5,
) -> Outcomes:
    """The next bars of every (symbol, as_of).

    known_by: only bars that had closed by then (UTC). max_gap_sessions: sessions in a row that may
    be missing; behind a longer gap there is no outcome, as there is no forecast across one.
    """
    names = np.asarray(symbols)
    n = len(names)
    values = np.full((n, horizon, len(FEATURES)), np.nan)
    ended = np.full((n, horizon), np.datetime64("NaT", "us"))
    base, base_volume = np.full(n, np.nan), np.full(n, np.nan)
    if not n:
        return Outcomes(values, ended, base, base_volume)
    first = as_of_N.min().astype("datetime64[D]").item()
    start = max((s for s in history.sessions() if s < first), default=None)
    bars = (
        history.scan(symbols=set(names.tolist()), start=start, as_of=known_by)
        .select("symbol", "session", "close_utc", *FEATURES)
        .sort("symbol", "close_utc")
        .collect()
    )
    sessions = np.array(history.sessions(), dtype="datetime64[D]")
    position = np.searchsorted(sessions, bars["session"].to_numpy())
    close_utc = bars["close_utc"].dt.replace_time_zone(None).to_numpy()
    table = bars.select(FEATURES).to_numpy()
    spans = bars.with_row_index().group_by("symbol").agg(
        pl.col("index").min().alias("first"), pl.len().alias("n")
    )  # fmt: skip
    where = {name: (int(a), int(a) + int(k)) for name, a, k in spans.iter_rows()}
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        if name not in where:
            continue
        begin, end = where[str(name)]
        at = begin + np.searchsorted(close_utc[begin:end], as_of_N[rows], side="right") - 1
        there = (at >= begin) & (close_utc[np.maximum(at, 0)] == as_of_N[rows])
        rows, at = rows[there], at[there]
        base[rows], base_volume[rows] = table[at, CLOSE], table[at, CLOSE + 1]
        steps = at[:, None] + np.arange(1, horizon + 1)
        inside = steps < end
        steps = np.minimum(steps, end - 1)
        gap = np.diff(position[np.concatenate((at[:, None], steps), axis=1)], axis=1) - 1
        known = inside & np.logical_and.accumulate(gap <= max_gap_sessions, axis=1)
        values[rows] = np.where(known[..., None], table[steps], np.nan)
        ended[rows] = np.where(known, close_utc[steps], np.datetime64("NaT", "us"))
    return Outcomes(values, ended, base, base_volume)
