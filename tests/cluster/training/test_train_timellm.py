"""`candlecast train timellm`, then a forecast, a night and a backtest as with any other model."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from forecaster.timellm import write_random_backbone
from forecaster.training import TimeLLMTraining, train_timellm
from forecaster.training.data.series_file import open_series
from market.flags import Flag
from market.lake.history import MarketHistory
from market.table.forecasts import ForecastTable
from tests.cluster.conftest import Outcome
from tests.cluster.night.test_nightly import House
from tests.cluster.training.test_train_job import (
    SHARED,
    figures,
    market,
    own_processes,
    wait_for_checkpoint,
    write,
)

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="victims are found in /proc"),
    pytest.mark.usefixtures("local_ray"),
]
__all__ = ["market"]  # the fixture

LOOKBACK, HORIZON, STEPS = 24, 4, 60
MODEL = {"d_model": 8, "n_heads": 2, "d_ff": 8, "prototypes": 20, "patch_length": 8, "stride": 4}


@pytest.fixture(scope="module")
def trained(
    market: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Callable[..., Outcome]], Path]:
    """Trains over a language model, with a worker killed on the way; once, whoever asks first."""
    root = tmp_path_factory.mktemp("timellm")
    out = root / "model"

    def train(candlecast: Callable[..., Outcome]) -> Path:
        if out.exists():
            return out
        backbone = write_random_backbone(root / "gpt2", width=16, layers=1, heads=2, vocabulary=300)
        config = write(
            root / "t.yaml",
            {
                "model": {**MODEL, "backbone": "none"},
                "windows": {"lookbacks": [LOOKBACK], "horizon": HORIZON},
                "optimiser": {**SHARED["optimiser"], "steps": STEPS},
                "run": {"validate_every": 30, "checkpoint_every": 10, "validation_windows": 40},
            },
        )
        killed: list[int] = []
        done = threading.Event()

        def kill() -> None:
            wait_for_checkpoint(out, done.is_set)
            killed.extend(own_processes("RayTrainWorker"))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        made = candlecast(
            "train", "timellm", "--config", config, "--store", market, "--out", out,
            "--backbone", os.path.relpath(backbone),
        )  # fmt: skip
        done.set()
        killer.join()
        assert made.code == 0, made.err
        assert len(killed) == 1
        assert f"--model timellm:{out}" in made.out
        return out

    return train


def test_a_killed_worker_changes_no_bit(
    candlecast: Callable[..., Outcome],
    trained: Callable[[Callable[..., Outcome]], Path],
    market: Path,
    tmp_path: Path,
) -> None:
    out = trained(candlecast)
    record = json.loads((out / "training.json").read_text())
    assert Path(record["settings"]["model"]["backbone"]).is_absolute()
    settings = TimeLLMTraining.model_validate(record["settings"])
    (series,) = (path for path in (market / "series").iterdir() if path.is_dir())
    torch.set_num_threads(1)
    train_timellm(settings, open_series(series), tmp_path / "plain")
    assert figures(out) == figures(tmp_path / "plain")
    for name in ("model.safetensors", "errors.safetensors"):
        ours, plain = (load_file(folder / name) for folder in (out, tmp_path / "plain"))
        assert all(torch.equal(ours[key], value) for key, value in plain.items()), name
    page = (out / "training.html").read_text()
    for words in ("Training of a point model", "Forecasts", "Gain over it", "Gradient norm"):
        assert words in page
    assert "Codebook" not in page


def test_forecast_in_any_cut_and_backtested(
    candlecast: Callable[..., Outcome],
    trained: Callable[[Callable[..., Outcome]], Path],
    market: Path,
    tmp_path: Path,
) -> None:
    out = trained(candlecast)
    sessions = MarketHistory.open(market).sessions()
    seen = [str(s) for s in sessions if str(s) <= "2015-12-31"][-1]
    dates = f"{seen}:{sessions[-HORIZON - 2]}:20"
    tables = []
    for shard in (1, 5):
        place = tmp_path / f"table-{shard}"
        told = candlecast(
            "forecast", "--store", market, "--as-of", dates, "--model", f"timellm:{out}",
            "--lookback", LOOKBACK, "--horizon", HORIZON, "--paths", 8, "--replicas", 1,
            "--shard-size", shard, "--out", place,
        )  # fmt: skip
        assert told.code == 0, told.err
        tables.append(ForecastTable(place).scan().collect().sort("as_of", "symbol", "step"))
    assert tables[0].height > 0
    assert tables[0].equals(tables[1])
    sampled = tables[0].with_columns(seen=pl.col("flags") & int(Flag.IN_SAMPLE) > 0)
    assert sampled.filter("seen")["as_of_date"].unique().cast(pl.String).to_list() == [seen]
    (run,) = ForecastTable(tmp_path / "table-5").runs()
    assert "residual block bootstrap" in str(run.identity["numerics"]["paths"])
    traded = candlecast(
        "backtest", "--store", market, "--forecasts", tmp_path / "table-5", "--k", 2,
        "--report", tmp_path / "backtest.html",
    )  # fmt: skip
    assert traded.code == 0, traded.err


def test_a_night_with_it(
    candlecast: Callable[..., Outcome],
    trained: Callable[[Callable[..., Outcome]], Path],
    bars: pl.DataFrame,
    tmp_path: Path,
) -> None:
    model = f"timellm:{trained(candlecast)}"
    house = House(tmp_path, bars, model=model, lookback=LOOKBACK, horizon=HORIZON)
    house.drop("history", pl.col("timestamp") <= house.days[120])
    night = candlecast("nightly", "--config", house.config, "--json")
    assert night.code == 0, night.err
    summary = json.loads(night.out)
    assert summary["status"] == "done"
    assert summary["forecasts"] > 0


def test_what_it_cannot_forecast_is_said(
    candlecast: Callable[..., Outcome],
    trained: Callable[[Callable[..., Outcome]], Path],
    market: Path,
    tmp_path: Path,
) -> None:
    out = trained(candlecast)
    day = MarketHistory.open(market).sessions()[-1]

    def forecast(model: str, *more: object) -> str:
        told = candlecast(
            "forecast", "--store", market, "--as-of", day, "--model", model, "--paths", 2,
            "--replicas", 1, "--out", tmp_path / "table", *more,
        )  # fmt: skip
        assert told.code == 2, told.out
        return told.err

    made = f"timellm:{out}"
    assert "this model reads 24 bars" in forecast(made, "--lookback", 20, "--horizon", 4)
    assert "forecasts 4 steps, 5 are asked" in forecast(made, "--lookback", 24, "--horizon", 5)
    assert "config.json: cannot be read" in forecast(f"timellm:{tmp_path}/nowhere")
    assert "needs none; leave it out" in forecast(made, "--tokenizer", "some")
