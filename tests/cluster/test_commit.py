"""Commits of the forecast table: whole, once, and in any company."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from market.errors import StoreError
from market.forecast_schema import PATH_STATS_SCHEMA, STEPS_SCHEMA, Kind
from market.forecasts import ForecastTable

DAY, NEXT_DAY = date(2016, 1, 8), date(2016, 1, 15)


def frames(
    run_id: str, day: date = DAY, hour: int = 21, value: float = 1.0, model_id: str = "m"
) -> dict[Kind, pl.DataFrame]:
    """Rows of two symbols, two steps each, with every other column null."""
    key = {
        "run_id": run_id,
        "model_id": model_id,
        "as_of_date": day,
        "as_of": datetime(day.year, day.month, day.day, hour, tzinfo=UTC),
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
