"""Whole runs: what they leave behind, how they resume, and how they stop."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.training import (
    PredictorTraining,
    TokenizerTraining,
    TrainingError,
    TrainingRun,
    TrainingSeries,
    train_predictor,
    train_tokenizer,
    training_series,
)
from forecaster.training.checkpoints import Checkpoints
from forecaster.training.data.pools import View, validation_batches
from forecaster.training.data.splits import split_series
from forecaster.training.run_log import TIMING
from forecaster.training.simulations import SimulatedMarkets
from forecaster.training.validation import measure_predictor

MARKET = SimulatedMarkets(seeds=(1500,), n_symbols=4, n_sessions=320, start=date(2015, 1, 2))


def shared_parts(steps: int) -> dict[str, Any]:
    return {
        "data": {
            "train_through": "2015-12-31",
            "validation_through": "2016-12-31",
            "purge_bars": 8,
        },
        "windows": {"lookbacks": [24], "horizon": 8, "validation_horizon": 8},
        "run": {
            "log_every": 1,
            "validate_every": 4,
            "checkpoint_every": 2,
            "validation_windows": 8,
        },
        "optimiser": {"steps": steps, "batch_size": 4, "max_lr": 3e-3, "clip_norm": 2.0},
    }


def tokenizer_settings(steps: int = 6, **changes: Any) -> TokenizerTraining:
    model = {
        "d_model": 16, "n_heads": 2, "ff_dim": 16, "n_enc_layers": 2, "n_dec_layers": 2,
        "s1_bits": 4, "s2_bits": 4,
    }  # fmt: skip
    return TokenizerTraining.model_validate(
        {"seed": 5, "model": model, **shared_parts(steps), **changes}
    )


def predictor_settings(steps: int = 6, **changes: Any) -> PredictorTraining:
    model = {
        "s1_bits": 4, "s2_bits": 4, "n_layers": 1, "d_model": 16, "n_heads": 2, "ff_dim": 16,
        "resid_dropout_p": 0.2, "token_dropout_p": 0.1,
    }  # fmt: skip
    return PredictorTraining.model_validate(
        {"seed": 5, "model": model, **shared_parts(steps), **changes}
    )


@pytest.fixture(scope="module")
def series() -> list[TrainingSeries]:
    simulated = training_series([], MARKET)
    return [TrainingSeries(s.symbol, s.timestamps_N, s.values_NF) for s in simulated]


@pytest.fixture(scope="module")
def tokenizer(series: list[TrainingSeries], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(tokenizer_settings(), series, out)
    return out


def lines(folder: Path) -> list[dict[str, float]]:
    kept = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMING} for line in kept]


def test_a_run_leaves_a_model_figures_and_a_record(
    series: list[TrainingSeries], tokenizer: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    figures = train_predictor(predictor_settings(), tokenizer, series, tmp_path, report=told.append)
    assert Kronos.from_pretrained(tmp_path).config["d_model"] == 16
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert 0 < figures["later_ce"] < 10
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["trained_through"] == "2015-12-31"
    assert record["figures"] == figures
    assert any("ETA" in line and "step 6/6" in line for line in told)


def test_training_lowers_the_loss(series: list[TrainingSeries], tmp_path: Path) -> None:
    train_tokenizer(tokenizer_settings(steps=60), series, tmp_path)
    mse = [line["mse"] for line in lines(tmp_path)]
    assert sum(mse[-5:]) < 0.7 * sum(mse[:5])


def test_a_killed_run_resumes_to_the_same_bits(
    series: list[TrainingSeries], tokenizer: Path, tmp_path: Path
) -> None:
    train_predictor(predictor_settings(), tokenizer, series, tmp_path / "whole")

    class KilledError(Exception):
        pass

    def die_after_five(line: str) -> None:
        if line.startswith("step 5/"):
            raise KilledError

    with pytest.raises(KilledError):
        train_predictor(
            predictor_settings(), tokenizer, series, tmp_path / "cut", report=die_after_five
        )
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    train_predictor(predictor_settings(), tokenizer, series, tmp_path / "cut")
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    cut = load_file(tmp_path / "cut" / "model.safetensors")
    assert all(torch.equal(cut[name], value) for name, value in whole.items())


def test_a_finished_run_is_left_alone_and_never_taken_for_another(
    series: list[TrainingSeries], tokenizer: Path
) -> None:
    before = (tokenizer / "model.safetensors").read_bytes(), lines(tokenizer)
    train_tokenizer(tokenizer_settings(), series, tokenizer)
    assert before == ((tokenizer / "model.safetensors").read_bytes(), lines(tokenizer))
    with pytest.raises(TrainingError, match="other settings"):
        train_tokenizer(tokenizer_settings(steps=7), series, tokenizer)
    with pytest.raises(TrainingError, match="other bars"):
        train_tokenizer(tokenizer_settings(), series[1:], tokenizer)
    with pytest.raises(TrainingError, match=r"by 1 worker\(s\), now there are 2.*--workers 1"):
        TrainingRun(tokenizer_settings(), series, world=2).resumes_after(tokenizer)


def test_a_damaged_checkpoint_is_named(series: list[TrainingSeries], tmp_path: Path) -> None:
    train_tokenizer(tokenizer_settings(steps=4), series, tmp_path)
    (tmp_path / "checkpoints" / "step-00000004" / "state.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match=r"state\.pt: damaged.*Remove the folder step-00000004"):
        train_tokenizer(tokenizer_settings(steps=4), series, tmp_path)


def test_fine_tuning_starts_from_the_given_weights(
    series: list[TrainingSeries], tokenizer: Path, tmp_path: Path
) -> None:
    train_tokenizer(tokenizer_settings(steps=1), series, tmp_path / "a", start_from=tokenizer)
    train_tokenizer(tokenizer_settings(steps=1), series, tmp_path / "b")
    assert lines(tmp_path / "a")[0]["loss"] < lines(tmp_path / "b")[0]["loss"]
    other = tokenizer_settings().model_dump() | {
        "model": {**tokenizer_settings().model_dump()["model"], "ff_dim": 32}
    }
    with pytest.raises(TrainingError, match="ff_dim=16"):
        train_tokenizer(
            TokenizerTraining.model_validate(other), series, tmp_path / "c", start_from=tokenizer
        )


def test_half_precision_storage_is_smaller_and_loads_as_float32(
    series: list[TrainingSeries], tokenizer: Path, tmp_path: Path
) -> None:
    settings = tokenizer_settings(run={**shared_parts(6)["run"], "storage": "float16"})
    train_tokenizer(settings, series, tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size < 0.7 * (tokenizer / "model.safetensors").stat().st_size
    model = KronosTokenizer.from_pretrained(tmp_path)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_predictor_of_other_bits_than_the_tokenizer_is_refused(
    series: list[TrainingSeries], tokenizer: Path, tmp_path: Path
) -> None:
    settings = predictor_settings().model_dump()
    settings["model"]["s2_bits"] = 5
    with pytest.raises(TrainingError, match=r"s2_bits=5.*the tokenizer has 4 and 4"):
        train_predictor(
            PredictorTraining.model_validate(settings),
            tokenizer,
            series,
            tmp_path,
        )


def test_a_loss_that_stops_being_finite_names_the_batch_and_keeps_the_last_checkpoint(
    series: list[TrainingSeries], tmp_path: Path
) -> None:
    broken = [TrainingSeries(s.symbol, s.timestamps_N, s.values_NF.copy()) for s in series]
    broken[2].values_NF[60:64, 0] = np.nan  # a bar that no import would let through
    with pytest.raises(TrainingError, match=r"step \d+: loss nan.*SIM\w+ 2015-"):
        train_tokenizer(tokenizer_settings(steps=60), broken, tmp_path)
    kept = Checkpoints(tmp_path / "checkpoints", 2).newest()
    assert kept is None or kept.step < 60
    assert all(np.isfinite(line["loss"]) for line in lines(tmp_path))


def test_validation_leaves_dropout_and_mode_as_they_were(
    series: list[TrainingSeries], tokenizer: Path
) -> None:
    frozen = KronosTokenizer.from_pretrained(tokenizer)
    settings = predictor_settings()
    assert settings.model is not None
    model = Kronos(**settings.model.model_dump()).train()
    pool = split_series(series, settings.data, settings.windows).train
    batches = validation_batches(pool, lookback=24, horizon=8, view=View(), count=6, size=4)
    before = torch.get_rng_state()
    first = measure_predictor(model, frozen, batches)
    assert first == measure_predictor(model, frozen, batches)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert model.token_drop.p == 0.1


def test_simulated_bars_alone_are_enough(tmp_path: Path) -> None:
    settings = tokenizer_settings().model_dump(mode="json")
    settings["data"] |= {"simulated": MARKET.model_dump(mode="json"), "simulated_share": 1.0}
    told: list[str] = []
    train_tokenizer(
        TokenizerTraining.model_validate(settings),
        training_series([], MARKET),
        tmp_path,
        report=told.append,
    )
    assert any(line.startswith("simulated: 4 symbols") for line in told)
    assert (tmp_path / "model.safetensors").is_file()


def test_no_bars_at_all_says_what_to_do() -> None:
    with pytest.raises(TrainingError, match="--store"):
        training_series([], None)
