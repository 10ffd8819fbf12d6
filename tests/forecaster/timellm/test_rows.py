"""A row's forecast is its own business: not its company's, its place's, or the batch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forecaster.timellm import TimeLLM, TimeLLMForecaster, build_model
from forecaster.timellm.backbone import Backbone
from forecaster.timellm.rows import TILE, forecast_rows
from tests.forecaster.timellm.conftest import HORIZON, LOOKBACK, Configure

KINDS = ["gpt2", "llama", "bert", "none", "attention", "nlinear", "dlinear"]


def mixed_series(count: int = 16) -> list[np.ndarray]:
    """Series of many lengths and scales; one is constant, one nearly so far from zero."""
    rng = np.random.default_rng(3)
    found = [
        10.0 ** rng.integers(-6, 9) * (5 + rng.normal(size=rng.integers(20, 200)).cumsum())
        for _ in range(count - 2)
    ]
    return [*found, np.full(70, 42.0), 1e6 + 1e-3 * rng.normal(size=90)]


def forecaster(kind: str, configure: Configure) -> TimeLLMForecaster:
    torch.manual_seed(1)
    errors = np.zeros((40, HORIZON, 6), dtype=np.float32)
    return TimeLLMForecaster(build_model(configure(kind)), errors)


@pytest.mark.parametrize("kind", KINDS)
def test_alone_together_and_shuffled_are_the_same(kind: str, configure: Configure) -> None:
    model, series = forecaster(kind, configure), mixed_series()
    together = model.forecast(series)
    order = np.random.default_rng(5).permutation(len(series))
    shuffled = dict(zip(order.tolist(), model.forecast([series[i] for i in order]), strict=True))
    for i, one in enumerate(series):
        alone = model.forecast([one])[0]
        assert np.isfinite(alone).all()
        assert np.array_equal(alone, together[i]), i
        assert np.array_equal(alone, shuffled[i]), i


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_prompts_of_different_lengths_share_a_batch(kind: str, configure: Configure) -> None:
    """Padding is masked also where the whole batch goes through the network at once."""
    torch.manual_seed(1)
    model = build_model(configure(kind)).eval()
    assert isinstance(model, TimeLLM)
    x_BL = torch.randn(12, LOOKBACK).cumsum(1)
    lengths = {len(ids) for ids in model.prompter.ids(x_BL)}
    with torch.no_grad():
        at_once = model(x_BL)
        one_by_one = torch.cat([model(row[None]) for row in x_BL])
    assert len(lengths) > 2
    assert torch.allclose(at_once, one_by_one, atol=1e-5)
    assert torch.allclose(at_once, forecast_rows(model, x_BL), atol=1e-5)


@pytest.mark.parametrize(("kind", "causal"), [("gpt2", True), ("llama", True), ("bert", False)])
def test_what_all_prompts_begin_with_is_read_once(
    kind: str, causal: bool, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    model = build_model(configure(kind)).eval()
    assert isinstance(model, TimeLLM)
    x_BL = torch.randn(5, LOOKBACK).cumsum(1)
    ids = model.prompter.ids(x_BL)
    shared = model.prompter.shared_ids
    assert len(shared) > 10
    assert all(one[: len(shared)] == shared for one in ids)
    assert (model.shape_of(ids[0])[0] == len(shared)) is causal
    kept = forecast_rows(model, x_BL)
    monkeypatch.setattr(Backbone, "begun", lambda *_: 0)
    assert torch.allclose(kept, forecast_rows(model, x_BL), atol=2e-6)


def test_tiles_need_not_divide_the_rows(configure: Configure) -> None:
    torch.manual_seed(1)
    model = build_model(configure("none")).eval()
    x_BL = torch.randn(2 * TILE + 3, LOOKBACK)
    whole = forecast_rows(model, x_BL)
    assert torch.equal(whole[-1:], forecast_rows(model, x_BL[-1:]))
