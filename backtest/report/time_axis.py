"""The time axis of a chart: the exchange's own time, without the hours and days it was closed.

Knows labels of bars and plotly's axes, nothing of what is drawn.

Legend: T bars.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

Time = npt.NDArray[np.datetime64]

TICKS = 5
"""Labels of an axis; more do not fit on a telephone."""
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
    """Leave out of the axes when the market was closed; intraday bars alone need it.

    Every label drawn is a category, in order of time, so that each bar is as wide as any other.
    labels_T: of all bars.
    """
    if not closes(labels_T):
        return figure
    drawn = sorted({str(x) for trace in figure.data if trace.x is not None for x in trace.x})
    if not drawn:
        return figure
    for shape in figure.layout.shapes:
        if not str(shape.xref).endswith("domain"):
            shape.update(x0=_nearest(drawn, shape.x0), x1=_nearest(drawn, shape.x1))
    days = sorted({label[:10] for label in drawn})
    starts = [next(x for x in drawn if x[:10] == day) for day in days[:: -(-len(days) // TICKS)]]
    if len(days) < 3:
        starts = drawn[:: -(-len(drawn) // TICKS)]
    return figure.update_xaxes(
        type="category",
        categoryorder="array",
        categoryarray=drawn,
        tickmode="array",
        tickvals=starts,
        ticktext=[_short(x, days) for x in starts],
        tickangle=0,
    )


def _short(label: str, days: list[str]) -> str:
    """The time of day, the day or the month, by how long the axis is."""
    when = datetime.fromisoformat(label)
    form = "%H:%M" if len(days) < 3 else "%d %b" if len(days) < 260 else "%b %Y"
    return when.strftime(form)


def _nearest(drawn: list[str], when: Any) -> str:
    """The last label drawn that is not after an instant, or the first."""
    text = str(np.datetime64(when, "m"))
    return drawn[max(bisect_right(drawn, text) - 1, 0)]


def closes(labels_T: Time) -> bool:
    """Whether these are intraday bars of a market that is not open around the clock."""
    minutes = labels_T.astype("datetime64[m]")
    days = minutes.astype("datetime64[D]")
    of_day = (minutes - days).astype(np.int64)
    if len(minutes) < 2 or not of_day.any():
        return False
    bar = float(np.median(np.diff(minutes).astype(np.int64)))
    longest = float(np.diff(minutes).astype(np.int64).max())
    return float(of_day.max() - of_day.min()) + bar < 24 * 60 - bar or longest > 24 * 60
