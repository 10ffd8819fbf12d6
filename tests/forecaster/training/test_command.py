"""The configs that ship, and the weights that one of them made."""

from __future__ import annotations

from pathlib import Path

import pytest

from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tokenizer import KronosTokenizer

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "train"


@pytest.mark.parametrize("part", ["tokenizer", "predictor"])
@pytest.mark.parametrize(("recipe", "name"), [("returns", "nano"), ("levels", "nano-levels")])
def test_the_shipped_configs_are_valid_and_match_the_shipped_weights(
    recipe: str, name: str, part: str
) -> None:
    from cluster.settings import load_settings
    from forecaster.registry import KNOWN
    from forecaster.training import PredictorTraining, TokenizerTraining

    model = TokenizerTraining if part == "tokenizer" else PredictorTraining
    settings = load_settings(CONFIGS / f"{recipe}_{part}.yaml", model)
    spec = KNOWN[name]
    assert settings.data.train_through == spec.trained_through
    folder = spec.tokenizer if part == "tokenizer" else spec.predictor
    kind = KronosTokenizer if part == "tokenizer" else Kronos
    shape = type(settings.model)
    assert shape(**kind.from_pretrained(folder).config) == settings.model


@pytest.mark.parametrize("part", ["tokenizer", "predictor"])
def test_the_example_of_fine_tuning_is_valid(part: str) -> None:
    from cluster.settings import load_settings
    from forecaster.training import PredictorTraining, TokenizerTraining

    model = TokenizerTraining if part == "tokenizer" else PredictorTraining
    settings = load_settings(CONFIGS / f"finetune_{part}.yaml", model)
    assert settings.model is None
    assert settings.run.publish == "best"
    if part == "predictor":
        text = (CONFIGS / "finetune_predictor.yaml").read_text()
        for section in (settings.data, settings.windows, settings.optimiser, settings.run):
            for key in type(section).model_fields:
                assert f"{key}:" in text, "the example names every key"


def test_the_model_in_the_box_is_small() -> None:
    from forecaster.registry import MODELS

    size = sum(path.stat().st_size for path in (MODELS / "nano").rglob("*.safetensors"))
    assert 0 < size <= 3_000_000
