"""The training recipes of the published models, against the numbers their reference gave."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.training.config import PredictorTraining, TokenizerTraining
from forecaster.training.data.pools import TrainingBatch
from forecaster.training.loop import Hooks, fit
from forecaster.training.losses import predictor_loss, tokenizer_loss
from forecaster.training.objectives import Objective, PredictorObjective, TokenizerObjective
from forecaster.training.process_group import Peers
from forecaster.training.run_log import read_metrics

Expected = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def case(golden_dir: Path) -> Path:
    return golden_dir / "kronos" / "simulated"


@pytest.fixture(scope="module")
def expected(case: Path) -> Expected:
    with np.load(case / "expected.npz") as stored:
        return dict(stored)


def grad_norms(model: torch.nn.Module, order: list[str]) -> npt.NDArray[np.float64]:
    named = dict(model.named_parameters())
    grads = [named[name].grad for name in order]
    return np.array([-1.0 if g is None else float(g.norm()) for g in grads])


def test_predictor_loss_and_gradients(case: Path, expected: Expected) -> None:
    model = Kronos.from_pretrained(case / "predictor").train()
    s1, s2 = torch.from_numpy(expected["s1_ids"]), torch.from_numpy(expected["s2_ids"])
    out = predictor_loss(model, s1, s2, torch.from_numpy(expected["stamp"]))
    np.testing.assert_allclose(out.loss.item(), expected["tf_train_loss"], atol=1e-5)
    np.testing.assert_allclose(out.ce_s1.item(), expected["tf_train_ce_s1"], atol=1e-5)
    np.testing.assert_allclose(out.ce_s2.item(), expected["tf_train_ce_s2"], atol=1e-5)
    out.loss.backward()  # type: ignore[no-untyped-call]
    order = json.loads((case / "meta.json").read_text())["parameter_order_predictor"]
    np.testing.assert_allclose(
        grad_norms(model, order), expected["grad_norms_predictor"], rtol=1e-4, atol=1e-7
    )


def test_tokenizer_loss_and_gradients(case: Path, expected: Expected) -> None:
    model = KronosTokenizer.from_pretrained(case / "tokenizer").train()
    out = tokenizer_loss(model, torch.from_numpy(expected["x"]))
    np.testing.assert_allclose(out.loss.item(), expected["tok_train_loss"], atol=1e-5)
    np.testing.assert_allclose(out.quantizer.item(), expected["tok_bsq_loss"], atol=1e-5)
    out.loss.backward()  # type: ignore[no-untyped-call]
    order = json.loads((case / "meta.json").read_text())["parameter_order_tokenizer"]
    np.testing.assert_allclose(
        grad_norms(model, order), expected["grad_norms_tokenizer"], rtol=1e-4, atol=1e-7
    )


class RecordedBatches:
    """The batches of the recorded recipe."""

    def __init__(self, expected: Expected) -> None:
        self._x, self._stamp = expected["recipe_x"], expected["recipe_stamp"]

    def batch(self, step: int, rank: int = 0, world: int = 1) -> TrainingBatch:
        x, stamp = self._x[step], self._stamp[step]
        day = np.full(len(x), np.datetime64("2024-01-01", "us"))
        symbols = tuple(f"S{b}" for b in range(len(x)))
        return TrainingBatch(x, stamp.astype(np.int64), x.shape[1] - 1, symbols, day, day)


@pytest.mark.parametrize("part", ["tokenizer", "predictor"])
def test_twelve_steps_of_the_recipe(
    part: str, case: Path, expected: Expected, tmp_path: Path
) -> None:
    shared = {
        "seed": 0,
        "data": {"train_through": date.min, "validation_through": date.max, "purge_bars": 1},
        "windows": {"lookbacks": [1], "horizon": 1},
        "run": {"log_every": 1},
    }  # fmt: skip
    recipe = {"steps": 12, "batch_size": 8, "max_lr": 1e-3}
    tokenizer = KronosTokenizer.from_pretrained(case / "tokenizer")
    objective: Objective
    settings: TokenizerTraining | PredictorTraining
    if part == "tokenizer":
        settings = TokenizerTraining.model_validate(
            {**shared, "optimiser": {**recipe, "clip_norm": 2.0}}
        )
        objective = TokenizerObjective(tokenizer, settings, Peers())
    else:
        settings = PredictorTraining.model_validate(
            {**shared, "optimiser": {**recipe, "clip_norm": 3.0, "betas": (0.9, 0.95)}}
        )
        predictor = Kronos.from_pretrained(case / "predictor")
        objective = PredictorObjective(predictor, tokenizer, settings)
    fit(
        objective,
        RecordedBatches(expected),
        settings.optimiser,
        settings.run,
        tmp_path,
        Hooks(
            validate=lambda model: {},
            score=lambda figures: None,
            publish=lambda model, place, figures: None,
        ),
        identity={},
        peers=Peers(),
    )
    lines = read_metrics(tmp_path)
    for name, recorded, rtol in (("lr", "lr", 1e-6), ("loss", "loss", 1e-4),
                                 ("grad_norm", "gradnorm", 1e-3)):  # fmt: skip
        np.testing.assert_allclose(
            [line[name] for line in lines], expected[f"recipe_{part}_{recorded}"], rtol=rtol
        )


def test_dependency_layer_as_decoded_is_what_generation_computes(
    case: Path, expected: Expected
) -> None:
    from forecaster.training.losses import s2_logits_as_decoded

    model = Kronos.from_pretrained(case / "predictor")
    s1, s2 = torch.from_numpy(expected["s1_ids"]), torch.from_numpy(expected["s2_ids"])
    with torch.no_grad():
        _, context = model.decode_s1(s1, s2, torch.from_numpy(expected["stamp"]))
        at_once = s2_logits_as_decoded(model, context, s1)
        for t in (0, 17, 79):
            one = model.decode_s2(context[:, : t + 1], s1[:, t : t + 1])[:, -1]
            torch.testing.assert_close(at_once[:, t], one, rtol=1e-4, atol=1e-5)


def test_the_loss_refuses_evaluation_mode(case: Path, expected: Expected) -> None:
    model = Kronos.from_pretrained(case / "predictor").eval()
    s1, s2 = torch.from_numpy(expected["s1_ids"]), torch.from_numpy(expected["s2_ids"])
    with pytest.raises(ValueError, match="looks ahead"):
        predictor_loss(model, s1, s2, torch.from_numpy(expected["stamp"]))
