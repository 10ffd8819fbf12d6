"""The engine on a GPU: what the CPU's answers, in any batch. Skips without one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from forecaster import KronosForecaster, SamplingParams
from forecaster.interface import Precision
from forecaster.kronos import reference
from forecaster.kronos.engine import Engine, Tokens
from forecaster.registry import load_forecaster

from .conftest import engine_generate, random_windows, small_predictor, small_tokenizer
from .test_engine import inputs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_greedy_forecasts_are_those_of_the_plain_generation() -> None:
    given = [part.cuda() for part in inputs(2, 20, 6, 3)]
    networks = small_tokenizer().cuda(), small_predictor().cuda()
    greedy = SamplingParams(1.0, 1, 1.0)
    bars, _, _ = engine_generate(*networks, *given, greedy, 64)
    expected, _, _ = reference.generate(*networks, *given, greedy, 64)
    torch.testing.assert_close(bars, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("precision", "near"), [("float32", 5e-4), ("bfloat16", 0.2)])
def test_logits_are_those_of_the_cpu(precision: Precision, near: float) -> None:
    x, stamp, u = inputs(3, 40, 12, 5)
    tokenizer, predictor = small_tokenizer(), small_predictor()
    past = Engine(tokenizer, predictor, 64).past(x, stamp, 12)
    tokens = past.sample(u, SamplingParams())
    expected = past.replay(tokens)
    engine = Engine(tokenizer.cuda(), predictor.cuda(), 64, precision)
    moved = Tokens(*(ids.cuda() for ids in tokens))
    for ours, theirs in zip(
        engine.past(x.cuda(), stamp.cuda(), 12).replay(moved), expected, strict=True
    ):
        torch.testing.assert_close(ours.cpu().float(), theirs, rtol=near, atol=near)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_forecast_does_not_depend_on_its_batch(precision: Precision) -> None:
    forecaster = load_forecaster("nano", device="cuda:0", precision=precision).forecaster
    assert isinstance(forecaster, KronosForecaster)
    windows = random_windows(12, 64, 8, 1)
    params = SamplingParams()
    whole = forecaster.sample_paths(windows, n_paths=10, sampling=params, seed=1)
    order = np.random.default_rng(0).permutation(12)
    for rows in (order, order[:5], order[5:], order[:1]):
        part = replace(
            windows,
            symbols=tuple(windows.symbols[i] for i in rows),
            as_of_B=windows.as_of_B[rows],
            values_BLF=windows.values_BLF[rows],
            timestamps_BL=windows.timestamps_BL[rows],
            future_BH=windows.future_BH[rows],
        )
        alone = forecaster.sample_paths(part, n_paths=10, sampling=params, seed=1)
        np.testing.assert_array_equal(alone.values_BSHF, whole.values_BSHF[rows])
