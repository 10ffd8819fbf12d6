"""When bars close, and when the next ones will come. Knows venues' sessions; no bars, no files.

Known venues follow exchange_calendars, 24/7 markets a constant step, and unknown venues what their
own labels show (weekdays seen, labels per day). Nothing here looks beyond the labels it is given.

Legend: N labels, H horizon, S sessions of a calendar. Times are datetime64[us] without time zone:
labels are exchange-local, opens and closes are UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import cast
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from market.closings import unannounced
from market.errors import ForecastInputError
from market.exchange_sessions import Sessions, venue_sessions
from market.spec import ALWAYS_OPEN, Label, StoreSpec

TimeArray = npt.NDArray[np.datetime64]

_DAY = np.timedelta64(1, "D")
_RECENT_SESSIONS = 20
"""How many recent days of labels speak for the daily pattern."""
_RECENT_LABELS = 5000
_ON_GRID = 0.9
"""Share of recent labels that must lie on the calendar's own grid for it to be used."""


def to_utc(local_N: TimeArray, tz: str) -> TimeArray:
    """Local wall times as UTC. Of an hour that occurs twice the first is meant; a wall time that a
    clock change skips is read with the offset before the change."""
    import polars as pl

    local = pl.Series(local_N.astype("datetime64[us]"))
    zoned = local.dt.replace_time_zone(tz, ambiguous="earliest", non_existent="null")
    if zoned.null_count():
        hour = pl.duration(hours=1)
        earlier = pl.select(local - hour).to_series()
        shifted = earlier.dt.replace_time_zone(tz, ambiguous="earliest", non_existent="null")
        zoned = zoned.fill_null(pl.select(shifted + hour).to_series())
    utc = zoned.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return cast(TimeArray, utc.to_numpy())


def to_local(utc_N: TimeArray, tz: str) -> TimeArray:
    """UTC instants as local wall times."""
    import polars as pl

    utc = pl.Series(utc_N.astype("datetime64[us]")).dt.replace_time_zone("UTC")
    local = utc.dt.convert_time_zone(tz).dt.replace_time_zone(None)
    return cast(TimeArray, local.to_numpy())


def sessions_and_closes(spec: StoreSpec, timestamps_N: TimeArray) -> tuple[TimeArray, TimeArray]:
    """Session date (datetime64[D]) and UTC close (datetime64[us]) of each bar, from its label.

    Daily bars close with their venue's session; on a day the calendar does not list (a special
    session, or before its records begin) at the venue's usual close; at unknown venues, and at
    24/7, at the end of the local day. Intraday bars close at their label (label end) or one bar
    length after it (label start); bars outside regular hours belong to their local date.
    """
    labels_U, inverse_N = np.unique(timestamps_N.astype("datetime64[us]"), return_inverse=True)
    if not len(labels_U):
        return labels_U.astype("datetime64[D]"), labels_U
    if spec.daily:
        sessions_U, closes_U = _daily_closes(spec, labels_U)
    else:
        back = spec.step if spec.label is Label.END else np.timedelta64(0, "us")
        starts_U = cast(TimeArray, labels_U - back)
        opens_U = to_utc(starts_U, spec.tz)
        closes_U = opens_U + spec.step
        sessions_U = starts_U.astype("datetime64[D]")
        if spec.venue not in (None, ALWAYS_OPEN):
            calendar = _around(spec, labels_U)
            at_U = np.searchsorted(calendar.closes_S, opens_U, side="right")
            at_U = np.minimum(at_U, len(calendar.dates_S) - 1)
            inside_U = (calendar.opens_S[at_U] <= opens_U) & (opens_U < calendar.closes_S[at_U])
            sessions_U = np.where(inside_U, calendar.dates_S[at_U], sessions_U)
    return sessions_U[inverse_N], closes_U[inverse_N]


def future_timestamps(spec: StoreSpec, timestamps_N: TimeArray, horizon: int) -> TimeArray:
    """Labels of the next `horizon` bars after the last of timestamps_N, exchange-local.

    timestamps_N: the labels of one series known so far, increasing, at least one; more of them
    (some weeks) let unknown venues be learned better. Holidays are known at known venues only.
    Returns datetime64[us], shape (horizon,). Raises ForecastInputError without a past label.
    """
    if not len(timestamps_N):
        raise ForecastInputError("future timestamps need at least one past label")
    labels_N = timestamps_N[-_RECENT_LABELS:].astype("datetime64[us]")
    if spec.venue == ALWAYS_OPEN:
        steps_H = spec.step * np.arange(1, horizon + 1)
        return cast(TimeArray, labels_N[-1] + steps_H)
    if spec.daily:
        session = _session_of_daily_label(spec, labels_N[-1:])[0]
        days_H = _next_days(spec, labels_N, session, horizon)
        return cast(TimeArray, days_H.astype("datetime64[us]") + (labels_N[-1] - session))
    if spec.venue is not None and _on_grid(spec, labels_N):
        return _future_on_grid(spec, labels_N[-1], horizon)
    return _future_from_pattern(spec, labels_N, horizon)


def _daily_closes(spec: StoreSpec, labels_U: TimeArray) -> tuple[TimeArray, TimeArray]:
    sessions_U = _session_of_daily_label(spec, labels_U)
    if spec.venue is None or spec.venue == ALWAYS_OPEN:
        if spec.label is Label.SESSION:
            return sessions_U, to_utc(sessions_U + _DAY, spec.tz)
        starts_U = labels_U - _DAY if spec.label is Label.END else labels_U
        return sessions_U, to_utc(starts_U + _DAY, spec.tz)
    calendar = _around(spec, labels_U)
    at_U = np.minimum(np.searchsorted(calendar.dates_S, sessions_U), len(calendar.dates_S) - 1)
    listed_U = calendar.dates_S[at_U] == sessions_U
    from_dates = np.array([start for start, _ in calendar.usual_closes])
    times = np.array([time for _, time in calendar.usual_closes])
    usual_U = times[np.searchsorted(from_dates, sessions_U, side="right") - 1]
    return sessions_U, np.where(
        listed_U, calendar.closes_S[at_U], to_utc(sessions_U + usual_U, calendar.tz)
    )


def _session_of_daily_label(spec: StoreSpec, labels: TimeArray) -> TimeArray:
    """The date a daily label names; a label at the end of its day may be the next midnight."""
    if spec.label is Label.END:
        labels = labels - np.timedelta64(1, "us")
    return labels.astype("datetime64[D]")


# Known venues


def _around(spec: StoreSpec, labels: TimeArray) -> Sessions:
    """The venue's calendar over the years the labels span."""
    assert spec.venue is not None
    years = labels[[0, -1]].astype("datetime64[Y]").astype(int) + 1970
    return venue_sessions(spec.venue, int(years[0]), int(years[1]))


def _next_sessions(
    venue: str, session: np.datetime64, n: int, known: np.datetime64 | None = None
) -> TimeArray:
    """The n sessions after a date, as they were expected at the close of `known` (the date itself
    without): one that was called off later is among them. Past the calendar's records, its usual
    weekdays."""
    year = int(session.astype("datetime64[Y]").astype(int)) + 1970
    calendar = venue_sessions(venue, year, year + 1 + n // 200)
    expected = np.union1d(calendar.dates_S, unannounced(venue, session if known is None else known))
    after = expected[expected > session][:n]
    if len(after) < n:
        last = after[-1] if len(after) else session
        more = np.arange(1, n - len(after) + 1)
        extra = np.busday_offset(last, more, roll="backward", weekmask=calendar.weekmask)
        after = np.concatenate([after, extra])
    return after


@lru_cache(maxsize=8192)
def _session_labels(spec: StoreSpec, session: np.datetime64) -> TimeArray:
    """Labels of every bar of one session by the calendar's hours, breaks left out; empty where
    the date is not a session."""
    assert spec.venue is not None
    year = int(session.astype("datetime64[Y]").astype(int)) + 1970
    calendar = venue_sessions(spec.venue, year, year)
    at = int(np.searchsorted(calendar.dates_S, session))
    if at == len(calendar.dates_S) or calendar.dates_S[at] != session:
        return np.empty(0, "datetime64[us]")
    edges = [calendar.opens_S[at], calendar.closes_S[at]]
    if not np.isnat(calendar.break_starts_S[at]):
        edges[1:1] = [calendar.break_starts_S[at], calendar.break_ends_S[at]]
    labels = []
    for opens, closes in zip(edges[::2], edges[1::2], strict=True):
        starts = np.arange(opens, closes, spec.step)
        ends = np.minimum(starts + spec.step, closes)
        labels.append(ends if spec.label is Label.END else starts)
    return to_local(np.concatenate(labels), spec.tz)


def _expected_labels(spec: StoreSpec, session: np.datetime64) -> TimeArray:
    """Labels of a session's bars; one that was called off has the hours of the session before."""
    labels = _session_labels(spec, session)
    for back in range(1, 8):
        if len(labels):
            break
        labels = _session_labels(spec, session - back * _DAY) + back * _DAY
    return labels


def _on_grid(spec: StoreSpec, labels_N: TimeArray) -> bool:
    """Whether the series' recent labels are those of the venue's regular hours."""
    recent = labels_N[-200:]
    days = np.unique(recent.astype("datetime64[D]"))
    around = np.unique(np.concatenate([days - _DAY, days, days + _DAY]))
    grid = np.concatenate([_session_labels(spec, day) for day in around])
    return bool(np.isin(recent, grid).mean() >= _ON_GRID)


def _future_on_grid(spec: StoreSpec, last: np.datetime64, horizon: int) -> TimeArray:
    assert spec.venue is not None
    day = last.astype("datetime64[D]")
    found: list[TimeArray] = []
    missing = horizon
    hours = np.array([last])
    # Looked at from two days before: a session can begin on the evening before its date.
    for session in _next_sessions(spec.venue, day - 2 * _DAY, horizon + 3, known=day):
        labels = _expected_labels(spec, session)
        hours = labels if len(labels) else hours
        future = labels[labels > last][:missing]
        found.append(future)
        missing -= len(future)
        if not missing:
            return np.concatenate(found)
    # Past the calendar's records: go on with the last recorded session's hours.
    return np.concatenate([*found, _future_from_pattern(spec, hours, missing)])


# What the labels themselves show


def _next_days(
    spec: StoreSpec, labels_N: TimeArray, day: np.datetime64, n: int
) -> npt.NDArray[np.datetime64]:
    """The n trading days after a day: the venue's sessions, or weekdays the labels have shown."""
    if spec.venue is not None:
        return _next_sessions(spec.venue, day, n)
    return np.busday_offset(
        day, np.arange(1, n + 1), roll="backward", weekmask=_weekdays_seen(labels_N)
    )


def _weekdays_seen(labels_N: TimeArray) -> list[bool]:
    """Which weekdays (Monday first) trade; a rare special session does not make a trading day."""
    days = np.unique(labels_N.astype("datetime64[D]"))[-260:]
    counts = np.bincount((days.astype(np.int64) + 3) % 7, minlength=7)
    if len(days) < 10:  # two weeks at least before the absence of a weekday means anything
        return [bool(day < 5 or counts[day]) for day in range(7)]
    return [bool(count >= 0.1 * counts.max()) for count in counts]


def _future_from_pattern(spec: StoreSpec, labels_N: TimeArray, horizon: int) -> TimeArray:
    """Continue with the times of day that most recent days showed."""
    pattern = _times_of_day(spec, labels_N)
    last = labels_N[-1]
    day = last.astype("datetime64[D]")
    days = np.concatenate(
        [[day], _next_days(spec, labels_N, day, 1 + horizon // len(pattern) + 20)]
    )
    futures: list[TimeArray] = []
    missing = horizon
    for date in days:
        labels = date.astype("datetime64[us]") + pattern
        labels = labels[_before_early_close(spec, date, labels) & (labels > last)][:missing]
        futures.append(labels)
        missing -= len(labels)
        if not missing:
            break
    return np.concatenate(futures)


def _times_of_day(spec: StoreSpec, labels_N: TimeArray) -> npt.NDArray[np.timedelta64]:
    """Times of day present on at least half of the recent whole days, increasing."""
    days_N = labels_N.astype("datetime64[D]")
    times_N = (labels_N - days_N).astype("timedelta64[us]")
    days = np.unique(days_N)
    if len(days) == 1 and spec.venue is None:  # one day does not show when the next one begins
        phase = times_N[0] % spec.step
        every = np.arange(phase, _DAY.astype("timedelta64[us]"), spec.step)
        return cast("npt.NDArray[np.timedelta64]", every)
    whole = days[1:-1] if len(days) > 2 else days
    recent_N = np.isin(days_N, whole[-_RECENT_SESSIONS:])
    times, counts = np.unique(times_N[recent_N], return_counts=True)
    usual = counts * 2 >= min(len(whole), _RECENT_SESSIONS)
    return cast("npt.NDArray[np.timedelta64]", times[usual])


def _before_early_close(
    spec: StoreSpec, day: np.datetime64, labels: TimeArray
) -> npt.NDArray[np.bool_]:
    """Which labels still come on a day on which the venue closes early; all of them on others."""
    everything = np.ones(len(labels), bool)
    if spec.venue is None:
        return everything
    year = int(day.astype("datetime64[Y]").astype(int)) + 1970
    calendar = venue_sessions(spec.venue, year, year)
    at = int(np.searchsorted(calendar.dates_S, day))
    if at == len(calendar.dates_S) or calendar.dates_S[at] != day:
        return everything
    since = max(start for start, _ in calendar.usual_closes if start <= day)
    usual = day + dict(calendar.usual_closes)[since]
    closes = to_local(calendar.closes_S[at : at + 1], calendar.tz)[0]
    if closes >= usual:
        return everything
    starts = labels - spec.step if spec.label is Label.END else labels
    local_close = to_local(calendar.closes_S[at : at + 1], spec.tz)[0]
    comes: npt.NDArray[np.bool_] = starts < local_close
    return comes


def utc_datetime(moment: np.datetime64) -> datetime:
    """A naive UTC datetime64 as a datetime with time zone UTC."""
    value: datetime = moment.astype("datetime64[us]").item()
    return value.replace(tzinfo=UTC)


def local_to_utc(moment: datetime, tz: str) -> datetime:
    """A moment as UTC; one without time zone is wall time in tz."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(tz))
    return moment.astimezone(UTC)


def session_hours(spec: StoreSpec, sessions: TimeArray) -> tuple[TimeArray, TimeArray]:
    """Opens and closes, exchange-local, of those dates (sorted) that the venue's calendar lists."""
    calendar = _around(spec, sessions)
    listed_S = np.isin(calendar.dates_S, sessions)
    opens, closes = calendar.opens_S[listed_S], calendar.closes_S[listed_S]
    return to_local(opens, spec.tz), to_local(closes, spec.tz)
