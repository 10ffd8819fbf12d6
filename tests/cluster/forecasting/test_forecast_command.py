"""From the command line to the table a reader opens."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable

from forecaster.registry import resolve_model
from forecaster.summary import QUANTILES
from market.flags import Flag
from market.table.forecasts import ForecastTable
from market.table.schema import QUANTILE_NAMES, STEPS_SCHEMA
from tests.cluster.conftest import LOOKBACK, Outcome

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture(scope="module")
def arguments(
    store: Path, dates: list[str], model: str, tmp_path_factory: pytest.TempPathFactory
) -> list[object]:
    out = tmp_path_factory.mktemp("forecasts") / "table"
    return [
        "forecast", "--store", store, "--as-of", f"{dates[0]}:{dates[-1]}:5", "--model", model,
        "--lookback", LOOKBACK, "--horizon", 5, "--paths", 4, "--keep-paths", "--out", out,
    ]  # fmt: skip


@pytest.fixture
def table(arguments: list[object], candlecast: Callable[..., Outcome]) -> ForecastTable:
    """The table of one run; later tests find it done."""
    outcome = candlecast(*arguments)
    assert outcome.code == 0, outcome.err
    return ForecastTable(str(arguments[-1]))


def test_every_eligible_symbol_has_every_step(table: ForecastTable, dates: list[str]) -> None:
    steps = table.scan().collect()
    assert steps.schema == STEPS_SCHEMA
    healthy = steps.group_by("as_of_date", "symbol").agg(pl.col("step"))
    assert set(healthy["as_of_date"].cast(pl.String)) == set(dates)
    assert healthy.height == 3 * 8
    assert all(list(step) == [1, 2, 3, 4, 5] for step in healthy["step"])
    assert (steps["timestamp"] > steps["as_of_date"].cast(pl.Datetime("us"))).all()
    assert (steps["data_through"] == steps["as_of"]).all()
    assert steps["p_up"].is_between(0, 1).all()
    assert steps["close_q99"].null_count() == steps.height
    assert (steps["close_q05"] <= steps["close_q95"]).all()
    assert (steps["low_mean"] <= steps["close_mean"]).all()


def test_a_partition_is_one_file_in_table_order(table: ForecastTable) -> None:
    for kind in ("steps", "path_stats", "paths"):
        delta = DeltaTable(str(table.root / kind))
        files = delta.file_uris()
        assert len(files) == 3
        for file in files:
            key = pl.read_parquet(file, hive_partitioning=False).select(
                [c for c in ("symbol", "path", "step") if kind != "path_stats" or c == "symbol"]
                if kind != "steps"
                else ["symbol", "step"]
            )
            assert key.equals(key.sort(key.columns))


def test_polars_and_duckdb_read_the_same_rows(table: ForecastTable) -> None:
    delta = DeltaTable(str(table.root / "steps"))
    dataset = delta.to_pyarrow_dataset()
    query = "select symbol, as_of_date, step, close_q50 from dataset order by all"
    through_duckdb = duckdb.sql(query).pl()
    through_polars = (
        pl.scan_delta(str(table.root / "steps"))
        .select("symbol", "as_of_date", "step", "close_q50")
        .sort("symbol", "as_of_date", "step")
        .collect()
    )
    assert dataset.count_rows() == through_polars.height
    assert through_duckdb.equals(through_polars)


def test_path_statistics_and_paths_agree_with_the_steps(table: ForecastTable) -> None:
    last = table.scan().filter(pl.col("step") == 5).sort("as_of", "symbol").collect()
    stats = table.path_stats().sort("as_of", "symbol").collect()
    paths = table.paths().filter(pl.col("step") == 5).collect()
    close = pl.col("close").cast(pl.Float64)
    means = (
        paths.group_by("as_of", "symbol")
        .agg(close.mean(), close.log().mean().alias("log"))
        .sort("as_of", "symbol")
    )
    expected = means["log"] - last["last_close"].log()
    returned = stats["return_mean"].list.get(4)
    assert (returned - expected).abs().max() < 1e-9  # type: ignore[operator]
    assert (means["close"] / last["close_mean"] - 1).abs().max() < 1e-9  # type: ignore[operator]
    assert paths.height == 4 * last.height


def test_quantile_columns_are_the_levels_the_summary_computes() -> None:
    assert tuple(f"q{round(100 * level):02d}" for level in QUANTILES) == QUANTILE_NAMES


def test_the_summary_says_what_was_skipped_and_why(
    arguments: list[object], candlecast: Callable[..., Outcome], table: ForecastTable
) -> None:
    outcome = candlecast(*arguments)
    for kind in ("too short", "constant prices", "halted", "gap"):
        assert f"3 {kind} (e.g. " in outcome.out
    (record,) = table.runs()
    assert record.status == "finished"
    assert {name for note in record.skipped for name in note.symbols} == {
        "YOUNG", "HALT.ED", "FLAT/USD", "HOLES",
    }  # fmt: skip
    assert [(d.eligible, d.forecast) for d in record.dates] == [(8, 8)] * 3


def test_a_finished_run_is_not_done_again(
    arguments: list[object], candlecast: Callable[..., Outcome], table: ForecastTable
) -> None:
    before = {p: p.stat().st_mtime_ns for p in table.root.rglob("*") if p.is_file()}
    outcome = candlecast(*arguments)
    assert outcome.code == 0
    assert "already done" in outcome.out
    assert {p: p.stat().st_mtime_ns for p in table.root.rglob("*") if p.is_file()} == before
    assert not (table.root / "staging").exists() or not any((table.root / "staging").iterdir())


def test_other_settings_replace_a_date_and_say_so(
    store: Path, dates: list[str], tmp_path: Path, candlecast: Callable[..., Outcome]
) -> None:
    def run(seed: int) -> Outcome:
        return candlecast(
            "forecast", "--store", store, "--as-of", dates[0], "--model", "random-walk",
            "--lookback", LOOKBACK, "--horizon", 3, "--universe", "SIM001,SIM002",
            "--seed", seed, "--replicas", 1, "--out", tmp_path / "t",
        )  # fmt: skip

    assert run(1).code == 0
    table = ForecastTable(tmp_path / "t")
    (first,) = table.runs()
    second = run(2)
    assert f"rows of run {first.run_id}" in second.out
    assert table.scan(run_id=first.run_id).collect().is_empty()
    assert table.scan().collect().height == 2 * 3
    older = DeltaTable(str(table.root / "steps"), version=1)
    assert set(pl.scan_delta(older).collect()["run_id"]) == {first.run_id}
    again = run(1)
    assert "already done" not in again.out
    assert set(table.scan().collect()["run_id"]) == {first.run_id}


def test_dates_the_model_was_trained_on_are_marked(
    store: Path, dates: list[str], tmp_path: Path, candlecast: Callable[..., Outcome]
) -> None:
    outcome = candlecast(
        "forecast", "--store", store, "--as-of", dates[0], "--model", "nano",
        "--lookback", LOOKBACK, "--horizon", 2, "--paths", 2, "--universe", "SIM001",
        "--out", tmp_path / "t",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "IN-SAMPLE" in outcome.out
    flags = ForecastTable(tmp_path / "t").scan().collect()["flags"]
    assert all(flag & Flag.IN_SAMPLE for flag in flags)


def test_a_model_without_a_stated_cut_off_says_so_in_every_row(
    store: Path, dates: list[str], tmp_path: Path, candlecast: Callable[..., Outcome]
) -> None:
    nano = resolve_model("nano")
    for part in ("tokenizer", "predictor"):
        source = Path(getattr(nano, part))
        shutil.copytree(source, tmp_path / part, ignore=shutil.ignore_patterns("training*.json"))
    outcome = candlecast(
        "forecast", "--store", store, "--as-of", dates[0], "--model", tmp_path,
        "--lookback", LOOKBACK, "--horizon", 2, "--paths", 2, "--universe", "SIM001",
        "--out", tmp_path / "t",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    table = ForecastTable(tmp_path / "t")
    assert all(flag & Flag.CUTOFF_UNKNOWN for flag in table.scan().collect()["flags"])
    (run,) = table.runs()
    assert run.cutoff_unknown
