"""Turning dates into moments up to which everything is known. Knows session closes; no files.

`closes` is everywhere a frame with one row per session of the history, sorted: session, close_utc.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import pairwise

import numpy as np
import polars as pl

from market.calendars import future_timestamps
from market.closings import unannounced
from market.errors import AsOfError
from market.spec import AsOf, Label, StoreSpec

_RANGE = re.compile(r"(\d{4}-\d\d-\d\d):(\d{4}-\d\d-\d\d)(?::(\w+))?")
_STEPS = ("daily", "weekly", "monthly")


def parse_moment(text: str) -> date | datetime:
    """A date or a moment in ISO form. Raises AsOfError for anything else."""
    cleaned = text.strip()
    try:
        return date.fromisoformat(cleaned)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(cleaned)
    except ValueError:
        raise AsOfError(
            f"as_of {text!r} is not a date; write 2016-06-30, 2016-06-30T15:00, or a range such as "
            "2016-01-01:2016-12-31:weekly"
        ) from None


def is_range(text: str) -> bool:
    return _RANGE.fullmatch(text.strip()) is not None


def session_close(day: date, closes: pl.DataFrame, where: object) -> AsOf:
    """The close of a date's session, or of the last session before it."""
    require_inside(day, closes, where)
    return as_of_row(closes.filter(pl.col("session") <= day).row(-1))


def require_inside(day: date, closes: pl.DataFrame, where: object) -> None:
    """Raise AsOfError unless the history begins at or before the day and ends at or after it."""
    if not closes.height:
        raise AsOfError(f"{where} holds no bars yet; import some first")
    first, last = closes["session"][0], closes["session"][-1]
    if not first <= day <= last:
        raise AsOfError(
            f"as_of {day} is outside the history of {where}, which runs from {first} to {last}"
        )


def range_closes(text: str, closes: pl.DataFrame, spec: StoreSpec, where: object) -> list[AsOf]:
    """The sessions of "START:END:STEP"; see MarketHistory.resolve_as_of_range."""
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise AsOfError(f"as_of {text!r} is not a range; write it as 2016-01-01:2016-12-31:weekly")
    start, end = (parse_moment(part) for part in found.group(1, 2))
    step = found[3] or "daily"
    if step not in _STEPS and not (step.isdigit() and int(step) > 0):
        raise AsOfError(
            f"as_of {text!r}: the step {step!r} is none of {', '.join(_STEPS)}, nor a number of "
            "sessions"
        )
    chosen = closes.filter(pl.col("session").is_between(start, end))
    if not chosen.height:
        if closes.height:
            span = f"the history of {where} runs from {closes['session'][0]} to " + str(
                closes["session"][-1]
            )
        else:
            span = f"{where} holds no bars yet"
        raise AsOfError(f"as_of {text!r}: no session between these dates; {span}")
    if step in ("weekly", "monthly"):
        ends = closes.filter(_period_ends(closes["session"], step, spec))
        chosen = chosen.join(ends.select("session"), on="session", how="semi").sort("session")
        if not chosen.height:
            raise AsOfError(
                f"as_of {text!r}: no {step.removesuffix('ly')} ends between these dates; use daily"
            )
    elif step != "daily":
        chosen = chosen.gather_every(int(step))
    return [as_of_row(row) for row in chosen.iter_rows()]


def as_of_row(row: tuple[date, datetime]) -> AsOf:
    session, close = row
    return AsOf(session, close.astimezone(UTC))


def _period_ends(sessions: pl.Series, step: str, spec: StoreSpec) -> pl.Series:
    """Which sessions are the last of their ISO week or month, as was known at their close.

    The history's last session counts where the next expected one falls into another period, so
    that importing later bars does not change the answer for earlier ones. One after which a session
    of the same period was still expected, and then called off, does not count.
    """
    labels = sessions.cast(pl.Datetime("us")).to_numpy()
    daily = replace(spec, freq="1d", label=Label.SESSION)
    following = future_timestamps(daily, labels, 1)[0].astype("datetime64[D]").item()
    days = [*sessions.to_list(), following]

    def expects_more(day: date) -> bool:
        called_off: list[date] = unannounced(spec.venue, np.datetime64(day)).tolist()
        return any(_period(each, step) == _period(day, step) for each in called_off)

    return pl.Series(
        [
            _period(day, step) != _period(after, step) and not expects_more(day)
            for day, after in pairwise(days)
        ]
    )


def _period(day: date, step: str) -> tuple[int, int]:
    return day.isocalendar()[:2] if step == "weekly" else (day.year, day.month)
