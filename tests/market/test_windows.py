"""Windows are index ranges that share memory and never see a later bar."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import (
    AsOf,
    SymbolSeries,
    eligibility,
    rolling_windows,
    stack_windows,
    time_features,
    view,
    window_at,
)
from market.errors import ConfigError, ForecastInputError

START = np.datetime64("2024-01-01", "D")


def make_series(n: int, seed: int = 0, skip: int = 0, after: int = 0) -> SymbolSeries:
    """n daily bars; `skip` days are left out after the first `after` ones."""
    days = START + np.arange(n + skip)
    sessions = np.delete(days, np.arange(after, after + skip))
    values = np.random.default_rng(seed).uniform(1, 2, (n, 6))
    closes = sessions.astype("datetime64[us]") + np.timedelta64(21, "h")
    labels = sessions.astype("datetime64[us]")
    return SymbolSeries("A", labels, sessions, closes, values, np.zeros(n, np.int32))


def close_of(series: SymbolSeries, row: int) -> AsOf:
    close = series.close_utc_N[row].item().replace(tzinfo=UTC)
    return AsOf(series.sessions_N[row].item(), close)


@given(n=st.integers(0, 40), lookback=st.integers(1, 12), horizon=st.integers(0, 6),
       stride=st.integers(1, 5))  # fmt: skip
def test_rolling_windows_are_all_of_them(n: int, lookback: int, horizon: int, stride: int) -> None:
    series = make_series(n)
    windows = rolling_windows(series, lookback, horizon, stride)
    assert len(windows) == max(0, (n - lookback - horizon) // stride + 1)
    for i, window in enumerate(windows):
        assert (window.first, window.last) == (i * stride, i * stride + lookback)
        assert window.last + horizon <= n
        assert window.as_of == series.close_utc_N[window.last - 1]
        assert np.shares_memory(view(series, window), series.values_NF)
        assert view(series, window).shape == (lookback, 6)


@given(n=st.integers(1, 30), lookback=st.integers(1, 8), counts=st.lists(st.integers(0, 5)))
def test_stacked_batches_hold_their_own_windows(n: int, lookback: int, counts: list[int]) -> None:
    """Batch after batch into one array, of any sizes, from several series."""
    everything = [
        (series, window)
        for series in (make_series(n), make_series(n + 3))
        for window in rolling_windows(series, lookback)
    ]
    held = np.full((5, lookback, 6), np.nan)
    first = 0
    for count in counts:
        part = everything[first : first + count]
        first += count
        stacked = stack_windows(part, held)
        expected = [view(series, window) for series, window in part]
        assert np.shares_memory(stacked, held) or not part
        np.testing.assert_array_equal(stacked, np.reshape(expected, (-1, lookback, 6)))


@given(n=st.integers(5, 40), known=st.integers(1, 40), lookback=st.integers(1, 10),
       seed=st.integers(1, 99))  # fmt: skip
def test_later_bars_change_no_earlier_window(n: int, known: int, lookback: int, seed: int) -> None:
    series, known = make_series(n), min(known, n)
    changed = make_series(n + seed % 7)
    changed.values_NF[known:] = np.random.default_rng(seed).uniform(-1e9, 1e9, (1, 6))
    changed.values_NF[:known] = series.values_NF[:known]
    as_of = close_of(series, known - 1)
    if known < lookback:
        for each in (series, changed):
            with pytest.raises(ForecastInputError, match=f"{known} bars are known"):
                window_at(each, as_of, lookback)
        return
    ours, theirs = window_at(series, as_of, lookback), window_at(changed, as_of, lookback)
    assert ours == theirs
    assert ours.last == known
    np.testing.assert_array_equal(view(series, ours), view(changed, theirs))
    sessions = changed.sessions_N
    assert eligibility(series, as_of, lookback, sessions=sessions) == eligibility(
        changed, as_of, lookback, sessions=sessions
    )
    before = rolling_windows(series, lookback)[: known - lookback + 1]
    assert before == rolling_windows(changed, lookback)[: known - lookback + 1]


def test_as_of_is_inclusive_to_the_microsecond() -> None:
    series = make_series(10)
    close = series.close_utc_N[4]
    assert window_at(series, close, 3).last == 5
    assert window_at(series, close - np.timedelta64(1, "us"), 3).last == 4
    with_zone = datetime.fromisoformat("2024-01-05T22:00:00+01:00")
    assert window_at(series, with_zone, 3).last == 5


@pytest.mark.parametrize("wrong", [{"lookback": 0}, {"stride": 0}, {"horizon": -1}])
def test_sizes_out_of_range_are_named(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        rolling_windows(make_series(10), **{"lookback": 3, **wrong})


@given(st.lists(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)), min_size=1, max_size=8))
def test_time_features_are_those_of_the_calendar(moments: list[datetime]) -> None:
    index = pd.DatetimeIndex(moments)
    expected = np.stack(
        [index.minute, index.hour, index.day_of_week, index.day, index.month], axis=-1
    )
    features = time_features(np.array(moments, "datetime64[us]"))
    np.testing.assert_array_equal(features, expected)
    doubled = time_features(np.array([moments, moments], "datetime64[us]"))
    assert doubled.shape == (2, len(moments), 5)


def test_eligibility_names_the_reason() -> None:
    all_sessions = START + np.arange(60)
    fine = make_series(50)

    def why(series: SymbolSeries, as_of: AsOf, lookback: int = 20, gap: int = 5) -> str | None:
        return eligibility(series, as_of, lookback, sessions=all_sessions, max_gap_sessions=gap)

    at_end = close_of(fine, 49)
    assert why(fine, at_end) is None
    assert str(why(fine, at_end, lookback=51)).startswith("too short: 50 bars")
    early = AsOf(date(2023, 12, 29), datetime(2023, 12, 29, 21, tzinfo=UTC))
    assert str(why(fine, early)).startswith("too short: no bar")
    later = AsOf(date(2024, 2, 23), datetime(2024, 2, 23, 21, tzinfo=UTC))
    assert str(why(fine, later)).startswith("halted: last bar 2024-02-19")

    flat = make_series(50)
    flat.values_NF[:, :4] = 7.0
    assert str(why(flat, at_end)).startswith("constant prices")
    flat.values_NF[45, 3] = 7.5
    assert why(flat, at_end) is None

    gap = make_series(44, skip=6, after=35)
    assert str(why(gap, close_of(gap, 43))).startswith(
        "gap: 6 sessions missing between 2024-02-04 and 2024-02-11"
    )
    assert why(gap, close_of(gap, 43), gap=6) is None
    assert why(gap, close_of(gap, 43), lookback=9) is None
