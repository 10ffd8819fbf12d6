"""Whole runs of point models: what they leave, how they resume, and what wrong settings get."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from forecaster import SamplingParams, load_forecaster
from forecaster.interface import CLOSE
from forecaster.timellm import TimeLLMForecaster, write_random_backbone
from forecaster.timellm.bootstrap import load_errors
from forecaster.training import (
    Surroundings,
    TimeLLMTraining,
    TrainingError,
    TrainingRun,
    TrainingSeries,
    train_timellm,
    training_series,
)
from forecaster.training.config import SimulatedMarkets
from market.errors import ConfigError
from tests.forecaster.conftest import random_windows

MARKET = SimulatedMarkets(seeds=(1501,), n_symbols=4, n_sessions=320, start=date(2015, 1, 2))


def point_settings(steps: int = 8, backbone: str = "none", **changes: Any) -> TimeLLMTraining:
    return TimeLLMTraining.model_validate(
        {
            "seed": 5,
            "model": {
                "backbone": backbone, "d_model": 8, "n_heads": 2, "d_ff": 8, "prototypes": 20,
                "patch_length": 8, "stride": 4,
            },
            "data": {
                "train_through": "2015-12-31", "validation_through": "2016-12-31", "purge_bars": 8,
            },
            "windows": {"lookbacks": [24], "horizon": 8, "validation_horizon": 8},
            "run": {
                "log_every": 1, "validate_every": 4, "checkpoint_every": 2,
                "validation_windows": 40,
            },
            "optimiser": {"steps": steps, "batch_size": 4, "max_lr": 3e-3, "clip_norm": 2.0},
            **changes,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def series() -> list[TrainingSeries]:
    simulated = training_series([], MARKET)
    return [TrainingSeries(s.symbol, s.timestamps_N, s.values_NF) for s in simulated]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("backbone") / "gpt2"
    return str(write_random_backbone(folder, width=16, layers=1, heads=2, vocabulary=300))


@pytest.mark.parametrize("kind", ["none", "attention", "nlinear", "dlinear", "gpt2"])
def test_every_kind_trains_and_forecasts(
    kind: str, series: list[TrainingSeries], backbone: str, tmp_path: Path
) -> None:
    settings = point_settings(backbone=backbone if kind == "gpt2" else kind)
    figures = train_timellm(settings, series, tmp_path)
    assert figures["later_loss"] > 0
    assert figures["later_gain"] == pytest.approx(
        1 - figures["later_loss"] / figures["later_last_value"]
    )
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["trained_through"] == "2016-12-31"  # the errors are those of the validation bars
    loaded = load_forecaster(f"timellm:{tmp_path}")
    assert loaded.trained_through == date(2016, 12, 31)
    windows = random_windows(3, 24, 8)
    paths = loaded.forecaster.sample_paths(windows, n_paths=4, sampling=SamplingParams(), seed=0)
    assert np.isfinite(paths.values_BSHF).all()
    assert load_errors(tmp_path, 8).shape == (40, 8, 6)


def test_training_lowers_the_error(series: list[TrainingSeries], tmp_path: Path) -> None:
    before = TrainingRun(point_settings(), series)
    untrained = before.measure(before.model, before.validation["later"], Surroundings().peers)
    figures = train_timellm(point_settings(steps=150), series, tmp_path)
    assert figures["later_loss"] < 0.9 * untrained["loss"]


def test_a_stopped_run_goes_on_to_the_same_bits(
    series: list[TrainingSeries], backbone: str, tmp_path: Path
) -> None:
    settings = point_settings(backbone=backbone)
    train_timellm(settings, series, tmp_path / "whole")

    class Stopped(Exception):  # noqa: N818 - stands for a kill
        pass

    def stop(step: int) -> None:
        if step == 4:
            raise Stopped

    with pytest.raises(Stopped):
        TrainingRun(settings, series).train(tmp_path / "parts", Surroundings(reached=stop))
    checkpoint = tmp_path / "parts" / "checkpoints" / "step-00000004"
    assert TimeLLMForecaster.load(checkpoint).model.config.horizon == 8
    told: list[str] = []
    train_timellm(settings, series, tmp_path / "parts", report=told.append)
    assert any("going on after step 4" in line for line in told)
    for name in ("model.safetensors", "errors.safetensors"):
        whole, parts = (load_file(tmp_path / run / name) for run in ("whole", "parts"))
        assert all(torch.equal(parts[key], value) for key, value in whole.items()), name


def test_the_errors_are_those_of_the_published_weights(
    series: list[TrainingSeries], tmp_path: Path
) -> None:
    """Mean squared error of the close, from the errors and from the figures."""
    train_timellm(point_settings(backbone="nlinear"), series, tmp_path)
    run = TrainingRun(point_settings(backbone="nlinear"), series)
    forecaster = TimeLLMForecaster.load(tmp_path)
    again = run.measure(forecaster.model, run.validation["later"], Surroundings().peers)
    record = json.loads((tmp_path / "training.json").read_text())
    assert again["loss"] == pytest.approx(record["figures"]["later_loss"], rel=1e-6)
    errors = load_errors(tmp_path, 8)
    assert np.square(errors[:, -1, CLOSE]).mean() > np.square(errors[:, 0, CLOSE]).mean()


def test_going_on_from_weights(series: list[TrainingSeries], backbone: str, tmp_path: Path) -> None:
    settings = point_settings(steps=4, backbone=backbone)
    train_timellm(settings, series, tmp_path / "first")
    train_timellm(settings, series, tmp_path / "second", start_from=tmp_path / "first")
    other = settings.model_copy(update={"model": settings.model.model_copy(update={"d_ff": 4})})
    with pytest.raises(TrainingError, match=r"d_ff=8 \(asked: 4\)"):
        TrainingRun(other, series, start_from=tmp_path / "first")


def test_without_validation_windows_there_would_be_no_paths(series: list[TrainingSeries]) -> None:
    data = {
        "train_through": "2015-12-31", "validation_through": "2016-01-20", "purge_bars": 8,
    }  # fmt: skip
    with pytest.raises(TrainingError, match="whose paths are drawn from validation errors, needs"):
        TrainingRun(point_settings(data=data), series)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"windows": {"lookbacks": [24, 32], "horizon": 8, "validation_horizon": 8}},
            "one length of window",
        ),
        ({"windows": {"lookbacks": [24], "horizon": 8}}, "make them equal"),
        ({"windows": {"lookbacks": [6], "horizon": 8, "validation_horizon": 8}}, "than one patch"),
        ({"run": {"best_by": "crps"}}, "point models are chosen by loss"),
        ({"model": {"backbones": "none"}}, r"model\.backbones: unknown key"),
    ],
)
def test_settings_that_make_no_run(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        point_settings(**changes)
