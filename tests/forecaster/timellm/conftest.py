"""Backbones with random weights, made once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from forecaster.timellm import PointConfig, write_random_backbone

LOOKBACK, HORIZON = 64, 8


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders by kind: two decoders, and an encoder whose positions see each other."""
    from transformers import BertConfig, BertModel

    root = tmp_path_factory.mktemp("backbones")
    gpt2 = write_random_backbone(root / "gpt2", width=32, layers=2, vocabulary=400)
    llama = write_random_backbone(root / "llama", kind="llama", width=32, layers=2, vocabulary=400)
    bert = root / "bert"
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=64, max_position_embeddings=512,
        )
    ).save_pretrained(bert)  # fmt: skip
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bert / name).write_bytes((gpt2 / name).read_bytes())
    return {"gpt2": str(gpt2), "llama": str(llama), "bert": str(bert)}


Configure = Callable[..., PointConfig]


@pytest.fixture(scope="session")
def configure(backbones: dict[str, str]) -> Configure:
    """A small config over the backbone of a kind, or without one."""

    def make(kind: str, **changes: object) -> PointConfig:
        settings = {
            "backbone": backbones.get(kind, kind), "lookback": LOOKBACK, "horizon": HORIZON,
            "d_model": 8, "n_heads": 4, "d_ff": 8, "prototypes": 50,
        }  # fmt: skip
        return PointConfig.model_validate({**settings, **changes})

    return make


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
