"""The same bits whatever the future holds and however the work is cut up."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from cluster.forecasting.job import run_forecast
from cluster.settings import ForecastSettings
from market.table.forecasts import ForecastTable
from tests.cluster.conftest import make_store

pytestmark = pytest.mark.usefixtures("local_ray")

ORDER = {"steps": ["as_of", "symbol", "step"], "path_stats": ["as_of", "symbol"]}


def rows(settings: ForecastSettings) -> dict[str, pl.DataFrame]:
    table = ForecastTable(settings.out)
    return {
        "steps": table.scan().sort(ORDER["steps"]).collect(),
        "path_stats": table.path_stats().sort(ORDER["path_stats"]).collect(),
    }


def test_bars_after_as_of_change_nothing(
    network_settings: ForecastSettings, bars: pl.DataFrame, dates: list[str], tmp_path: Path
) -> None:
    last = pl.lit(dates[-1]).str.to_datetime()
    known, later = bars.filter(pl.col("timestamp") <= last), bars.filter(pl.col("timestamp") > last)
    poisoned = later.with_columns(
        pl.col("open", "high", "low", "close") * 7.5, pl.col("volume", "amount") + 1e6
    ).filter(pl.col("timestamp").hash(3) % 3 != 0)
    newcomer = poisoned.filter(pl.col("symbol") == "SIM001").with_columns(symbol=pl.lit("AAA"))
    other = pl.concat([poisoned, newcomer])
    futures = {"true": later, "other": other, "none": later.clear()}

    results = {}
    for name, future in futures.items():
        folder = tmp_path / name
        make_store(folder / "store", pl.concat([known, future]))
        changed = network_settings.model_copy(
            update={"store": folder / "store", "out": folder / "table"}
        )
        report = run_forecast(changed)
        results[name] = (report.record.run_id, rows(changed))

    run_id, expected = results.pop("true")
    assert expected["steps"].height == 3 * 8 * 5
    for name, (other_id, found) in results.items():
        assert other_id == run_id, name
        for kind, frame in expected.items():
            assert frame.equals(found[kind], null_equal=True), (name, kind)


def test_a_bar_that_was_read_changes_the_run(
    settings: ForecastSettings, bars: pl.DataFrame, dates: list[str], tmp_path: Path
) -> None:
    from cluster.forecasting.plan import build_plan
    from forecaster import load_forecaster

    day = pl.col("timestamp") == pl.lit(dates[0]).str.to_datetime()
    changed = bars.with_columns(
        pl.when(day & (pl.col("symbol") == "SIM001"))
        .then(pl.col("volume") + 1)
        .otherwise(pl.col("volume"))
        .alias("volume")
    )
    early = pl.col("timestamp") > bars["timestamp"].unique().sort()[20]
    loaded = load_forecaster("random-walk")
    stores = {"as is": bars, "changed": changed, "shorter": bars.filter(early)}
    plans = {
        name: build_plan(
            make_store(tmp_path / name, frame), loaded, settings, ForecastTable(tmp_path / "none")
        ).run_id
        for name, frame in stores.items()
    }
    assert plans["as is"] != plans["changed"]
    assert plans["as is"] == plans["shorter"], "bars before every lookback were not read"


def test_shards_and_replicas_do_not_change_a_bit(
    network_settings: ForecastSettings, tmp_path: Path
) -> None:
    results = []
    for replicas, shard_size in ((1, 64), (2, 3)):
        cut = network_settings.model_copy(
            update={
                "out": tmp_path / f"{replicas}-{shard_size}",
                "replicas": replicas,
                "shard_size": shard_size,
            }
        )
        report = run_forecast(cut)
        assert report.activity is not None
        assert 1 <= len(report.activity.ready) <= replicas
        tiles = sum(len(spans) for spans in report.activity.busy.values())
        assert tiles == (1 if shard_size == 64 else 3)
        results.append((report.record.run_id, rows(cut)))
    (run_id, expected), (other_id, other) = results
    assert run_id == other_id
    for kind, frame in expected.items():
        assert frame.equals(other[kind], null_equal=True), kind


def test_the_order_of_imports_does_not_change_a_bit(
    settings: ForecastSettings, bars: pl.DataFrame, dates: list[str], tmp_path: Path
) -> None:
    middle = pl.col("timestamp") < bars["timestamp"].unique().sort()[100]
    results = []
    for name, parts in {
        "whole": [bars],
        "later first": [bars.filter(~middle), bars.filter(middle)],
    }.items():
        for part in parts:
            make_store(tmp_path / name / "store", part)
        changed = settings.model_copy(
            update={
                "store": tmp_path / name / "store",
                "out": tmp_path / name / "out",
                "as_of": dates[0],
            }
        )
        results.append((run_forecast(changed).record.run_id, rows(changed)["steps"]))
    (run_id, expected), (other_id, other) = results
    assert run_id == other_id
    assert expected.equals(other, null_equal=True)
