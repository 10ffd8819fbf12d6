"""Scores, weights and groups that people bring, in the forms they bring them."""

from __future__ import annotations

import datetime as dt
import gzip
import itertools
from pathlib import Path

import polars as pl
import pytest

from backtest import BacktestSettings, run_backtest
from backtest.scores.brought import weight_entries
from backtest.scores.own import read_scores, user_scores
from backtest.scores.reading import as_times, read_groups, read_table
from market.errors import CandlecastError
from tests.field.backtest.helper import FREE_FLAT, bars, days, scores

CODES = ("000001", "000002", "600519", "600036")


def store() -> pl.DataFrame:
    return bars({code: [10.0 + i + 0.1 * j for j in range(30)] for i, code in enumerate(CODES)})


def written(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_codes_stay_text(tmp_path: Path) -> None:
    day = [str(d) for d in days(30)]
    lines = [f"{code},{day[i]},{i % 3}" for i in range(5, 25, 5) for code in CODES]
    path = written(tmp_path / "scores.csv", ["symbol,date,score", *lines])
    found = user_scores(read_scores(path), store())
    assert found["symbol"].unique().sort().to_list() == sorted(CODES)
    assert found["as_of_date"].n_unique() == 4


def test_ints_then_floats_are_numbers(tmp_path: Path) -> None:
    day = [str(d) for d in days(30)]
    lines = [f"{c},{d},{v}" for d, v in itertools.product(day[:20], [1]) for c in CODES]
    lines += [f"{c},{d},0.25" for d in day[20:] for c in CODES]
    lines[3] = f"{CODES[3]},{day[0]},"
    path = written(tmp_path / "scores.csv", ["symbol,date,score", *(lines * 1)])
    found = user_scores(read_scores(path), store())
    assert found["score"].dtype == pl.Float64
    assert found["score"].is_nan().sum() == 1


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-17",
        "20240117",
        "2024/01/17",
        "17.01.2024",
        "17-Jan-2024",
        "17/01/2024",
        "1/17/2024",
        "2024.01.17",
        "17-Jan-24",
        "Jan 17, 2024",
        "2024-01-17 00:00:00",
    ],
)
def test_dates_in_the_forms_people_write(text: str) -> None:
    assert as_times(pl.Series([text])).to_list() == [dt.date(2024, 1, 17)]


@pytest.mark.parametrize(
    "value",
    [
        "2024-01-17 15:30:00+05:30",
        "2024-01-17 10:00:00 UTC",
        "2024-01-17T10:00Z",
        1705485600,
        1705485600000,
        "1705485600000",
    ],
)
def test_instants_in_the_forms_programs_write(value: str | int) -> None:
    assert as_times(pl.Series([value])).to_list() == [dt.datetime(2024, 1, 17, 10, tzinfo=dt.UTC)]


@pytest.mark.parametrize(
    "text", ["17.01.2024 10:00", "17/01/2024 10:00:00", "20240117100000", "20240117 100000"]
)
def test_local_times_in_the_forms_people_write(text: str) -> None:
    assert as_times(pl.Series([text])).to_list() == [dt.datetime(2024, 1, 17, 10)]


@pytest.mark.parametrize(
    "content",
    [
        b"Date,Symbol,Score\n{0},000001,1\n{1},000002,0.5\n",
        b",ticker,score\n{0},000001,1\n{1},000002,0.5\n",
        b"date;symbol;score\n{0};000001;1\n{1};000002;0,5\n",
        b"date\tsymbol\tscore\n{0}\t000001\t1\n{1}\t000002\t0.5\n",
        b'\xef\xbb\xbfdate, symbol, score\r\n{0}, "000001", 1\r\n{1}, 000002, 5e-1\r\n',
        b"date,symbol,score\n{0},000001,100%\n{1},000002,50%\n{1},600519,NA\n",
    ],
    ids=["capitals", "pandas", "semicolons", "tabs", "blanks", "percent"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_tables_as_programs_write_them(tmp_path: Path, content: bytes, packed: bool) -> None:
    for i, day in enumerate((days(30)[5], days(30)[10])):
        content = content.replace(f"{{{i}}}".encode(), str(day).encode())
    path = tmp_path / ("scores.csv.gz" if packed else "scores.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    found = user_scores(read_scores(path), store())
    assert found["symbol"].to_list()[:2] == ["000001", "000002"]
    assert found["score"].to_list()[:2] == [1.0, 0.5]
    assert found["score"].is_nan().sum() == found.height - 2


def test_wide_weights_may_be_of_tickers_that_look_like_words(tmp_path: Path) -> None:
    names = ("T", "LOW", "NA", "TRUE", "000001")
    frame = bars({name: [10.0 + 0.1 * j for j in range(30)] for name in names})
    lines = ["," + ",".join(names), f"{days(30)[5]},20%,20%,20%,20%,"]
    own = read_table(written(tmp_path / "weights.csv", lines), "weights")
    found = weight_entries(own, frame, "error")
    assert sorted(found["symbol"]) == sorted(names[:4])
    assert found["score"].to_list() == [0.2] * 4


def test_dates_that_could_be_two_days_are_refused() -> None:
    with pytest.raises(CandlecastError, match="is not a date"):
        as_times(pl.Series(["01/02/2024"]))
    assert as_times(pl.Series([20240117])).to_list() == [dt.date(2024, 1, 17)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("000001,2024-01-10,abc", "000001: score of 2024-01-10 is 'abc'"),
        ("000001,someday,1", "'someday' is not a date"),
        ("999999,2024-01-10,1", "999999: score of 2024-01-10, but the store holds no bar of it"),
        ("1,2024-01-10,1", "it holds 000001: write codes as text"),
        ("000001,2024-01-10,inf", "rule: a number"),
        (",2024-01-10,1", "row 1: has no symbol"),
        ("000001,2024-01-10", "rule: one field per column"),
        ("000001,2024-01-13,1", "no session of the store closes then"),
    ],
)
def test_every_error_is_one_line(tmp_path: Path, line: str, words: str) -> None:
    path = written(tmp_path / "scores.csv", ["symbol,date,score", line])
    with pytest.raises(CandlecastError, match=words) as caught:
        user_scores(read_scores(path), store())
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_table_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    path.write_bytes(b"nothing")
    with pytest.raises(CandlecastError, match="not a table of score"):
        read_scores(path)


def test_groups_keep_their_codes(tmp_path: Path) -> None:
    path = written(tmp_path / "groups.csv", ["symbol,group", "000001,1", "600519,2"])
    assert read_groups(path) == {"000001": "1", "600519": "2"}


def test_month_ends_roll_back() -> None:
    frame = bars({"A": [10.0] * 60, "B": [10.0] * 60})
    own = scores([(dt.date(2024, 3, 31), "A", 1.0), (dt.date(2024, 3, 31), "B", 0.0)])
    found = user_scores(
        own.head(0).vstack(own),
        bars({"A": [1.0] * 70}, days(70)).vstack(bars({"B": [1.0] * 70}, days(70))),
        on_closed="previous",
    )
    assert found["as_of_date"].unique().to_list() == [dt.date(2024, 3, 29)]
    with pytest.raises(CandlecastError, match="--on-closed previous or next"):
        user_scores(own, frame)


def five_minutes() -> pl.DataFrame:
    clock = [
        dt.datetime(2024, 1, day, 9, 15) + dt.timedelta(minutes=5 * i)
        for day in (2, 3)
        for i in range(75)
    ]
    return bars({"A": [100 + 0.1 * i for i in range(150)], "B": [50.0] * 150}, clock)


def intraday(minutes: list[int], zone: str | None, **more: str) -> list[dt.datetime]:
    """Fill times of alternating choices of A and B made at these minutes after 10:00."""
    stamps = [dt.datetime(2024, 1, 2, 10) + dt.timedelta(minutes=m) for m in minutes]
    own = pl.DataFrame(
        {
            "timestamp": [at for at in stamps for _ in "AB"],
            "symbol": list("AB") * len(stamps),
            "score": [float((i + j) % 2 == 0) for i in range(len(stamps)) for j in range(2)],
        }
    )
    if zone:
        own = own.with_columns(pl.col("timestamp").dt.replace_time_zone(zone))
    settings = BacktestSettings(k=1, **FREE_FLAT, **more)
    made = run_backtest(five_minutes(), None, settings, scores=own)
    return made.strategy.orders["timestamp"].unique().sort().to_list()


def test_intraday_scores_keep_their_instant() -> None:
    at = dt.datetime(2024, 1, 2, 10)
    assert intraday([0], "UTC") == [at], "known at the close of 09:55, filled at the open of 10:00"
    assert intraday([0], None) == [at + dt.timedelta(minutes=5)], "the bar labelled 10:00"
    assert intraday([0, 30], "UTC") == [at, at + dt.timedelta(minutes=30)]


def test_an_instant_between_closes_is_refused_or_waits() -> None:
    with pytest.raises(CandlecastError, match="no session of the store closes then"):
        intraday([2], "UTC")
    with pytest.raises(CandlecastError, match="lies within a bar"):
        intraday([2], "UTC", on_closed="previous")
    assert intraday([2], "UTC", on_closed="next") == [dt.datetime(2024, 1, 2, 10, 5)]
