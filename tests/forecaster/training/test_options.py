"""What a run can be asked for: averages, half precision, parts, the best weights; and no leaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.training import (
    PredictorTraining,
    TrainingError,
    TrainingRun,
    TrainingSeries,
    train_predictor,
    train_tokenizer,
    training_series,
)
from forecaster.training.data.splits import is_held_out
from forecaster.training.losses import predictor_loss
from forecaster.training.run_log import read_metrics
from market.errors import ConfigError
from tests.forecaster.training.test_run import (
    MARKET,
    predictor_settings,
    shared_parts,
    tokenizer_settings,
)

HELD_OUT = 0.35


@pytest.fixture(scope="module")
def series() -> list[TrainingSeries]:
    simulated = training_series([], MARKET)
    return [TrainingSeries(s.symbol, s.timestamps_N, s.values_NF) for s in simulated]


@pytest.fixture(scope="module")
def tokenizer(series: list[TrainingSeries], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(tokenizer_settings(), series, out)
    return out


def changed(part: str, **values: Any) -> dict[str, Any]:
    return {part: {**shared_parts(6)[part], **values}}


def plain_predictor(**changes: Any) -> PredictorTraining:
    """Without dropout, so that curves compare."""
    model = {**predictor_settings().model_dump()["model"], "resid_dropout_p": 0.0}
    return predictor_settings(model={**model, "token_dropout_p": 0.0}, **changes)


def losses(folder: Path, name: str = "loss") -> list[float]:
    return [line[name] for line in read_metrics(folder)]


def test_poisoned_validation_test_and_held_out_bars_change_no_bit_of_the_model(
    series: list[TrainingSeries], tokenizer: Path, tmp_path: Path
) -> None:
    split = changed("data", test_through="2016-12-31", held_out_share=HELD_OUT)
    split["data"]["validation_through"] = "2016-02-29"
    settings = predictor_settings(**split)
    assert 0 < sum(is_held_out(s.symbol, HELD_OUT) for s in series) < len(series)
    poisoned = []
    for one in series:
        values = one.values_NF.copy()
        later = one.timestamps_N >= np.datetime64("2016-01-01")
        values[later] *= np.linspace(1, 9, later.sum())[:, None]
        if is_held_out(one.symbol, HELD_OUT):
            values *= 3.7
        poisoned.append(TrainingSeries(one.symbol, one.timestamps_N, values))
    clean = train_predictor(settings, tokenizer, series, tmp_path / "clean")
    other = train_predictor(settings, tokenizer, poisoned, tmp_path / "poisoned")
    ours, theirs = (load_file(tmp_path / f / "model.safetensors") for f in ("clean", "poisoned"))
    assert all(torch.equal(theirs[name], value) for name, value in ours.items())
    assert losses(tmp_path / "clean") == losses(tmp_path / "poisoned")
    for name in ("later_ce", "held_out_ce", "test_ce"):
        assert clean[name] != other[name], "the poison was in the bars that measure"


def test_the_average_of_the_weights_is_published(
    series: list[TrainingSeries], tmp_path: Path
) -> None:
    decay = 0.7
    settings = tokenizer_settings(
        **changed("optimiser", ema_decay=decay),
        **changed("run", checkpoint_every=1, keep_checkpoints=6),
    )
    train_tokenizer(settings, series, tmp_path)
    average: dict[str, torch.Tensor] = {}
    for step in range(1, 7):
        state = torch.load(
            tmp_path / "checkpoints" / f"step-{step:08d}" / "state.pt", weights_only=True
        )
        for name, value in state["model"].items():
            if value.is_floating_point():
                before = average.get(name, value)
                average[name] = decay * before + (1 - decay) * value
    published = load_file(tmp_path / "model.safetensors")
    for name, value in average.items():
        torch.testing.assert_close(published[name], value, rtol=1e-5, atol=1e-7)


def test_parts_of_a_batch_add_up_to_it(
    series: list[TrainingSeries], tokenizer: Path, tmp_path: Path
) -> None:
    train_predictor(plain_predictor(), tokenizer, series, tmp_path / "whole")
    settings = plain_predictor(**changed("optimiser", accumulate=2))
    train_predictor(settings, tokenizer, series, tmp_path / "parts")
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(
            losses(tmp_path / "parts", name), losses(tmp_path / "whole", name), rtol=1e-4
        )
    with pytest.raises(ConfigError, match="accumulate=3 does not divide"):
        plain_predictor(**changed("optimiser", accumulate=3))


def test_half_precision_products_follow_the_curve_and_keep_full_weights(
    series: list[TrainingSeries], tokenizer: Path, tmp_path: Path
) -> None:
    train_predictor(plain_predictor(), tokenizer, series, tmp_path / "full")
    settings = plain_predictor(**changed("optimiser", precision="bfloat16"))
    train_predictor(settings, tokenizer, series, tmp_path / "half")
    assert losses(tmp_path / "half") != losses(tmp_path / "full")
    np.testing.assert_allclose(losses(tmp_path / "half"), losses(tmp_path / "full"), rtol=0.02)
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {v.dtype for v in stored.values() if v.is_floating_point()} == {torch.float32}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch about itself
def test_a_compiled_network_follows_the_same_curve(
    series: list[TrainingSeries], tokenizer: Path, tmp_path: Path
) -> None:
    short = {"steps": 2}
    train_predictor(
        plain_predictor(**changed("optimiser", **short)), tokenizer, series, tmp_path / "plain"
    )
    settings = plain_predictor(**changed("optimiser", **short, compile="aot_eager"))
    train_predictor(settings, tokenizer, series, tmp_path / "compiled")
    np.testing.assert_allclose(losses(tmp_path / "compiled"), losses(tmp_path / "plain"), rtol=1e-4)


def test_s2_can_be_trained_on_sampled_s1(tokenizer: Path, series: list[TrainingSeries]) -> None:
    settings = plain_predictor()
    run = TrainingRun(settings, series, tokenizer=tokenizer)
    batch = run.plan.batch(0)
    frozen = KronosTokenizer.from_pretrained(tokenizer)
    s1, s2 = frozen.encode_pair(torch.from_numpy(batch.x_BTF))
    stamp = torch.from_numpy(batch.stamp_BT)
    run.model.train()
    given = predictor_loss(run.model, s1, s2, stamp)  # type: ignore[arg-type]
    torch.manual_seed(1)
    one = predictor_loss(run.model, s1, s2, stamp, s1_conditioning="sampled")  # type: ignore[arg-type]
    torch.manual_seed(1)
    again = predictor_loss(run.model, s1, s2, stamp, s1_conditioning="sampled")  # type: ignore[arg-type]
    other = predictor_loss(run.model, s1, s2, stamp, s1_conditioning="sampled")  # type: ignore[arg-type]
    assert torch.equal(one.ce_s1, given.ce_s1)
    assert torch.equal(one.ce_s2, again.ce_s2)
    assert not torch.equal(one.ce_s2, other.ce_s2)
    assert not torch.equal(one.ce_s2, given.ce_s2)


@pytest.mark.parametrize("by", ["loss", "crps", "rank_ic"])
def test_the_best_checkpoint_is_published_and_its_record_admits_what_chose_it(
    series: list[TrainingSeries], tokenizer: Path, tmp_path: Path, by: str
) -> None:
    run = changed(
        "run", publish="best", best_by=by, validate_every=1, keep_checkpoints=1,
        forecast_dates=2, forecast_paths=4,
    )  # fmt: skip
    settings = predictor_settings(**run, **changed("optimiser", max_lr=0.3))
    figures = train_predictor(settings, tokenizer, series, tmp_path)
    lines = read_metrics(tmp_path)
    name = {"loss": "later_ce", "crps": "later_crps", "rank_ic": "later_rank_ic"}[by]
    scores = [line[name] for line in lines]
    best = max(scores) if by == "rank_ic" else min(scores)
    assert figures[name] == best
    chosen = lines[scores.index(best)]["step"]
    published = load_file(tmp_path / "model.safetensors")
    kept = load_file(tmp_path / "checkpoints" / f"step-{chosen:08d}" / "model.safetensors")
    assert all(torch.equal(kept[key], value) for key, value in published.items())
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["trained_through"] == "2016-12-31"


def test_what_cannot_be_chosen_by_is_refused(series: list[TrainingSeries], tokenizer: Path) -> None:
    with pytest.raises(ConfigError, match="a tokenizer alone cannot"):
        tokenizer_settings(**changed("run", best_by="crps"))
    with pytest.raises(ConfigError, match="held_out_share > 0"):
        tokenizer_settings(**changed("run", best_on="held_out"))
    settings = predictor_settings(
        **changed("run", publish="best"), **changed("windows", validation_horizon=90)
    )
    with pytest.raises(TrainingError, match="best needs later validation windows"):
        TrainingRun(settings, series, tokenizer=tokenizer)


def test_a_fine_tuned_model_has_seen_what_its_base_saw(
    series: list[TrainingSeries], tokenizer: Path, tmp_path: Path
) -> None:
    def through(folder: Path) -> object:
        return json.loads((folder / "training.json").read_text())["trained_through"]

    later = tmp_path / "later"
    train_tokenizer(tokenizer_settings(steps=1), series, later)
    record = json.loads((later / "training.json").read_text())
    (later / "training.json").write_text(json.dumps({**record, "trained_through": "2024-05-06"}))
    train_tokenizer(tokenizer_settings(steps=1), series, tmp_path / "tuned", start_from=later)
    assert through(tmp_path / "tuned") == "2024-05-06"
    train_predictor(predictor_settings(steps=1), later, series, tmp_path / "on_top")
    assert through(tmp_path / "on_top") == "2024-05-06"
    (later / "training.json").unlink()
    train_predictor(predictor_settings(steps=1), later, series, tmp_path / "unknown")
    assert through(tmp_path / "unknown") is None


def test_tensorboard_holds_the_same_figures(series: list[TrainingSeries], tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train_tokenizer(tokenizer_settings(**changed("run", tensorboard=True)), series, tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    told = {event.step: event.value for event in events.Scalars("loss")}
    for line in read_metrics(tmp_path):
        assert told[line["step"]] == pytest.approx(line["loss"], rel=1e-6)
