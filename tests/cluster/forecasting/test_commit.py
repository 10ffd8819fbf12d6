"""Commits of the forecast table: whole, once, and in any company."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from market.errors import StoreError
from market.leases import hold
from market.table.forecasts import ForecastTable
from market.table.schema import PATH_STATS_SCHEMA, STEPS_SCHEMA, Kind, Published
from market.table.vacuum import lease_name, vacuum

DAY, NEXT_DAY = date(2016, 1, 8), date(2016, 1, 15)


def frames(
    run_id: str,
    day: date = DAY,
    hour: int = 21,
    value: float = 1.0,
    model_id: str = "m",
    venue: str | None = None,
) -> dict[Kind, pl.DataFrame]:
    """Rows of two symbols, two steps each, with every other column null."""
    key = {
        "run_id": run_id,
        "model_id": model_id,
        "as_of_date": day,
        "as_of": datetime(day.year, day.month, day.day, hour, tzinfo=UTC),
        "venue": venue,
    }
    steps = [
        key | {"symbol": s, "step": h, "close_mean": value} for s in ("B", "A") for h in (2, 1)
    ]
    stats = [key | {"symbol": s, "horizon": 2, "return_mean": [0.0, value]} for s in ("B", "A")]

    def full(rows: list[dict[str, object]], schema: pl.Schema) -> pl.DataFrame:
        return pl.DataFrame(rows, schema=schema)

    return {"steps": full(steps, STEPS_SCHEMA), "path_stats": full(stats, PATH_STATS_SCHEMA)}


def test_a_commit_shows_all_rows_in_order_and_repeats_as_nothing(tmp_path: Path) -> None:
    table = ForecastTable(tmp_path)
    first = table.commit("r1", "m", DAY, frames("r1"))
    again = table.commit("r1", "m", DAY, frames("r1", value=9.0))
    assert (first.new, again.new) == (True, False)
    steps = table.scan().collect()
    assert steps.select("symbol", "step").rows() == [("A", 1), ("A", 2), ("B", 1), ("B", 2)]
    assert set(steps["close_mean"]) == {1.0}
    assert table.committed_dates("r1", "m") == {DAY}


def test_another_run_replaces_its_date_only(tmp_path: Path) -> None:
    table = ForecastTable(tmp_path)
    table.commit("r1", "m", DAY, frames("r1"))
    table.commit("r1", "m", NEXT_DAY, frames("r1", NEXT_DAY))
    table.commit("r9", "other", DAY, frames("r9", model_id="other"))
    replacing = table.commit("r2", "m", DAY, frames("r2", value=2.0))
    assert replacing.replaced == ("r1",)
    assert table.committed_dates("r1", "m") == {NEXT_DAY}
    assert table.committed_dates("r2", "m") == {DAY}
    assert table.committed_dates("r9", "other") == {DAY}
    assert table.commit("r1", "m", DAY, frames("r1")).new, "a replaced run can be brought back"
    assert table.committed_dates("r1", "m") == {DAY, NEXT_DAY}
    assert len(DeltaTable(str(tmp_path / "steps")).file_uris()) == 3


def test_two_moments_of_one_session_share_a_partition(tmp_path: Path) -> None:
    table = ForecastTable(tmp_path)
    table.commit("noon", "m", DAY, frames("noon", hour=17))
    later = table.commit("close", "m", DAY, frames("close", hour=21))
    assert later.replaced == ()
    assert set(table.scan().collect()["run_id"]) == {"noon", "close"}
    assert len(DeltaTable(str(tmp_path / "steps")).file_uris()) == 1


def test_path_statistics_without_their_steps_are_invisible(tmp_path: Path) -> None:
    table = ForecastTable(tmp_path)
    table.commit("r1", "m", DAY, frames("r1"))
    only_stats = frames("r2", NEXT_DAY)
    del only_stats["steps"]
    table.commit("r2", "m", NEXT_DAY, only_stats)
    assert set(table.path_stats().collect()["run_id"]) == {"r1"}
    assert set(table.path_stats(run_id="r1").collect()["symbol"]) == {"A", "B"}


def test_writers_at_once_leave_each_date_with_one_whole_run(tmp_path: Path) -> None:
    runs = [f"r{i}" for i in range(4)]
    table = ForecastTable(tmp_path)
    table.commit("r0", "m", DAY, frames("r0"))
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda r: table.commit(r, "m", DAY, frames(r)), runs * 2))
    steps = table.scan().collect()
    assert steps.height == 4
    assert steps["run_id"].n_unique() == 1
    assert sum(outcome.new for outcome in outcomes) >= 3


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no forecasts here; make some with 'candlecast forecast"):
        ForecastTable(tmp_path).scan()


def test_a_damaged_run_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "abc.json").write_text('{"run_id": "abc"')
    with pytest.raises(StoreError, match=r"abc\.json: not a run record"):
        ForecastTable(tmp_path).runs()


def test_two_venues_of_one_close_share_a_partition(tmp_path: Path) -> None:
    table = ForecastTable(tmp_path)
    table.commit("york", "m", DAY, frames("york", venue="XNYS"))
    second = table.commit("toronto", "m", DAY, frames("toronto", venue="XTSE", value=2.0))
    assert second.replaced == ()
    third = table.commit("york2", "m", DAY, frames("york2", venue="XNYS", value=3.0))
    assert third.replaced == ("york",)
    for rows in (table.scan().collect(), table.path_stats().collect()):
        assert dict(rows.select("venue", "run_id").unique().iter_rows()) == {
            "XNYS": "york2", "XTSE": "toronto",
        }  # fmt: skip


def night(run_id: str, day: date, versions: dict[Kind, int], venue: str = "XNYS") -> Published:
    as_of = datetime(day.year, day.month, day.day, 21, tzinfo=UTC)
    return Published(
        model_id="m", model="m", venue=venue, freq="1d", run_id=run_id, as_of=as_of,
        as_of_date=day, forecasts=2, versions=versions,
    )  # fmt: skip


def test_the_pointer_moves_forward_only_and_pins_what_it_showed(tmp_path: Path) -> None:
    table = ForecastTable(tmp_path)
    assert table.latest("m", "1d") is None
    first = table.commit("r1", "m", DAY, frames("r1"))
    assert table.publish(night("r1", DAY, first.versions))
    second = table.commit("r2", "m", NEXT_DAY, frames("r2", NEXT_DAY))
    newest = night("r2", NEXT_DAY, second.versions)
    assert table.publish(newest)
    assert not table.publish(newest), "there already"
    assert not table.publish(night("r1", DAY, first.versions)), "an older night"
    assert table.latest("m", "1d") == newest

    table.commit("r3", "m", NEXT_DAY, frames("r3", NEXT_DAY, value=9.0))
    pinned = ForecastTable(tmp_path, newest.versions)
    assert set(pinned.scan(run_id="r2").collect()["close_mean"]) == {1.0}
    assert pinned.path_stats(run_id="r2").collect().height == 2
    assert table.scan(run_id="r2").collect().is_empty()

    table.publish(night("r9", DAY, second.versions, venue="24/7"))
    with pytest.raises(StoreError, match="several venues published 1d"):
        table.latest("m", "1d")
    assert table.latest("m", "1d", "24/7") == night("r9", DAY, second.versions, venue="24/7")


def test_reading_at_a_version_and_as_of_a_time(tmp_path: Path) -> None:
    table = ForecastTable(tmp_path)
    first = table.commit("r1", "m", DAY, frames("r1"))
    time.sleep(0.01)
    between = datetime.now(UTC)
    time.sleep(0.01)
    table.commit("r2", "m", DAY, frames("r2", value=2.0))
    for then in (table.at(version=first.versions["steps"]), table.at(time=between)):
        assert set(then.scan().collect()["run_id"]) == {"r1"}
        assert set(then.path_stats().collect()["run_id"]) == {"r1"}
    assert set(table.at(time=datetime.now(UTC)).scan().collect()["run_id"]) == {"r2"}
    with pytest.raises(StoreError, match="no version 99; there are 0 to 2"):
        table.at(version=99)
    with pytest.raises(StoreError, match="no forecasts were committed by 2001"):
        table.at(time=datetime(2001, 1, 1, tzinfo=UTC))


def test_vacuum_takes_what_the_dead_left_and_nothing_else(tmp_path: Path) -> None:
    table = ForecastTable(tmp_path)
    table.commit("r1", "m", DAY, frames("r1"))
    table.commit("r2", "m", DAY, frames("r2", value=2.0))
    partition = tmp_path / "steps" / "model_id=m" / f"as_of_date={DAY}"
    orphan, young = partition / "orphan.parquet", partition / "young.parquet"
    for stray in (orphan, young):
        stray.write_bytes(b"written, never committed")
    yesterday = time.time() - 86400
    os.utime(orphan, (yesterday, yesterday))
    for run_id in ("live", "given-up", "resumable"):
        table.staging(run_id).write("shard.json", b"{}")
    old = time.time() - 30 * 86400
    for run_id in ("live", "given-up"):
        os.utime(tmp_path / "staging" / run_id / "shard.json", (old, old))

    with hold(table.leases, lease_name("live")):
        planned = vacuum(table, dry_run=True)
        assert orphan.exists()
        done = vacuum(table)
    assert done.staging == planned.staging == ("given-up",)
    assert done.orphans == (f"steps/{orphan.relative_to(tmp_path / 'steps')}",)
    assert set(done.kept) == {"live", "resumable"}
    assert not orphan.exists()
    assert young.exists()
    assert {path.name for path in (tmp_path / "staging").iterdir()} == {"live", "resumable"}
    assert set(table.at(version=1).scan().collect()["run_id"]) == {"r1"}, "time travel stays"


def test_a_table_of_other_code_is_refused(tmp_path: Path) -> None:
    wider = pl.DataFrame(schema=STEPS_SCHEMA | {"surprise": pl.Float64()})
    wider.write_delta(tmp_path / "steps")
    with pytest.raises(StoreError, match=r"written by a newer candlecast \(columns: surprise\)"):
        ForecastTable(tmp_path).commit("r1", "m", DAY, {"steps": frames("r1")["steps"]})
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "abc.json").write_text('{"format": 99}')
    with pytest.raises(StoreError, match="format 99, written by a newer candlecast"):
        ForecastTable(tmp_path).runs()


def test_a_folder_with_an_awkward_name_works_like_any_other(tmp_path: Path) -> None:
    root = tmp_path / "my tables (größer) 100%"
    table = ForecastTable(root)
    table.commit("r1", "m", DAY, frames("r1", venue="24/7"))
    table.commit("r2", "m", DAY, frames("r2", value=2.0))
    plain = ForecastTable(tmp_path / "plain")
    plain.commit("r1", "m", DAY, frames("r1", venue="24/7"))
    plain.commit("r2", "m", DAY, frames("r2", value=2.0))
    for read in (ForecastTable.scan, ForecastTable.path_stats):
        assert read(table).collect().equals(read(plain).collect(), null_equal=True)
        assert read(table).collect_schema() == read(plain).collect_schema()
    assert table.committed_dates("r1", "m") == {DAY}
    assert set(table.at(version=1).scan().collect()["run_id"]) == {"r1"}
    assert vacuum(table, orphan_age=timedelta(0)).orphans == ()
