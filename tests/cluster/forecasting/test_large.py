"""What a large universe is planned and committed by gives what a small one is."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from cluster.forecasting import committing, eligible
from cluster.forecasting.eligible import by_tasks
from cluster.forecasting.job import run_forecast
from cluster.forecasting.plan import build_plan
from cluster.settings import ForecastSettings
from forecaster import load_forecaster
from market.lake.history import MarketHistory
from market.table.forecasts import ForecastTable
from market.table.schema import ROW_ORDER


def test_a_plan_made_by_tasks_is_the_plan(
    settings: ForecastSettings, monkeypatch: pytest.MonkeyPatch, local_ray: None
) -> None:
    history = MarketHistory.open(settings.store)
    loaded, table = load_forecaster("random-walk"), ForecastTable(settings.out)
    here = build_plan(history, loaded, settings, table)
    monkeypatch.setattr(eligible, "SYMBOLS_PER_READ", 3)
    there = build_plan(history, loaded, settings, table, by_tasks)
    assert there == here
    assert here.skipped, "or the comparison says little"
    assert [s.key for s in there.shards(4)] == [s.key for s in here.shards(4)]


def test_dates_written_by_tasks_hold_the_same_rows(
    settings: ForecastSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    local_ray: None,
) -> None:
    asked = settings.model_copy(update={"model": "random-walk", "keep_paths": True})
    small = run_forecast(asked)
    monkeypatch.setattr(committing, "ROWS_IN_MEMORY", 10)
    monkeypatch.setattr(committing, "_ROWS_PER_PART", 3 * settings.horizon)
    large = run_forecast(asked.model_copy(update={"out": tmp_path / "large", "shard_size": 2}))
    assert large.record.run_id == small.record.run_id
    one, other = ForecastTable(asked.out), ForecastTable(tmp_path / "large")
    for kind, rows, ours in (
        ("steps", other.scan(), one.scan()),
        ("path_stats", other.path_stats(), one.path_stats()),
        ("paths", other.paths(), one.paths()),
    ):
        order = ROW_ORDER[kind]  # type: ignore[index]
        assert rows.collect().sort(order).equals(ours.collect().sort(order), null_equal=True)
        files = [Path(file) for file in DeltaTable(str(tmp_path / "large" / kind)).file_uris()]
        assert len(files) == 3 * 3, "three dates of eight symbols"
        for file in files:
            part = pl.read_parquet(file)
            assert part.equals(part.sort(order), null_equal=True)
            assert part["symbol"].n_unique() <= 3

    assert run_forecast(asked.model_copy(update={"out": tmp_path / "large"})).already_done
    rerun = asked.model_copy(update={"out": tmp_path / "large", "seed": 1, "shard_size": 3})
    replacing = run_forecast(rerun).record
    shown = other.scan().select("run_id").unique().collect()["run_id"].to_list()
    assert shown == [replacing.run_id]
    assert other.holds(replacing)
    assert replacing.replaced_runs == (small.record.run_id,)
    assert (
        other.rows_of(small.record)
        .sort(ROW_ORDER["steps"])
        .equals(one.rows_of(small.record), null_equal=True)
    )
