"""Closes and future labels: known venues, round the clock, and learned from the series."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import Label, StoreSpec, future_timestamps, sessions_and_closes
from market.calendars import to_local, to_utc
from market.errors import ConfigError
from market.exchange_sessions import canonical_venue
from market.spec import parse_freq

NYSE = StoreSpec("XNYS", "1d", "America/New_York", Label.SESSION)
SHANGHAI_5MIN = StoreSpec("XSHG", "5min", "Asia/Shanghai", Label.END)
MUMBAI_5MIN = StoreSpec("XBOM", "5min", "Asia/Kolkata", Label.START)
UNKNOWN = StoreSpec(None, "1d", "UTC", Label.SESSION)
CRYPTO_HOURLY = StoreSpec("24/7", "1h", "UTC", Label.START)


def times(*texts: str) -> np.ndarray:
    return np.array(texts, "datetime64[us]")


def test_daily_closes_follow_clock_changes_and_early_closes() -> None:
    labels = times("2014-03-07", "2014-03-10", "2014-11-28")
    sessions, closes = sessions_and_closes(NYSE, labels)
    np.testing.assert_array_equal(sessions, labels.astype("datetime64[D]"))
    np.testing.assert_array_equal(
        closes, times("2014-03-07T21:00", "2014-03-10T20:00", "2014-11-28T18:00")
    )


def test_days_the_calendar_does_not_list_close_at_the_usual_time() -> None:
    saturday = sessions_and_closes(NYSE, times("2014-03-08"))[1]
    np.testing.assert_array_equal(saturday, times("2014-03-08T21:00"))
    spec = StoreSpec("XBOM", "1d", "Asia/Kolkata", Label.SESSION)
    before_records = sessions_and_closes(spec, times("1994-11-03", "2024-01-02"))[1]
    np.testing.assert_array_equal(before_records, times("1994-11-03T10:00", "2024-01-02T10:00"))


def test_order_of_labels_does_not_matter() -> None:
    labels = times("2014-11-28", "2014-03-07", "2014-11-28")
    closes = sessions_and_closes(NYSE, labels)[1]
    np.testing.assert_array_equal(
        closes, times("2014-11-28T18:00", "2014-03-07T21:00", "2014-11-28T18:00")
    )


def test_round_the_clock_days_close_at_the_next_midnight() -> None:
    daily = StoreSpec("24/7", "1d", "UTC", Label.SESSION)
    np.testing.assert_array_equal(
        sessions_and_closes(daily, times("2024-02-28", "2024-02-29"))[1],
        times("2024-02-29", "2024-03-01"),
    )


def test_intraday_closes_by_label_side() -> None:
    sessions, closes = sessions_and_closes(MUMBAI_5MIN, times("2024-01-02T15:25"))
    np.testing.assert_array_equal(sessions, [np.datetime64("2024-01-02")])
    np.testing.assert_array_equal(closes, times("2024-01-02T10:00"))
    end = StoreSpec("24/7", "1h", "UTC", Label.END)
    sessions, closes = sessions_and_closes(end, times("2024-01-03T00:00"))
    np.testing.assert_array_equal(sessions, [np.datetime64("2024-01-02")])
    np.testing.assert_array_equal(closes, times("2024-01-03T00:00"))


def test_overnight_sessions_belong_to_the_date_they_are_named_after() -> None:
    spec = StoreSpec("CMES", "1h", "America/Chicago", Label.START)
    sunday_evening = times("2024-03-03T17:00", "2024-03-04T10:00")
    sessions, _ = sessions_and_closes(spec, sunday_evening)
    np.testing.assert_array_equal(sessions, np.array(["2024-03-04"] * 2, "datetime64[D]"))


def test_future_days_skip_holidays_of_known_venues() -> None:
    future = future_timestamps(NYSE, times("2013-11-26", "2013-11-27"), 3)
    np.testing.assert_array_equal(future, times("2013-11-29", "2013-12-02", "2013-12-03"))


def test_future_days_go_on_past_the_calendar_records() -> None:
    spec = StoreSpec("XSHG", "1d", "Asia/Shanghai", Label.SESSION)
    future = future_timestamps(spec, times("2049-12-30"), 3)
    np.testing.assert_array_equal(future, times("2049-12-31", "2050-01-03", "2050-01-04"))


def test_future_intraday_labels_keep_to_sessions_and_breaks() -> None:
    friday = times("2024-06-21T11:20", "2024-06-21T11:25")
    np.testing.assert_array_equal(
        future_timestamps(SHANGHAI_5MIN, friday, 3),
        times("2024-06-21T11:30", "2024-06-21T13:05", "2024-06-21T13:10"),
    )
    last = future_timestamps(SHANGHAI_5MIN, times("2024-06-21T14:55"), 3)
    np.testing.assert_array_equal(
        last, times("2024-06-21T15:00", "2024-06-24T09:35", "2024-06-24T09:40")
    )


def test_extended_hours_are_learned_and_still_end_on_early_closes() -> None:
    spec = StoreSpec("XNYS", "1h", "America/New_York", Label.START)
    days = np.array(["2014-11-24", "2014-11-25", "2014-11-26"], "datetime64[us]")
    hours = np.arange(4, 20) * np.timedelta64(1, "h")
    labels = (days[:, None] + hours).ravel()
    future = future_timestamps(spec, labels, 10)
    np.testing.assert_array_equal(future[:2], times("2014-11-28T04:00", "2014-11-28T05:00"))
    np.testing.assert_array_equal(future[8:], times("2014-11-28T12:00", "2014-12-01T04:00"))


def test_unknown_venues_learn_weekdays_and_hours() -> None:
    sunday_to_thursday = np.arange(np.datetime64("2024-01-07", "us"), np.datetime64("2024-03-01"),
                                   np.timedelta64(1, "D"))  # fmt: skip
    weekday = (sunday_to_thursday.astype("datetime64[D]").astype(int) + 3) % 7
    labels = sunday_to_thursday[~np.isin(weekday, [4, 5])]
    assert labels[-1] == np.datetime64("2024-02-29")
    np.testing.assert_array_equal(
        future_timestamps(UNKNOWN, labels, 2), times("2024-03-03", "2024-03-04")
    )
    np.testing.assert_array_equal(  # two days do not show that Fridays are free
        future_timestamps(UNKNOWN, labels[-2:], 2), times("2024-03-01", "2024-03-04")
    )
    intraday = StoreSpec(None, "1h", "UTC", Label.START)
    hours = np.arange(9, 16) * np.timedelta64(1, "h")
    bars = (labels[:, None] + hours).ravel()
    np.testing.assert_array_equal(
        future_timestamps(intraday, bars[:-1], 3),
        times("2024-02-29T15:00", "2024-03-03T09:00", "2024-03-03T10:00"),
    )


@given(st.integers(1, 200), st.integers(1, 60))
def test_round_the_clock_steps_are_constant(n: int, horizon: int) -> None:
    step = np.timedelta64(1, "h")
    labels = np.datetime64("2022-01-01T00:00", "us") + np.arange(n) * step
    future = future_timestamps(CRYPTO_HOURLY, labels, horizon)
    np.testing.assert_array_equal(future, labels[-1] + step * np.arange(1, horizon + 1))


@given(
    st.sampled_from([NYSE, UNKNOWN, MUMBAI_5MIN, SHANGHAI_5MIN,
                     StoreSpec(None, "5min", "Asia/Kolkata", Label.START)]),
    st.integers(1, 300), st.integers(1, 150),
)  # fmt: skip
def test_futures_increase_and_a_longer_horizon_only_adds(
    spec: StoreSpec, n: int, horizon: int
) -> None:
    first = "2024-01-02" if spec.daily else "2024-01-02T09:35"
    labels = times(first)
    labels = np.concatenate([labels, future_timestamps(spec, labels, n)])
    future = future_timestamps(spec, labels, horizon)
    assert len(future) == horizon
    assert future[0] > labels[-1]
    assert (np.diff(future) > np.timedelta64(0, "us")).all()
    np.testing.assert_array_equal(future_timestamps(spec, labels, horizon + 7)[:horizon], future)


def test_local_and_utc_are_inverse_outside_clock_changes() -> None:
    local = times("2024-03-09T12:00", "2024-03-10T12:00", "2024-11-03T12:00")
    utc = to_utc(local, "America/New_York")
    np.testing.assert_array_equal(
        utc, times("2024-03-09T17:00", "2024-03-10T16:00", "2024-11-03T17:00")
    )
    np.testing.assert_array_equal(to_local(utc, "America/New_York"), local)
    skipped = to_utc(times("2024-03-10T02:30"), "America/New_York")
    np.testing.assert_array_equal(skipped, times("2024-03-10T07:30"))


def test_venue_names() -> None:
    assert canonical_venue("NYSE") == "XNYS"
    assert canonical_venue("xshg") == "XSHG"
    assert canonical_venue("24/7") == "24/7"
    with pytest.raises(ConfigError, match="XNYX"):
        canonical_venue("XNYX")


@pytest.mark.parametrize(
    ("given", "name"),
    [("5m", "5min"), ("60min", "1h"), ("1D", "1d"), ("24h", "1d"), ("240min", "4h")],
)
def test_frequencies_have_one_name(given: str, name: str) -> None:
    assert parse_freq(given) == name
    assert parse_freq(name) == name


@pytest.mark.parametrize("given", ["1w", "7min", "2d", "0min", "daily", ""])
def test_unsupported_frequencies_say_what_is(given: str) -> None:
    with pytest.raises(ConfigError, match="1min, 5min"):
        parse_freq(given)


def test_a_spec_is_checked_when_made() -> None:
    with pytest.raises(ConfigError, match="Mars/Olympus"):
        StoreSpec(None, "1d", "Mars/Olympus", Label.SESSION)
    with pytest.raises(ConfigError, match="daily bars only"):
        StoreSpec(None, "1h", "UTC", Label.SESSION)
