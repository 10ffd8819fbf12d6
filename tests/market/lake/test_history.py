"""The lake: versions, idempotence, conflicts, writers in each other's way, as_of."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from market import (
    BAR_SCHEMA,
    AsOf,
    ImportOptions,
    Label,
    MarketHistory,
    StoreSpec,
    import_files,
    import_frame,
)
from market.errors import AsOfError, StoreError
from market.lake.files import bucket_of, buckets_for
from market.lake.lock import writer_lock
from market.lake.versions import lake_folder, names

MakeBars = Callable[..., pl.DataFrame]
SYMBOLS = ["AAPL", "BRK.B", "BTC/USDT"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def history(store: Path, daily_spec: StoreSpec, make_bars: MakeBars) -> MarketHistory:
    """30 weekdays, 2024-01-02 to 2024-02-12, of three symbols."""
    import_frame(make_bars(), store, daily_spec)
    return MarketHistory.open(store)


def contents(history: MarketHistory) -> pl.DataFrame:
    return history.scan().collect().sort("symbol", "timestamp")


def data_files(store: Path) -> set[Path]:
    return {path for path in store.rglob("*") if path.is_file() and path.name != "LOCK"}


def test_bars_come_back_as_they_went_in(history: MarketHistory, make_bars: MakeBars) -> None:
    bars = contents(history)
    assert bars.schema == BAR_SCHEMA
    given = make_bars().sort("symbol", "timestamp")
    assert bars.select(given.columns).equals(given)
    assert bars["session"].equals(given["timestamp"].dt.date().alias("session"))
    assert bars["close_utc"].dt.hour().unique().to_list() == [21]


def test_odd_symbols_and_summaries(history: MarketHistory) -> None:
    summary = history.symbols()
    assert summary["symbol"].to_list() == SYMBOLS
    assert summary.row(1) == ("BRK.B", 30, date(2024, 1, 2), date(2024, 2, 12))
    only = history.scan(symbols=["BTC/USDT", "none such"]).collect()
    assert only["symbol"].unique().to_list() == ["BTC/USDT"]
    assert len(history.sessions()) == 30
    assert history.sessions(date(2024, 1, 6), date(2024, 1, 9)) == [
        date(2024, 1, 8),
        date(2024, 1, 9),
    ]


def test_buckets_are_the_same_for_ever() -> None:
    assert [bucket_of(symbol) for symbol in SYMBOLS] == [52, 38, 49]
    assert [bucket_of(symbol, 4096) % 64 for symbol in SYMBOLS] == [52, 38, 49]
    assert [buckets_for(n) for n in (0, 4096, 4097, 100_000, 10**6)] == [64, 64, 128, 2048, 4096]


def test_duckdb_and_polars_see_the_same_bars(history: MarketHistory) -> None:
    ours = contents(history)
    theirs = history.sql("SELECT * FROM bars ORDER BY symbol, timestamp")
    assert theirs.equals(ours)
    with pytest.raises(StoreError, match="columns are symbol, timestamp, session"):
        history.sql("SELECT nothing FROM bars")


def test_importing_twice_changes_nothing(
    history: MarketHistory, store: Path, daily_spec: StoreSpec, make_bars: MakeBars
) -> None:
    before = data_files(store)
    report = import_frame(make_bars(), store, daily_spec, source="elsewhere")
    assert report.nothing_new
    assert (report.version, report.new_bars, report.known_bars) == (history.version, 0, 90)
    assert data_files(store) == before


def test_quarantine_is_kept_once(store: Path, daily_spec: StoreSpec, make_bars: MakeBars) -> None:
    bars = make_bars(["A"], n=5)
    bad = bars.with_columns(close=pl.lit(None, pl.Float64))
    twice = pl.concat([bars, bars, bad])
    first = import_frame(twice, store, daily_spec)
    assert first.quarantined == {"finite": 5, "unique timestamp": 5}
    again = import_frame(twice, store, daily_spec, source="renamed")
    assert again.nothing_new
    assert again.known_quarantine == 10
    more = import_frame(pl.concat([twice, bad]), store, daily_spec)
    assert more.quarantined == {"finite": 5}
    assert MarketHistory.open(store).quarantine("A").height == 15
    assert MarketHistory.open(store).quarantine("B").is_empty()


def test_newer_bars_append_and_old_versions_stay(
    history: MarketHistory, store: Path, daily_spec: StoreSpec, make_bars: MakeBars
) -> None:
    old = contents(history)
    report = import_frame(make_bars(n=40), store, daily_spec)
    assert (report.new_bars, report.known_bars) == (30, 90)
    new = MarketHistory.open(store)
    assert contents(new).height == 120
    assert contents(history).equals(old)
    assert contents(MarketHistory.open(store, version=history.version)).equals(old)
    assert new.contents.parent == history.version


def test_many_small_imports_do_not_leave_many_files(
    store: Path, daily_spec: StoreSpec, make_bars: MakeBars
) -> None:
    bars = make_bars(["A"], n=30).sort("timestamp")
    for day in range(30):
        import_frame(bars[day : day + 1], store, daily_spec)
    history = MarketHistory.open(store)
    assert len(history.contents.bars) <= 8
    assert contents(history).select(bars.columns).equals(bars)


@pytest.mark.parametrize("policy", ["keep", "replace"])
def test_conflicts_follow_the_policy(
    history: MarketHistory, store: Path, daily_spec: StoreSpec, make_bars: MakeBars, policy: str
) -> None:
    changed = make_bars().with_columns(
        volume=pl.when(pl.col("symbol") == "AAPL").then(7.0).otherwise("volume")
    )
    newer = pl.concat([changed, make_bars(n=31).group_by("symbol").last().select(changed.columns)])
    before = data_files(store)
    with pytest.raises(StoreError, match=r"30 bars differ .*AAPL 2024-01-02.*--on-conflict keep"):
        import_frame(newer, store, daily_spec)
    assert data_files(store) == before

    report = import_frame(newer, store, daily_spec, on_conflict=policy)
    assert (report.conflicts.height, report.new_bars, report.known_bars) == (30, 3, 60)
    volumes = MarketHistory.open(store).scan(symbols=["AAPL"]).sort("timestamp").collect()["volume"]
    assert (volumes[:30] == 7.0).all() == (policy == "replace")
    assert not (contents(history)["volume"] == 7.0).any()
    assert import_frame(newer, store, daily_spec, on_conflict=policy).nothing_new


def test_one_store_holds_one_kind(
    history: MarketHistory, store: Path, daily_spec: StoreSpec
) -> None:
    assert MarketHistory.create(store, daily_spec) == history
    hourly = StoreSpec("XNYS", "1h", "America/New_York", Label.START)
    with pytest.raises(StoreError, match="choose another --store"):
        MarketHistory.create(store, hourly)


def test_two_writers_exclude_each_other(
    history: MarketHistory, store: Path, daily_spec: StoreSpec, make_bars: MakeBars
) -> None:
    with (
        writer_lock(lake_folder(store)),
        pytest.raises(StoreError, match="another import is writing"),
    ):
        import_frame(make_bars(n=40), store, daily_spec)
    assert MarketHistory.open(store) == history
    assert import_frame(make_bars(n=40), store, daily_spec).new_bars == 30


def test_a_killed_import_leaves_the_previous_version(
    history: MarketHistory, store: Path, daily_spec: StoreSpec, make_bars: MakeBars
) -> None:
    script = f"""
import os, signal, sys
import polars as pl
import market.lake.appending as lake
from market import MarketHistory, import_frame
publish = lake.publish
lake.publish = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
bars = pl.read_parquet(sys.argv[1])
import_frame(bars, {str(store)!r}, MarketHistory.open({str(store)!r}).spec)
"""
    longer = store.parent / "longer.parquet"
    make_bars(n=40).write_parquet(longer)
    before = contents(history)
    killed = subprocess.run(
        [sys.executable, "-c", script, str(longer)], check=False, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    partial = store / "bars" / "bucket=7" / ".x.candlecast-partial"
    partial.parent.mkdir()
    partial.write_bytes(b"half a file")
    assert MarketHistory.open(store).version == history.version
    assert contents(MarketHistory.open(store)).equals(before)
    assert import_frame(make_bars(n=40), store, daily_spec).new_bars == 30
    assert not partial.exists()


def test_a_folder_with_other_files_is_left_alone(
    tmp_path: Path, daily_spec: StoreSpec, make_bars: MakeBars
) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("dear")
    for place in (tmp_path, letter, letter / "store"):
        with pytest.raises(StoreError, match="--store"):
            import_frame(make_bars(), place, daily_spec)
    assert list(tmp_path.iterdir()) == [letter]


def test_the_same_imports_make_the_same_version(
    history: MarketHistory, tmp_path: Path, daily_spec: StoreSpec, make_bars: MakeBars
) -> None:
    shuffled = make_bars().sample(fraction=1.0, shuffle=True, seed=3)
    assert import_frame(shuffled, tmp_path / "other", daily_spec).version == history.version


def test_damage_is_named(history: MarketHistory, store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="candlecast data import FILES --store"):
        MarketHistory.open(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="no version 'abc'"):
        MarketHistory.open(store, version="abc")
    (store / history.contents.bars[0].path).unlink()
    with pytest.raises(StoreError, match="1 of 3 data files are missing"):
        MarketHistory.open(store)


def test_a_log_that_was_changed_is_named(store: Path, history: MarketHistory) -> None:
    log = store / "bars" / "_delta_log" / f"{1:020}.json"
    whole = log.read_text()
    changes = {
        "no JSON": ("{", "{{", "is damaged"),
        "another spec": ("XNYS", "XNYT", "its record does not fit its hash"),
        "an action lost": ('{"add"', '{"addd"', "does not list what was committed"),
        "another bucket": ("bucket=52", "bucket=53", "does not list what was committed"),
        "another time": ("2024-02-12T21:00", "2024-02-13T21:00", "not list what was committed"),
    }
    for n, (what, (old, new, says)) in enumerate(changes.items()):
        elsewhere = store.parent / f"changed-{n}"
        shutil.copytree(store, elsewhere)
        assert old in whole, what
        (elsewhere / log.relative_to(store)).write_text(whole.replace(old, new, 1))
        with pytest.raises(StoreError, match=f"version 1 is damaged.*{says}|{says}"):
            MarketHistory.open(elsewhere)
    newer = whole.replace('\\"format\\": 2', '\\"format\\": 99')
    assert newer != whole
    log.write_text(newer)
    with pytest.raises(StoreError, match=r"store format 99.*update it"):
        MarketHistory.open(store)


def test_other_programs_read_the_bars(history: MarketHistory, store: Path) -> None:
    theirs = pl.scan_delta(str(store / "bars")).drop("bucket").collect()
    assert theirs.sort("symbol", "timestamp").equals(contents(history))


def test_versions_go_by_name_or_number(
    history: MarketHistory, store: Path, daily_spec: StoreSpec, make_bars: MakeBars
) -> None:
    import_frame(make_bars(n=40), store, daily_spec)
    assert [name.split("-")[0] for name in names(lake_folder(store))] == ["1", "2"]
    assert MarketHistory.open(store, version="1") == history
    with pytest.raises(StoreError, match="no version '1-abc'"):
        MarketHistory.open(store, version="1-abc")
    with pytest.raises(StoreError, match="no version '7'; the newest is 2-"):
        MarketHistory.open(store, version="7")


def test_an_import_remembers_the_files_it_read(tmp_path: Path, make_bars: MakeBars) -> None:
    file, store = tmp_path / "bars.csv", tmp_path / "store"
    make_bars().write_csv(file)
    import_files(file, store, ImportOptions(venue="XNYS"))
    told = MarketHistory.open(store).contents.fingerprints
    assert told == {str(file): hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()}


def test_what_a_killed_import_left_in_other_tables_is_never_seen(
    history: MarketHistory, store: Path, daily_spec: StoreSpec, make_bars: MakeBars
) -> None:
    """Killed between the quarantine's commit and that of the bars."""
    root, before = lake_folder(store), history.contents
    bad = make_bars(["A"], n=3).with_columns(close=pl.lit(None, pl.Float64))
    import_frame(bad, store, daily_spec)
    (store / "bars" / "_delta_log" / f"{2:020}.json").unlink()
    assert MarketHistory.open(store) == history
    assert history.quarantine().is_empty()
    other = make_bars(["B"], n=2).with_columns(close=pl.lit(None, pl.Float64))
    assert import_frame(other, store, daily_spec).quarantined == {"finite": 2}
    assert MarketHistory.open(store).quarantine().height == 2
    assert MarketHistory.open(root).contents.bars == before.bars


def test_pickles_small_and_reads_on(history: MarketHistory) -> None:
    packed = pickle.dumps(history)
    assert len(packed) < 1000
    assert pickle.loads(packed).symbols().equals(history.symbols())


def test_an_empty_store_answers(store: Path, daily_spec: StoreSpec) -> None:
    history = MarketHistory.create(store, daily_spec)
    assert history.symbols().is_empty()
    assert history.sql("SELECT count(*) AS n FROM bars")["n"].to_list() == [0]
    assert history.series() == []
    assert history.sessions() == []
    for text in ("2024-01-02", "2024-01-02T10:00", "2024-01-02:2024-01-03:weekly"):
        with pytest.raises(AsOfError, match="no bars yet"):
            history.resolve_as_of_range(text)


def test_series_are_contiguous_and_cut_at_as_of(history: MarketHistory) -> None:
    every = history.series()
    assert [each.symbol for each in every] == SYMBOLS
    as_of = history.resolve_as_of("2024-01-31")
    cut = history.series(["BTC/USDT", "AAPL", "none such"], as_of=as_of.close_utc)
    assert [each.symbol for each in cut] == ["AAPL", "BTC/USDT"]
    for series in cut:
        assert series.values_NF.shape == (22, 6)
        assert series.values_NF.flags.c_contiguous
        assert series.values_NF.flags.writeable
        assert series.sessions_N[-1] == np.datetime64("2024-01-31")
        assert series.close_utc_N[-1] == as_of.close_us
        assert series.timestamps_N.dtype == "datetime64[us]"
    np.testing.assert_array_equal(cut[0].values_NF, every[0].values_NF[:22])


def at(day: date) -> AsOf:
    return AsOf(day, datetime(day.year, day.month, day.day, 21, tzinfo=UTC))


@pytest.mark.parametrize(
    ("value", "day"),
    [
        ("2024-01-31", 31),
        (" 2024-01-27 ", 26),
        (date(2024, 1, 28), 26),
        ("2024-01-31T15:59:59", 30),
        ("2024-01-31T16:00", 31),
        ("2024-01-31T21:00:00Z", 31),
        (datetime(2024, 1, 31, 20, 59, 59, tzinfo=UTC), 30),
    ],
)
def test_as_of_is_the_last_close_by_then(
    history: MarketHistory, value: str | date | datetime, day: int
) -> None:
    assert history.resolve_as_of(value) == at(date(2024, 1, day))


@pytest.mark.parametrize(
    "value",
    ["2024-01-01", "2024-02-13", "2023-12-31T12:00", "2024-02-14T12:00", "2024-01-02T09:00"],
)
def test_as_of_outside_the_history(history: MarketHistory, value: str) -> None:
    with pytest.raises(AsOfError, match=r"outside the history|no bar of"):
        history.resolve_as_of(value)


@pytest.mark.parametrize("text", ["soon", "2024-13-01", "2024-01-01:2024-01-05:hourly",
                                  "2024-01-01:2024-01-05:0", "2025-01-01:2025-02-01"])  # fmt: skip
def test_as_of_that_cannot_be_read(history: MarketHistory, text: str) -> None:
    with pytest.raises(AsOfError, match="as_of"):
        history.resolve_as_of_range(text)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("2024-01-31", ["01-31"]),
        ("2024-01-04:2024-01-09", ["01-04", "01-05", "01-08", "01-09"]),
        ("2024-01-03:2024-01-18:weekly", ["01-05", "01-12"]),
        ("2023-06-01:2024-12-31:monthly", ["01-31"]),
        ("2024-01-25:2025-01-01:weekly", ["01-26", "02-02", "02-09"]),
        ("2024-01-03:2024-01-18:5", ["01-03", "01-10", "01-17"]),
    ],
)
def test_as_of_ranges(history: MarketHistory, text: str, days: list[str]) -> None:
    found = history.resolve_as_of_range(text)
    assert found == [at(date.fromisoformat(f"2024-{day}")) for day in days]


def test_importing_later_bars_changes_no_earlier_as_of(
    history: MarketHistory, store: Path, daily_spec: StoreSpec, make_bars: MakeBars
) -> None:
    text = "2024-01-01:2024-02-12:weekly"
    before = history.resolve_as_of_range(text)
    import_frame(make_bars(n=45), store, daily_spec)
    assert MarketHistory.open(store).resolve_as_of_range(text) == before


def test_a_week_that_ends_in_a_holiday_ends_on_its_last_session(
    store: Path, daily_spec: StoreSpec, make_bars: MakeBars
) -> None:
    holidays = [datetime(2024, 1, 15), datetime(2024, 2, 19), datetime(2024, 3, 29)]
    import_frame(make_bars(n=70).filter(~pl.col("timestamp").is_in(holidays)), store, daily_spec)
    weeks = MarketHistory.open(store).resolve_as_of_range("2024-03-18:2024-04-05:weekly")
    assert [str(week.session) for week in weeks] == ["2024-03-22", "2024-03-28", "2024-04-05"]
    tuesday = MarketHistory.open(store).resolve_as_of("2024-01-15")
    assert str(tuesday.session) == "2024-01-12", "a holiday means the session before it"
