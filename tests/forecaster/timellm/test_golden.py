"""Time-LLM against what the reference implementation answered, on two backbones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from forecaster.timellm import PointConfig, TimeLLM, build_model
from forecaster.timellm.patching import normalise_instances
from forecaster.timellm.prompt import prompt_text, statistics
from forecaster.timellm.rows import forecast_rows

NAMES = {
    "patch_embedding.value_embedding.tokenConv": "patch_embedding.convolution",
    "mapping_layer": "reprogramming.mapping",
    "reprogramming_layer.query_projection": "reprogramming.query",
    "reprogramming_layer.key_projection": "reprogramming.key",
    "reprogramming_layer.value_projection": "reprogramming.value",
    "reprogramming_layer.out_projection": "reprogramming.out",
    "output_projection.linear": "head.linear",
}
"""The reference's names of what is trained."""


def own_name(name: str) -> str:
    part, _, kind = name.rpartition(".")
    return f"{NAMES[part]}.{kind}"


class Golden(NamedTuple):
    model: TimeLLM
    expected: dict[str, Any]
    about: dict[str, Any]

    @property
    def x_BL(self) -> torch.Tensor:
        return torch.from_numpy(self.expected["x"])[..., 0]

    @property
    def z_BL(self) -> torch.Tensor:
        return normalise_instances(self.x_BL).z_BL

    def off(self, found: torch.Tensor, name: str) -> float:
        """Largest difference from the reference's array of this name."""
        return float(np.abs(found.detach().numpy() - self.expected[name]).max())


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def golden(request: pytest.FixtureRequest, golden_dir: Path) -> Golden:
    folder = golden_dir / "timellm" / request.param
    about = json.loads((folder / "meta.json").read_text())
    settings = about["config"]
    config = PointConfig(
        backbone=str(folder / "llm"),
        backbone_layers=settings["llm_layers"],
        lookback=settings["seq_len"],
        horizon=settings["pred_len"],
        patch_length=settings["patch_len"],
        stride=settings["stride"],
        d_model=settings["d_model"],
        n_heads=settings["n_heads"],
        d_ff=settings["d_ff"],
        prototypes=about["num_prototypes"],
        dropout=settings["dropout"],
        description=settings["content"],
    )
    model = build_model(config)
    stored = load_file(folder / "trainable.safetensors")
    model.load_state_dict({own_name(name): value for name, value in stored.items()})
    assert isinstance(model, TimeLLM)
    with np.load(folder / "expected.npz") as arrays:
        return Golden(model.eval(), dict(arrays), about)


def test_prompts_and_their_tokens_are_identical(golden: Golden) -> None:
    found = statistics(golden.z_BL)
    assert prompt_text(golden.model.config, found) == golden.about["prompts"]
    assert np.array_equal(found.lags_BK, golden.expected["lags"])
    for row, ids in enumerate(golden.model.prompter.ids(golden.z_BL)):
        assert list(ids) == golden.expected[f"prompt_ids_{row}"][0].tolist()


def test_every_stage_agrees(golden: Golden) -> None:
    model = golden.model
    with torch.no_grad():
        stages = {
            "patch_embedding": model.patch_embedding(golden.z_BL),
            "source_embeddings": model.reprogramming.prototypes(model.backbone.words),
            "reprogrammed": model.reprogrammed(golden.z_BL),
            "head_out": model.head(model.states(golden.z_BL))[:, None],
            "forecast": model(golden.x_BL)[..., None],
        }
    for name, found in stages.items():
        assert golden.off(found, name) < 2e-5, name
    assert golden.off(forecast_rows(model, golden.x_BL)[..., None], "forecast") < 2e-5


def test_the_loss_and_its_gradients_agree(golden: Golden) -> None:
    model, expected = golden.model, golden.expected
    model.zero_grad()
    target = torch.from_numpy(expected["future"])[:1, :, 0]
    loss = torch.nn.functional.mse_loss(model(golden.x_BL[:1]), target)
    loss.backward()
    assert abs(loss.item() - float(expected["loss_series0"])) < 1e-6
    weights = dict(model.named_parameters())
    names = golden.about["trainable_parameter_order"]
    assert {own_name(name) for name in names} == set(weights)
    for name, norm in zip(names, expected["grad_norms_series0"].tolist(), strict=True):
        gradient = weights[own_name(name)].grad
        assert gradient is not None, name
        # A bias of the keys moves all scores alike: its gradient is zero, and both have rounding.
        room = 1e-7 if name == "reprogramming_layer.key_projection.bias" else 1e-4 * norm
        assert abs(gradient.norm().item() - norm) <= room, name
    assert not any(p.requires_grad for p in model.backbone.network.parameters())
