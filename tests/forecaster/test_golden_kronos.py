"""Our Kronos against what the reference implementation answered, number by number."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from forecaster import Kronos, KronosPredictor, KronosTokenizer, SamplingParams
from forecaster.kronos import reference
from forecaster.kronos.sampling import filtered_probs

from .conftest import engine_generate

CASES = ["simulated", "tiny", "fixed_time"]
GREEDY = SamplingParams(temperature=1.0, top_k=1, top_p=1.0)


@dataclass(frozen=True)
class Case:
    folder: Path
    tokenizer: KronosTokenizer
    predictor: Kronos
    expected: dict[str, np.ndarray]
    meta: dict[str, list[str]]

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self.expected[name])


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, golden_dir: Path) -> Case:
    folder = golden_dir / "kronos" / request.param
    if not folder.is_dir():
        folder = request.getfixturevalue("shared_dir") / "golden" / "kronos" / request.param
    return Case(
        folder,
        KronosTokenizer.from_pretrained(folder / "tokenizer"),
        Kronos.from_pretrained(folder / "predictor"),
        dict(np.load(folder / "expected.npz")),
        json.loads((folder / "meta.json").read_text()),
    )


def assert_near(actual: Tensor, expected: Tensor, tolerance: float = 2e-5) -> None:
    error = (actual - expected).abs() / expected.abs().clamp(min=1.0)
    assert error.max().item() <= tolerance


def test_tokenizer_forward(case: Case) -> None:
    with torch.no_grad():
        x = case.tensor("x")
        latent, _ = case.tokenizer.tokenizer.quantize(case.tokenizer.latent(x))
        (from_s1, from_all), loss, quantized, ids = case.tokenizer(x)
    assert_near(latent, case.tensor("tok_latent"))
    assert_near(from_s1, case.tensor("tok_recon_s1"))
    assert_near(from_all, case.tensor("tok_recon"))
    assert_near(loss, case.tensor("tok_bsq_loss"))
    assert_near(quantized, case.tensor("tok_quantized"))
    assert torch.equal(ids, case.tensor("tok_indices"))


def test_tokens_and_their_decoding(case: Case) -> None:
    with torch.no_grad():
        s1, s2 = case.tokenizer.encode(case.tensor("x"), half=True)
        composite = case.tokenizer.encode(case.tensor("x"))
        half = case.tokenizer.decode([s1, s2], half=True)
        full = case.tokenizer.decode(composite)
    assert torch.equal(s1, case.tensor("s1_ids"))
    assert torch.equal(s2, case.tensor("s2_ids"))
    assert torch.equal(composite, case.tensor("tok_indices"))
    assert_near(half, case.tensor("tok_decoded_half"))
    assert_near(full, case.tensor("tok_decoded_full"))


def test_predictor_logits(case: Case) -> None:
    s1, s2, stamp = (case.tensor(k) for k in ("s1_ids", "s2_ids", "stamp"))
    with torch.no_grad():
        logits, context = case.predictor.decode_s1(s1, s2, stamp)
        s2_logits = case.predictor.decode_s2(context, case.tensor("s1_pick"))
    assert_near(logits, case.tensor("s1_logits"))
    assert_near(context, case.tensor("context"))
    assert_near(s2_logits[:, -1], case.tensor("s2_logits_last_given_argmax_s1"))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_full_sequence_pass(case: Case, mode: str) -> None:
    s1, s2, stamp = (case.tensor(k) for k in ("s1_ids", "s2_ids", "stamp"))
    model = case.predictor.train(mode == "train")
    s1_logits, s2_logits = model(
        s1[:, :-1], s2[:, :-1], stamp[:, :-1], use_teacher_forcing=True, s1_targets=s1[:, 1:]
    )
    assert_near(s1_logits, case.tensor(f"tf_{mode}_s1_logits"))
    assert_near(s2_logits, case.tensor(f"tf_{mode}_s2_logits"))
    if mode == "train":
        loss, ce_s1, ce_s2 = model.head.compute_loss(s1_logits, s2_logits, s1[:, 1:], s2[:, 1:])
        assert_near(loss, case.tensor("tf_train_loss"), 1e-5)
        assert_near(ce_s1, case.tensor("tf_train_ce_s1"), 1e-5)
        assert_near(ce_s2, case.tensor("tf_train_ce_s2"), 1e-5)
        loss.backward()
        _assert_gradients(model, case, "predictor")


def test_tokenizer_gradients(case: Case) -> None:
    x = case.tensor("x")
    model = case.tokenizer.train()
    (from_s1, from_all), bsq_loss, _, _ = model(x)
    mse = torch.nn.functional.mse_loss
    loss = (mse(from_s1, x) + mse(from_all, x) + bsq_loss) / 2
    assert_near(loss, case.tensor("tok_train_loss"), 1e-5)
    loss.backward()
    _assert_gradients(model, case, "tokenizer")


def _assert_gradients(model: torch.nn.Module, case: Case, which: str) -> None:
    parameters = dict(model.named_parameters())
    order = case.meta[f"parameter_order_{which}"]
    assert sorted(order) == sorted(parameters)
    for name, norm in zip(order, case.expected[f"grad_norms_{which}"], strict=True):
        grad = parameters[name].grad
        if norm < 0:
            assert grad is None, name
        else:
            assert grad is not None, name
            # Key biases have a gradient of exactly zero in theory: rounding noise, not signal.
            assert grad.norm().item() == pytest.approx(norm, rel=1e-4, abs=1e-7), name


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, 0, 0.9), (0.6, 0, 0.9), (1.3, 5, 1.0), (1.0, 0, 0.99), (0.8, 7, 0.5)],
)
def test_sampling_distribution(case: Case, temperature: float, top_k: int, top_p: float) -> None:
    expected = case.tensor(f"probs_T{temperature}_k{top_k}_p{top_p}")
    sampling = SamplingParams(temperature, top_k, top_p)
    probs = filtered_probs(case.tensor("s1_logits")[:, -1], sampling, reference_rule=True)
    assert (probs - expected).abs().max().item() <= 1e-6


@pytest.mark.parametrize("which", ["within", "overflow", "long"])
@pytest.mark.parametrize("generate", [reference.generate, engine_generate])
def test_greedy_forecast(case: Case, which: str, generate) -> None:  # type: ignore[no-untyped-def]
    x, stamp = case.tensor(f"greedy_{which}_x"), case.tensor(f"greedy_{which}_stamp")
    expected = case.tensor(f"greedy_{which}_pred")
    context = {"within": 128, "overflow": 110, "long": 128}[which]
    u = torch.full((len(x), 1, expected.shape[1], 2), 0.5)
    bars, _, _ = generate(
        case.tokenizer, case.predictor, x, stamp, u, GREEDY, context, reference_rule=True
    )
    torch.testing.assert_close(bars[:, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("which", ["full", "without_volume"])
def test_price_forecast(case: Case, which: str) -> None:
    bars = pd.read_csv(case.folder / "bars.csv", parse_dates=["timestamps"])
    expected = pd.read_csv(case.folder / f"predict_{which}.csv", parse_dates=["timestamps"])
    past = bars.iloc[:96]
    columns = ["open", "high", "low", "close"] + ["volume", "amount"] * (which == "full")
    predictor = KronosPredictor(case.predictor, case.tokenizer, device="cpu", max_context=128)
    forecast = predictor.predict(
        past[columns],
        x_timestamp=past["timestamps"],
        y_timestamp=expected["timestamps"],
        pred_len=24,
        T=1.0,
        top_k=1,
        top_p=1.0,
        sample_count=1,
        verbose=False,
    )
    assert list(forecast.columns) == ["open", "high", "low", "close", "volume", "amount"]
    assert list(forecast.index) == list(expected["timestamps"])
    np.testing.assert_allclose(
        forecast.to_numpy(), expected[forecast.columns].to_numpy(), rtol=1e-4, atol=1e-9
    )
