"""A forecast table under races, ageing and tidying: dates are whole, and versions stay readable."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from market.errors import StoreError
from market.leases import LeaseLostError
from market.table.forecasts import ForecastTable
from market.table.schema import DateRecord, Published, RunRecord
from market.table.vacuum import vacuum
from tests.field.reliability.made_up import FIRST, MODEL, both, night, rows

A, B = "a" * 16, "b" * 16


def shown(table: ForecastTable) -> tuple[list[tuple[object, str]], list[tuple[object, str]]]:
    """Date and run of each row that readers see, in steps and in path statistics."""
    one, two = (
        sorted(frame.select("as_of_date", "run_id").collect().rows())
        for frame in (table.scan(), table.path_stats())
    )
    return one, two


def test_in_the_unlucky_order_of_two_runs_a_date_keeps_its_path_statistics(tmp_path: Path) -> None:
    table = ForecastTable(tmp_path)
    for first, second in ((A, B), (B, A)):
        table._commit("path_stats", first, MODEL, FIRST, rows("path_stats", FIRST, first))
        table.commit(second, MODEL, FIRST, both(FIRST, second))
        assert shown(table) == ([(FIRST, second)],) * 2
        table._commit("steps", first, MODEL, FIRST, rows("steps", FIRST, first))
        assert shown(table) == ([(FIRST, first)],) * 2


def test_a_reader_of_a_run_that_is_replaced_always_sees_both_tables(tmp_path: Path) -> None:
    table = ForecastTable(tmp_path)
    table.commit(A, MODEL, FIRST, both(FIRST, A))
    table._commit("path_stats", B, MODEL, FIRST, rows("path_stats", FIRST, B))
    assert shown(table) == ([(FIRST, A)],) * 2, "between the two commits of a replacing run"
    table._commit("steps", B, MODEL, FIRST, rows("steps", FIRST, B))
    assert shown(table) == ([(FIRST, B)],) * 2
    assert shown(table.at(version=1)) == ([(FIRST, A)],) * 2


def test_writers_and_readers_at_once_see_whole_dates_only(tmp_path: Path) -> None:
    days = [FIRST + timedelta(days=n) for n in range(6)]
    ForecastTable(tmp_path).commit(A, MODEL, days[0], both(days[0], A))
    ended = threading.Event()

    def write(run: str) -> None:
        table = ForecastTable(tmp_path)
        for day in days:
            table.commit(run, MODEL, day, both(day, run))

    def read() -> list[str]:
        wrong = []
        while not ended.is_set():
            stats = ForecastTable(tmp_path).path_stats().collect()
            if stats.select("as_of_date").is_duplicated().any() or stats.is_empty():
                wrong.append(str(stats))
        return wrong

    with ThreadPoolExecutor(3) as pool:
        reader = pool.submit(read)
        list(pool.map(write, (A, B)))
        ended.set()
        assert reader.result() == []
    steps, stats = shown(ForecastTable(tmp_path))
    assert steps == stats
    assert [day for day, _ in steps] == days


def record_of(run: str, forecast: int = 1) -> RunRecord:
    as_of = datetime(FIRST.year, FIRST.month, FIRST.day, 21, tzinfo=UTC)
    date = DateRecord(as_of=as_of, as_of_date=FIRST, eligible=1, forecast=forecast, in_sample=False)
    return RunRecord(
        run_id=run, model_id=MODEL, model="m", status="finished", started_at=as_of, identity={},
        settings={}, history={}, dates=(date,),
    )  # fmt: skip


def test_a_date_without_path_statistics_is_not_done_and_a_rerun_repairs_it(tmp_path: Path) -> None:
    table = ForecastTable(tmp_path)
    table._commit("steps", A, MODEL, FIRST, rows("steps", FIRST, A))
    assert not table.holds(record_of(A))
    table.commit(A, MODEL, FIRST, both(FIRST, A))
    assert table.holds(record_of(A))
    assert not table.holds(record_of(A, forecast=2)), "a symbol is missing"
    table.commit(B, MODEL, FIRST, both(FIRST, B))
    assert not table.holds(record_of(A))
    assert table.holds(record_of(B))


def test_who_lost_the_lease_commits_nothing(tmp_path: Path) -> None:
    table = ForecastTable(tmp_path)
    table.commit(A, MODEL, FIRST, both(FIRST, A))
    looks = []

    def taken_over() -> None:
        looks.append(1)
        if len(looks) == 2:  # between the two tables
            raise LeaseLostError("night: this process gave no sign of life")

    with pytest.raises(LeaseLostError):
        table.commit(B, MODEL, FIRST, both(FIRST, B), taken_over)
    assert shown(table) == ([(FIRST, A)],) * 2


PUBLISHES = """
import sys
from datetime import timedelta
from tests.field.reliability.made_up import FIRST, night
from market.table.forecasts import ForecastTable
table, parity = ForecastTable(sys.argv[1]), int(sys.argv[2])
for n in range(parity, 200, 2):
    table.publish(night(FIRST + timedelta(days=n)))
"""


def test_latest_never_goes_back_under_two_publishers(tmp_path: Path) -> None:
    table = ForecastTable(tmp_path)
    table.publish(night(FIRST))
    both_at_work = [
        subprocess.Popen([sys.executable, "-c", PUBLISHES, str(tmp_path), str(parity)])
        for parity in (0, 1)
    ]
    before, reads = FIRST, 0
    while any(each.poll() is None for each in both_at_work):
        newest = table.latest(MODEL, "1d")
        assert newest is not None
        assert newest.as_of_date >= before
        before, reads = newest.as_of_date, reads + 1
    assert [each.returncode for each in both_at_work] == [0, 0]
    assert table.latest(MODEL, "1d") == night(FIRST + timedelta(days=199))
    assert reads > 10
    assert not table.publish(night(FIRST)), "a backfill beside a nightly run"


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty nights, each replaced by the next day's rerun, whose files look thirty days apart."""
    root = tmp_path_factory.mktemp("aged") / "real"
    table, now = ForecastTable(root), time.time()
    seen: set[Path] = set()
    for n in range(40):
        day = FIRST + timedelta(days=n // 2)
        table.commit((A, B)[n % 2], MODEL, day, {"steps": rows("steps", day, (A, B)[n % 2])})
        age = (40 - n) * 30 * 86400
        for path in set(root.rglob("*")) - seen:
            if path.is_file():
                os.utime(path, (now - age, now - age))
                seen.add(path)
    return root


@pytest.mark.parametrize("way", ["plain", "..", "link", "file://", "linked table"])
def test_vacuum_keeps_what_any_version_shows_however_the_place_is_written(
    aged: Path, tmp_path: Path, way: str
) -> None:
    real = tmp_path / "real"
    shutil.copytree(aged, real)
    place: Path | str = real
    if way == "..":
        (tmp_path / "sub").mkdir()
        place = tmp_path / "sub" / ".." / "real"
    elif way == "link":
        place = tmp_path / "link"
        place.symlink_to(real)
    elif way == "file://":
        place = f"file://{real}"
    elif way == "linked table":
        (real / "steps").rename(tmp_path / "elsewhere")
        (real / "steps").symlink_to(tmp_path / "elsewhere")
    stray = real / "steps" / f"model_id={MODEL}" / "part-0.parquet"
    stray.write_bytes(b"nobody's")
    os.utime(stray, (0, 0))
    checkpoints = list((real / "steps" / "_delta_log").glob("*.checkpoint*"))
    assert checkpoints, "or this test shows nothing"

    found = vacuum(ForecastTable(place)).orphans
    assert [name.rsplit("/", 1)[-1] for name in found] == ["part-0.parquet"]
    assert not stray.exists()
    table = ForecastTable(real)
    assert table.scan().collect().height == 20
    for version in range(1, 41):
        assert table.at(version=version).scan().collect().height == (version + 1) // 2


def test_files_are_kept_that_only_a_checkpoint_tells_of(aged: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    shutil.copytree(aged, real)
    logs = sorted((real / "steps" / "_delta_log").glob("*.json"))
    for log in logs[:15]:  # as another program's clean-up leaves it
        log.unlink()
    assert vacuum(ForecastTable(real)).orphans == ()
    assert ForecastTable(real).scan().collect().height == 20


def test_versions_are_promised_in_the_table_itself_and_checkpoints_are_made(aged: Path) -> None:
    told = DeltaTable(str(aged / "steps")).metadata().configuration
    assert told["delta.logRetentionDuration"] == "interval 3650 days"
    assert told["delta.deletedFileRetentionDuration"] == "interval 3650 days"
    assert len(list((aged / "steps" / "_delta_log").glob("*.json"))) == 41
    assert len(list((aged / "steps" / "_delta_log").glob("*.checkpoint*.parquet"))) == 2


def test_a_flipped_bit_in_a_forecast_file_or_its_log_entry_is_named(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    table = ForecastTable(tmp_path)
    table.commit(A, MODEL, FIRST, both(FIRST, A))
    before = table.scan().collect()
    (file,) = (tmp_path / "steps" / f"model_id={MODEL}").rglob("*.parquet")
    content = file.read_bytes()
    for nth in range(60):
        bit = nth * (len(content) * 8 // 60)
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with subtests.test(bit=bit), pytest.raises(StoreError, match=rf"{file.name}: .*damaged"):
            table.scan().select("close_q50").collect()
    file.write_bytes(content)
    assert table.scan().collect().equals(before)
    log = tmp_path / "steps" / "_delta_log" / f"{1:020d}.json"
    log.write_text(
        log.read_text().replace('"as_of_date":"2017-01-01"', '"as_of_date":"2017-01-03"')
    )
    with pytest.raises(StoreError, match="damaged"):
        ForecastTable(tmp_path).scan().collect()
    file.unlink()
    with pytest.raises(StoreError, match=rf"{file.name}: the file is missing"):
        ForecastTable(tmp_path).scan().collect()


def test_a_filter_on_date_or_model_leaves_other_files_closed(tmp_path: Path) -> None:
    table = ForecastTable(tmp_path)
    days = [FIRST + timedelta(days=n) for n in range(3)]
    for day in days:
        table.commit(A, MODEL, day, both(day, A))
    (tmp_path / "steps" / f"model_id={MODEL}" / f"as_of_date={days[0]}").rename(tmp_path / "gone")
    own = table.scan(MODEL, A).filter(pl.col("as_of_date") >= days[1], pl.col("step") == 1)
    assert own.select("symbol", "as_of_date").collect().height == 2
    with pytest.raises(StoreError, match="missing"):
        table.scan().collect()


def outcome(read: Callable[[], object]) -> object:
    """What is read, or the error's line."""
    try:
        return read()
    except StoreError as error:
        return str(error)


def test_a_flipped_bit_in_a_record_or_pointer_is_named_before_it_is_believed(
    tmp_path: Path,
) -> None:
    table, record = ForecastTable(tmp_path), record_of(A)
    newest = Published(
        model_id=MODEL, model="m", venue="XNYS", freq="1d", run_id=A, as_of=record.dates[0].as_of,
        as_of_date=FIRST, forecasts=1, versions={"steps": 12, "path_stats": 8},
    )  # fmt: skip
    table.write_run(record)
    table.publish(newest)
    (pointer,) = (tmp_path / "latest").rglob("*.json")
    for file, read, sound in (
        (pointer, lambda: table.published(), [newest]),
        (tmp_path / f"runs/{A}.json", lambda: table.run(A), record),
    ):
        content = file.read_bytes()
        assert read() == sound
        for bit in range(0, 8 * len(content), 3):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            found = outcome(read)  # a blank may have become another one
            assert found == sound or (str(file) in str(found) and "\n" not in str(found)), bit
        file.write_bytes(content)
