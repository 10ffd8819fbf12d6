"""Interrupted runs: nothing half-done is visible, and the same command finishes the job."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import ray

from cluster.forecasting.actor_pool import ForecastRunError
from cluster.forecasting.counting import Counts
from cluster.forecasting.job import run_forecast
from cluster.session import ray_session
from cluster.settings import ForecastSettings
from market.errors import ConfigError, ForecastInputError
from market.table.forecasts import ForecastTable
from tests.cluster.conftest import make_store

pytestmark = pytest.mark.usefixtures("local_ray")

DIES_BEFORE_ITS_SECOND_DATE_SHOWS = """
import os
from market.table.forecasts import ForecastTable
from tests.cluster.conftest import make_store

whole = ForecastTable._commit
dates = []

def commit(self, kind, run_id, model_id, day, *rest):
    if kind == "steps":
        dates.append(day)
        if len(dates) == 2:
            os._exit(9)
    return whole(self, kind, run_id, model_id, day, *rest)

ForecastTable._commit = commit
from cluster.cli import main
main()
"""


def rows(settings: ForecastSettings) -> pl.DataFrame:
    return ForecastTable(settings.out).scan().sort("as_of", "symbol", "step").collect()


def test_a_killed_driver_leaves_whole_dates_and_a_rerun_finishes(
    settings: ForecastSettings, dates: list[str], tmp_path: Path
) -> None:
    address = ray.get_runtime_context().gcs_address
    flags = [
        "--store", settings.store, "--as-of", settings.as_of, "--model", settings.model,
        "--lookback", settings.lookback, "--horizon", settings.horizon, "--paths", settings.paths,
        "--out", settings.out, "--address", address, "--replicas", 1,
    ]  # fmt: skip
    killed = subprocess.run(
        [sys.executable, "-c", DIES_BEFORE_ITS_SECOND_DATE_SHOWS, "forecast", *map(str, flags)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
        timeout=300,
    )
    assert killed.returncode == 9, killed.stderr
    table = ForecastTable(settings.out)
    (record,) = table.runs()
    assert record.status == "running"
    assert [str(day) for day in table.committed_dates(record.run_id, record.model_id)] == dates[:1]
    assert set(table.path_stats().collect()["as_of_date"].cast(pl.String)) == {dates[0]}

    report = run_forecast(settings)
    assert len(repr(report).splitlines()) < 20
    assert report.record.run_id in repr(report)
    assert report.resumed == report.record.n_forecasts == 3 * 8
    assert report.record.run_id == record.run_id
    assert not table.staging(record.run_id).exists()

    undisturbed = settings.model_copy(update={"out": tmp_path / "undisturbed"})
    run_forecast(undisturbed)
    assert rows(settings).equals(rows(undisturbed), null_equal=True)


def test_counts_are_of_one_driver_and_outlive_who_told_them() -> None:
    ours, theirs = Counts("ours"), Counts("theirs")
    tell = ray.remote(num_cpus=0)(Counts.tell)
    ray.get([tell.remote(ours, "a", 0), tell.remote(theirs, "a", 5)])
    ours.tell("b", 3)
    ours.tell("b", 7)
    assert ours.read() == {"ours/a": 0, "ours/b": 7}
    ours.forget()
    assert not ours.read()
    assert theirs.read() == {"theirs/a": 5}


def test_a_run_without_progress_gives_up_and_can_be_resumed(settings: ForecastSettings) -> None:
    hurried = settings.model_copy(update={"no_progress_timeout_s": 0.01, "model": "random-walk"})
    with pytest.raises(ForecastRunError, match=r"no replica finished anything for 0\.01 s"):
        run_forecast(hurried)
    patient = hurried.model_copy(update={"no_progress_timeout_s": 300.0})
    assert run_forecast(patient).record.n_forecasts == 3 * 8


def test_too_many_replicas_for_the_cluster_are_refused() -> None:
    with (
        pytest.raises(ConfigError, match=r"has 3 CPUs, but 5 replica\(s\) need 1 each"),
        ray_session(5, most=10),
    ):
        pass


def test_an_error_in_a_replica_is_told_in_one_line(settings: ForecastSettings) -> None:
    settings.out.mkdir()
    (settings.out / "staging").write_text("in the way")
    with pytest.raises(
        ForecastRunError, match=r"StoreError: .*staging.*Not a directory.*resumes it$"
    ):
        run_forecast(settings.model_copy(update={"model": "random-walk"}))


def test_a_symbol_that_cannot_be_forecast_does_not_stop_the_others(
    settings: ForecastSettings, bars: pl.DataFrame, tmp_path: Path
) -> None:
    prices = ("open", "high", "low", "close")
    # Up and down by a factor that no float32 path survives; each bar alone is legal.
    swing = pl.when(pl.int_range(pl.len()) % 2 == 0).then(1e-3).otherwise(1e20)
    huge = bars.filter(pl.col("symbol") == "SIM001").with_columns(
        pl.lit("HUGE").alias("symbol"), pl.col(*prices) * swing
    )
    make_store(tmp_path / "store", pl.concat([bars, huge]))
    with_huge = settings.model_copy(
        update={
            "store": tmp_path / "store",
            "model": "random-walk",
            "allow_suspected_splits": True,
        }
    )
    record = run_forecast(with_huge).record
    assert {name for note in record.failed for name in note.symbols} == {"HUGE"}
    assert [each.forecast for each in record.dates] == [8, 8, 8]
    assert "HUGE" not in set(rows(with_huge)["symbol"])

    alone = with_huge.model_copy(update={"universe": "HUGE", "out": tmp_path / "alone"})
    with pytest.raises(ForecastInputError, match="all 3 forecasts failed, nothing was committed"):
        run_forecast(alone)
    assert not (tmp_path / "alone" / "steps").exists()
