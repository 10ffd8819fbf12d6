"""What is kept between calls, what is trained and saved, and what a model looks at."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from forecaster.timellm import PointConfig, TimeLLM, build_model, load_point_model
from forecaster.timellm.linear import DLinear, NLinear
from forecaster.timellm.patching import PatchEmbedding, normalise_instances
from forecaster.timellm.prompt import Prompter, prompt_text, statistics, top_lags
from forecaster.timellm.rows import forecast_rows
from tests.forecaster.timellm.conftest import LOOKBACK, Configure


def time_llm(configure: Configure, kind: str = "gpt2") -> TimeLLM:
    torch.manual_seed(1)
    model = build_model(configure(kind)).eval()
    assert isinstance(model, TimeLLM)
    return model


def test_prototypes_are_computed_once_per_version_of_the_weights(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = time_llm(configure)
    layer, calls = model.reprogramming, []
    compute = layer.prototypes
    monkeypatch.setattr(layer, "prototypes", lambda words: calls.append(1) or compute(words))
    x_BL = torch.randn(40, LOOKBACK)
    before = forecast_rows(model, x_BL)
    assert torch.equal(forecast_rows(model, x_BL), before)
    assert len(calls) == 1
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
    model(x_BL[:2]).square().mean().backward()
    optimiser.step()
    after = forecast_rows(model, x_BL)
    assert len(calls) == 3  # once with gradients, once for the new weights
    assert not torch.equal(before, after)
    fresh = copy.deepcopy(model)
    assert torch.equal(forecast_rows(fresh, x_BL), after)


def test_prompts_are_tokenised_once(configure: Configure) -> None:
    model = time_llm(configure)
    asked: list[str] = []
    tokenizer = model.backbone.tokenizer

    def counting(texts: list[str]) -> dict[str, list[list[int]]]:
        asked.extend(texts)
        found: dict[str, list[list[int]]] = tokenizer(texts)
        return found

    prompter = Prompter(model.config, model.backbone)
    model.backbone.tokenizer = counting  # type: ignore[assignment]
    x_BL = torch.randn(6, LOOKBACK)
    first = prompter.ids(x_BL)
    again = prompter.ids(x_BL.flip(0))
    model.backbone.tokenizer = tokenizer
    assert len(asked) == 6
    assert again == first[::-1]


def test_only_what_is_trained_is_saved(configure: Configure, tmp_path: Path) -> None:
    model = time_llm(configure)
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert set(stored) == {name for name, _ in model.named_parameters()}
    assert not any("network" in name or "backbone" in name for name in stored)
    loaded = load_point_model(tmp_path)
    x_BL = torch.randn(3, LOOKBACK)
    assert torch.equal(forecast_rows(loaded, x_BL), forecast_rows(model, x_BL))
    assert loaded.content_hash() == model.content_hash()


def test_training_leaves_the_backbone_as_it_is(configure: Configure) -> None:
    model = time_llm(configure).train()
    before = copy.deepcopy(model.backbone.network.state_dict())
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    x_BL, y_BH = torch.randn(16, LOOKBACK), torch.randn(16, model.config.horizon)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = (model(x_BL) - y_BH).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert not model.backbone.network.training
    after = model.backbone.network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("kind", ["none", "attention", "nlinear"])
def test_forecasts_follow_a_shift(kind: str, configure: Configure) -> None:
    """Not so with a prompt, which writes its numbers out to the last digit."""
    torch.manual_seed(1)
    model = build_model(configure(kind)).eval()
    x_BL = torch.randn(4, LOOKBACK).cumsum(1)
    moved = forecast_rows(model, x_BL + 8) - 8
    assert torch.allclose(moved, forecast_rows(model, x_BL), atol=2e-3)


def test_a_row_is_normalised_by_itself() -> None:
    x_BL = torch.randn(5, 33) * torch.tensor([[1e-3], [1.0], [10.0], [1e3], [0.0]])
    z_BL, loc_B1, scale_B1 = normalise_instances(x_BL)
    assert torch.allclose(z_BL[1:4].std(dim=1, unbiased=False), torch.ones(3), atol=1e-4)
    assert torch.allclose(z_BL * scale_B1 + loc_B1, x_BL, atol=1e-3)
    assert (z_BL[4] == 0).all()


@given(
    lookback=st.integers(16, 200),
    patch_length=st.integers(2, 16),
    stride=st.integers(1, 20),
)
def test_the_config_counts_the_patches_that_are_cut(
    lookback: int, patch_length: int, stride: int
) -> None:
    config = PointConfig(
        backbone="none", lookback=lookback, horizon=1, patch_length=patch_length, stride=stride
    )
    patches = PatchEmbedding(patch_length, stride, 4, 0.0).patches(torch.randn(2, lookback))
    assert patches.shape == (2, config.n_patches, patch_length)


def test_the_lags_of_a_period_come_first_and_twins_in_order() -> None:
    t = np.arange(96)
    z = np.stack([np.sin(2 * np.pi * t / 12), np.cos(2 * np.pi * t / 24)]).astype(np.float32)
    lags = top_lags(z)
    assert lags[0, 0] == 0
    assert set(lags[0].tolist()) <= {0, 12, 24, 36, 48, 60, 72, 84}
    assert set(lags[1, :4].tolist()) == {0, 24, 48, 72}
    noise = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    for row in top_lags(noise).tolist():
        later = [k for k in row if k > 32]
        assert all(64 - k in row[: row.index(k)] for k in later)


def test_a_prompt_states_what_is_asked_and_what_is_known() -> None:
    config = PointConfig(lookback=4, horizon=3, patch_length=2, description="Sales of ice.")
    [text] = prompt_text(config, statistics(torch.tensor([[1.0, -2.0, 0.5, 3.0]])))
    assert text == (
        "<|start_prompt|>Dataset description: Sales of ice.Task description: forecast the next 3 "
        "steps given the previous 4 steps information; Input statistics: min value -2.0, max value "
        "3.0, median value 0.5, the trend of input is upward, top 5 lags are : [0, 1, 3, 2]"
        "<|<end_prompt>|>"
    )


def test_linear_models_are_what_their_paper_says() -> None:
    """NLinear carries a level on untouched; DLinear splits and loses nothing."""
    torch.manual_seed(0)
    level = torch.full((1, 40), 7.0)
    nlinear, dlinear = NLinear(40, 5), DLinear(40, 5)
    with torch.no_grad():
        nlinear.linear.bias.zero_()
        assert torch.allclose(nlinear(level), torch.full((1, 5), 7.0))
        dlinear.remainder.weight.copy_(dlinear.trend.weight)
        x_BL = torch.randn(3, 40)
        biases = dlinear.trend.bias + dlinear.remainder.bias
        assert torch.allclose(dlinear(x_BL), x_BL @ dlinear.trend.weight.T + biases, atol=1e-5)
