"""`candlecast train`: from a history on disk to a model folder, and what wrong input gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tokenizer import KronosTokenizer

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "train"
TINY = {
    "seed": 1,
    "data": {"train_through": "2015-06-30", "validation_through": "2016-12-31", "purge_bars": 4},
    "windows": {"lookbacks": [16], "horizon": 4, "validation_horizon": 4},
    "optimiser": {"steps": 2, "batch_size": 2, "max_lr": 1e-3, "clip_norm": 2.0},
    "run": {"validation_windows": 4},
}
TOKENIZER = {
    "d_model": 16, "n_heads": 2, "ff_dim": 16, "n_enc_layers": 2, "n_dec_layers": 2,
    "s1_bits": 4, "s2_bits": 4,
}  # fmt: skip
PREDICTOR = {
    "s1_bits": 4, "s2_bits": 4, "n_layers": 1, "d_model": 16, "n_heads": 2, "ff_dim": 16,
}  # fmt: skip


def write(path: Path, **changes: object) -> Path:
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    return path


@pytest.mark.parametrize("part", ["tokenizer", "predictor"])
def test_the_shipped_configs_are_valid_and_match_the_shipped_weights(part: str) -> None:
    from cluster.settings import load_settings
    from forecaster.registry import KNOWN
    from forecaster.training import PredictorTraining, TokenizerTraining

    model = TokenizerTraining if part == "tokenizer" else PredictorTraining
    settings = load_settings(CONFIGS / f"nano_{part}.yaml", model)
    spec = KNOWN["nano"]
    assert settings.data.train_through == spec.trained_through
    folder = spec.tokenizer if part == "tokenizer" else spec.predictor
    kind = KronosTokenizer if part == "tokenizer" else Kronos
    assert kind.from_pretrained(folder).config == settings.model.model_dump()


def test_the_model_in_the_box_is_small() -> None:
    from forecaster.registry import MODELS

    size = sum(path.stat().st_size for path in (MODELS / "nano").rglob("*.safetensors"))
    assert 0 < size <= 3_000_000
