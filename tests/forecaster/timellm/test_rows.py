"""A row's forecast is its own business: not its company's, its place's, or the batch's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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
    assert (model.backbone.begun(ids[0], shared) == len(shared)) is causal
    kept = forecast_rows(model, x_BL)
    monkeypatch.setattr(Backbone, "begun", lambda *_: 0)
    assert torch.allclose(kept, forecast_rows(model, x_BL), atol=2e-6)


def written(folder: Path, tokenizer_of: str, kind: str) -> str:
    """A decoder whose keys serve two heads each; `mistral` looks back 40 tokens and no further."""
    import transformers

    sizes = {
        "vocab_size": 400, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
    }  # fmt: skip
    torch.manual_seed(0)
    if kind == "qwen":
        transformers.Qwen2Model(transformers.Qwen2Config(**sizes)).save_pretrained(folder)
    else:
        windowed = transformers.MistralConfig(**sizes, sliding_window=40)
        transformers.MistralModel(windowed).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((Path(tokenizer_of) / name).read_bytes())
    return str(folder)


def padding(model: TimeLLM) -> TimeLLM:
    """The same model, its backbone made to read padded rows side by side."""
    network: Any = model.backbone.network
    network.set_attn_implementation("sdpa")
    model.backbone.packs = False
    return model


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen"])
def test_rows_behind_one_another_are_read_as_side_by_side(
    kind: str, configure: Configure, backbones: dict[str, str], tmp_path: Path
) -> None:
    if kind == "qwen":
        backbones = {**backbones, kind: written(tmp_path / kind, backbones["gpt2"], kind)}
    config = configure("none", backbone=backbones[kind], dropout=0.0)
    torch.manual_seed(1)
    x_BL = torch.randn(11, LOOKBACK).cumsum(1)
    model = build_model(config).eval()
    assert isinstance(model, TimeLLM)
    assert model.backbone.packs

    def answers() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model.zero_grad()
        model(x_BL).square().mean().backward()
        grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        return forecast_rows(model, x_BL), grads

    forecasts, gradients = answers()
    padding(model)
    padded, padded_gradients = answers()
    assert torch.allclose(forecasts, padded, atol=2e-6)
    assert gradients.keys() == padded_gradients.keys()
    for name, gradient in padded_gradients.items():
        assert torch.allclose(gradients[name], gradient, atol=1e-5, rtol=1e-4), name


def test_attention_that_looks_at_less_than_all_is_left_to_its_own_way(
    configure: Configure, backbones: dict[str, str], tmp_path: Path
) -> None:
    folder = written(tmp_path / "mistral", backbones["gpt2"], "mistral")
    torch.manual_seed(1)
    model = build_model(configure("none", backbone=folder)).eval()
    assert isinstance(model, TimeLLM)
    assert model.backbone.causal
    assert not model.backbone.packs
    x_BL = torch.randn(5, LOOKBACK).cumsum(1)
    together = forecast_rows(model, x_BL)
    assert torch.equal(together[3:4], forecast_rows(model, x_BL[3:4]))


def test_threads_do_not_disturb_each_other(configure: Configure) -> None:
    torch.manual_seed(1)
    model = build_model(configure("gpt2")).eval()
    parts = torch.randn(8, 5, LOOKBACK).cumsum(2)
    alone = [forecast_rows(model, part) for part in parts]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda part: forecast_rows(model, part), parts))
    assert all(map(torch.equal, alone, together))


def test_tiles_need_not_divide_the_rows(configure: Configure) -> None:
    torch.manual_seed(1)
    model = build_model(configure("none")).eval()
    x_BL = torch.randn(2 * TILE + 3, LOOKBACK)
    whole = forecast_rows(model, x_BL)
    assert torch.equal(whole[-1:], forecast_rows(model, x_BL[-1:]))
