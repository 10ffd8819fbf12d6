"""Sessions as they were expected: an unplanned closing appears once it is announced."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from backtest.scores.calendar import rebalance_rows
from market.calendars import future_timestamps
from market.lake.asof import range_closes
from market.spec import Label, StoreSpec

DAILY = StoreSpec(venue="XNYS", freq="1d", tz="America/New_York", label=Label.SESSION)
HOURLY = StoreSpec(venue="XNYS", freq="1h", tz="America/New_York", label=Label.START)


def days_before(last: str) -> np.ndarray[tuple[int], np.dtype[np.datetime64]]:
    end = np.datetime64(last)
    return np.arange(end - 30, end + 1)[np.is_busday(np.arange(end - 30, end + 1))]


@pytest.mark.parametrize(
    ("as_of", "closing", "expected"),
    [
        ("2001-09-10", "2001-09-11", True),
        ("2001-09-10", "2001-09-14", True),
        ("2012-10-26", "2012-10-29", True),
        ("2012-10-26", "2012-10-30", True),
        ("2024-12-27", "2025-01-09", True),
        ("2024-12-30", "2025-01-09", False),
        ("2025-01-08", "2025-01-09", False),
        ("2006-12-27", "2007-01-02", True),
        ("2006-12-28", "2007-01-02", False),
        ("2018-11-30", "2018-12-05", True),
        ("2018-12-03", "2018-12-05", False),
    ],
)
def test_a_closing_is_a_session_until_it_is_announced(
    as_of: str, closing: str, expected: bool
) -> None:
    labels = days_before(as_of).astype("datetime64[us]")
    coming = future_timestamps(DAILY, labels, 20).astype("datetime64[D]")
    assert (np.datetime64(closing) in coming) is expected
    assert len(np.unique(coming)) == 20


def test_planned_holidays_stay_known() -> None:
    labels = days_before("2024-12-20").astype("datetime64[us]")
    coming = future_timestamps(DAILY, labels, 10).astype("datetime64[D]").astype(str).tolist()
    assert "2024-12-25" not in coming
    assert "2025-01-01" not in coming


def test_bars_of_a_session_that_was_called_off_have_its_regular_hours() -> None:
    days = days_before("2012-10-26")[-6:].astype("datetime64[us]")
    hours = np.arange(7) * np.timedelta64(1, "h") + np.timedelta64(570, "m")
    labels = (days[:, None] + hours).reshape(-1)
    coming = future_timestamps(HOURLY, labels, 21)
    assert np.unique(coming.astype("datetime64[D]")).astype(str).tolist() == [
        "2012-10-29", "2012-10-30", "2012-10-31",
    ]  # fmt: skip
    assert (coming[:7] - coming[0]).tolist() == (hours - hours[0]).tolist()


def closes(days: list[date]) -> pl.DataFrame:
    return pl.DataFrame({"session": days}).with_columns(
        close_utc=pl.col("session").cast(pl.Datetime("us", "UTC")) + pl.duration(hours=21)
    )


def test_a_week_that_was_cut_short_has_no_last_session_in_hindsight() -> None:
    """On Monday 10 September 2001 four more sessions of the week were expected."""
    days = [date(2001, 9, day) for day in (4, 5, 6, 7, 10, 17, 18, 19, 20, 21)]
    found = range_closes("2001-09-01:2001-09-30:weekly", closes(days), DAILY, "store")
    assert [each.session.day for each in found] == [7, 21]
    early = [day for day in days if day.day <= 10]
    found = range_closes("2001-09-01:2001-09-30:weekly", closes(early), DAILY, "store")
    assert [each.session.day for each in found] == [7], "later bars change nothing"


def test_nor_has_it_a_rebalance() -> None:
    days = np.array([f"2001-09-{day:02d}" for day in (6, 7, 10, 17, 21, 24)], dtype="datetime64[D]")
    rows = np.arange(len(days))
    assert rebalance_rows(days, rows, "weekly", "XNYS").tolist() == [1, 4, 5]
    assert rebalance_rows(days, rows, "weekly").tolist() == [1, 2, 4, 5], "venue unknown"
