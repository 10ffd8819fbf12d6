"""The time axis of a chart: the exchange's own time, without the hours and days it was closed.

Knows labels of bars and plotly's axes, nothing of what is drawn.

Legend: T bars.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

Time = npt.NDArray[np.datetime64]

MOST_POINTS = 4_000
"""Points of a drawn line; of more bars, the last of each session or of each stretch is drawn."""


def thinned(labels_T: Time) -> npt.NDArray[np.int64]:
    """Which bars to draw: all, or about MOST_POINTS of them, the first and the last among them."""
    n = len(labels_T)
    if n <= MOST_POINTS:
        return np.arange(n)
    day_T = labels_T.astype("datetime64[D]")
    last = np.flatnonzero(np.append(day_T[1:] != day_T[:-1], True))
    if len(last) > MOST_POINTS:
        last = last[:: -(-len(last) // MOST_POINTS)]
    return np.unique(np.concatenate(([0], last, [n - 1])))


def words(labels_T: Time) -> list[str]:
    """The labels as short text: days, or minutes where bars are shorter."""
    stamps = labels_T.astype("datetime64[m]")
    daily = bool((stamps == stamps.astype("datetime64[D]")).all())
    made: list[str] = np.datetime_as_string(stamps, unit="D" if daily else "m").tolist()
    return made


def without_gaps(figure: go.Figure, labels_T: Time) -> go.Figure:
    """Leave out of the axes when the market was closed; intraday bars alone need it."""
    breaks = closed_hours(labels_T)
    return figure.update_xaxes(rangebreaks=breaks) if breaks else figure


def closed_hours(labels_T: Time) -> list[dict[str, Any]]:
    """plotly's rangebreaks of intraday labels: nights, weekends and the other days without bars.

    Nothing for daily bars, and for a market that is open around the clock.
    """
    minutes = labels_T.astype("datetime64[m]")
    days = minutes.astype("datetime64[D]")
    of_day = (minutes - days).astype(np.int64)
    step = np.diff(minutes).astype(np.int64)
    if len(minutes) < 2 or not of_day.any():
        return []
    bar = float(np.median(step))
    opened, closed = float(of_day.min()), float(of_day.max()) + bar
    every = np.arange(days[0], days[-1] + 1)
    weekend = (every.astype(np.int64) + 3) % 7 >= 5
    there = np.isin(every, days)
    breaks: list[dict[str, Any]] = []
    if closed - opened < 24 * 60 - bar:
        breaks.append({"bounds": [closed / 60, opened / 60], "pattern": "hour"})
    if weekend.any() and not there[weekend].any():
        breaks.append({"bounds": ["sat", "mon"]})
        there |= weekend
    if breaks and not there.all():
        breaks.append({"values": np.datetime_as_string(every[~there], unit="D").tolist()})
    return breaks
