"""From a user's own bars to a model of them and its forecast, with the recipe in the box."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from market.lake.history import MarketHistory
from market.synthetic import SimulatorParams, simulate_market
from market.table.forecasts import ForecastTable
from tests.cluster.conftest import Outcome, make_store

pytestmark = pytest.mark.usefixtures("local_ray")

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "train"


def test_one_command_teaches_nano_an_own_market(
    candlecast: Callable[..., Outcome], tmp_path: Path
) -> None:
    """The recipe in the box, shortened by --set alone, then a forecast with what it left."""
    market, out = tmp_path / "store", tmp_path / "predictor"
    params = SimulatorParams(seed=5, n_symbols=5, n_sessions=560, start=date(2014, 6, 2))
    make_store(market, simulate_market(params))
    short = {
        "data.train_through": "2015-06-30", "data.validation_through": "2015-12-31",
        "data.test_through": "2016-06-30", "data.purge_bars": 4, "data.held_out_share": 0.0,
        "windows.lookbacks": [64], "windows.horizon": 4, "windows.validation_horizon": 4,
        "optimiser.steps": 2, "optimiser.batch_size": 4, "run.validation_windows": 4,
        "run.validate_every": 1, "run.checkpoint_every": 1, "run.forecast_dates": 1,
        "run.forecast_paths": 2,
    }  # fmt: skip
    sets = [part for key, value in short.items() for part in ("--set", f"{key}={value}")]
    trained = candlecast(
        "train", "predictor", "--config", CONFIGS / "returns_finetune.yaml", "--from", "nano",
        "--tokenizer", "nano", "--store", market, "--out", out, *sets,
    )  # fmt: skip
    assert trained.code == 0, trained.err
    history = MarketHistory.open(market)
    night = history.sessions(date(2016, 1, 4))[0]
    forecast = candlecast(
        "forecast", "--store", market, "--as-of", night, "--model", out, "--tokenizer", "nano",
        "--lookback", 64, "--horizon", 4, "--paths", 4, "--replicas", 1,
        "--out", tmp_path / "table",
    )  # fmt: skip
    assert forecast.code == 0, forecast.err
    rows = ForecastTable(tmp_path / "table").scan().collect()
    assert rows.height == 5 * 4
    (record,) = ForecastTable(tmp_path / "table").runs()
    assert record.identity["trained_through"] == "2015-12-31", "the bars that chose it are seen"
