"""One clear line for every backbone or folder that cannot work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from forecaster.timellm import (
    PointConfig,
    TimeLLMForecaster,
    build_model,
    load_point_model,
    write_random_backbone,
)
from forecaster.timellm.loading import backbone_folder, folder_hash
from forecaster.timellm.rows import forecast_rows
from market.errors import CheckpointError, ConfigError, ForecastInputError
from tests.forecaster.timellm.conftest import HORIZON, LOOKBACK, Configure, change_config


@pytest.fixture
def backbone(backbones: dict[str, str], tmp_path: Path) -> Path:
    """A backbone of one's own, to be damaged."""
    return Path(shutil.copytree(backbones["gpt2"], tmp_path / "backbone-copy"))


@pytest.fixture
def saved(configure: Configure, tmp_path: Path) -> Path:
    torch.manual_seed(1)
    errors = np.ones((40, HORIZON, 6), dtype=np.float32)
    TimeLLMForecaster(build_model(configure("none")), errors).save(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_network_without_word_embeddings(configure: Configure, backbone: Path) -> None:
    from transformers import ViTConfig, ViTModel

    for old in backbone.glob("model.safetensors"):
        old.unlink()
    ViTModel(
        ViTConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            image_size=8, patch_size=4,
        )
    ).save_pretrained(backbone)  # fmt: skip
    with pytest.raises(CheckpointError, match=r"ViTModel\) has no word embeddings.*GPT-2, LLaMA"):
        build_model(configure("none", backbone=str(backbone)))


def test_a_network_that_wants_two_inputs(configure: Configure, backbone: Path) -> None:
    from transformers import T5Config, T5Model

    for old in backbone.glob("model.safetensors"):
        old.unlink()
    T5Model(
        T5Config(
            vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
            decoder_start_token_id=0,
        )
    ).save_pretrained(backbone)  # fmt: skip
    with pytest.raises(CheckpointError, match=r"T5Model\) cannot be read as a language model"):
        build_model(configure("none", backbone=str(backbone)))


def test_a_tokenizer_without_a_pad_token_is_fine(configure: Configure, backbone: Path) -> None:
    """Nothing is padded with tokens, so there is nothing to ask for."""
    config = configure("none", backbone=str(backbone))
    torch.manual_seed(1)
    without = build_model(config).eval()
    path = backbone / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": "<|endoftext|>"}))
    torch.manual_seed(1)
    padded = build_model(config).eval()
    x_BL = torch.randn(9, LOOKBACK).cumsum(1)
    assert torch.equal(forecast_rows(padded, x_BL), forecast_rows(without, x_BL))


def test_a_prompt_longer_than_the_positions(
    configure: Configure, backbones: dict[str, str]
) -> None:
    with pytest.raises(CheckpointError, match=r"1024 positions\. Shorten description"):
        build_model(configure("gpt2", description="Long. " * 800))
    model = build_model(configure("gpt2", lookback=7200)).eval()  # what all share just fits
    with pytest.raises(CheckpointError, match=r"1024 positions\. Shorten description"):
        forecast_rows(model, torch.randn(1, 7200))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone_layers": 3}, "has 2 layers, backbone_layers=3 asks for more"),
        ({"d_ff": 33}, r"d_ff=33: the head cannot read more outputs .* has \(32\)"),
        ({"backbone": "no-such-folder"}, "no-such-folder: no such folder, not a hub id"),
    ],
)
def test_wishes_a_backbone_cannot_meet(
    changes: dict[str, object], said: str, configure: Configure
) -> None:
    with pytest.raises(CheckpointError, match=said):
        build_model(configure("gpt2", **changes))


def test_a_backbone_that_is_another_one(configure: Configure, backbone: Path) -> None:
    stated = folder_hash(backbone)
    config = configure("none", backbone=str(backbone), backbone_hash=stated)
    build_model(config)
    weights = load_file(backbone / "model.safetensors")
    save_file({k: v + 1e-3 for k, v in weights.items()}, backbone / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"another backbone .*{stated}.*give the folder"):
        build_model(config)


def test_a_backbone_that_moved(configure: Configure, backbone: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = configure("none", backbone=str(backbone), backbone_hash=folder_hash(backbone))
    model = build_model(config).eval()
    model.save_pretrained(tmp_path / "saved")
    elsewhere = backbone.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"backbone-copy: no such folder"):
        load_point_model(tmp_path / "saved")
    x_BL = torch.randn(3, LOOKBACK)
    named = load_point_model(tmp_path / "saved", elsewhere)
    shutil.move(elsewhere, tmp_path / "saved" / "backbone")
    found = load_point_model(tmp_path / "saved")
    for again in (named, found):
        assert torch.equal(forecast_rows(again, x_BL), forecast_rows(model, x_BL))
        assert again.content_hash() == model.content_hash()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", None, "not found|cannot load"),
        ("config.json", '{"model_type": "no-such-kind"}', "cannot load"),
        ("model.safetensors", "nonsense", "cannot load"),
        ("model.safetensors", None, "cannot load"),
        ("tokenizer.json", None, "no tokenizer.json; the prompt needs"),
        ("tokenizer.json", "{}", "tokenizer.json: cannot be read"),
    ],
)
def test_damaged_backbones(
    file: str, content: str | None, said: str, configure: Configure, backbone: Path
) -> None:
    (backbone / file).unlink()
    if content is not None:
        (backbone / file).write_text(content)
    with pytest.raises(CheckpointError, match=said) as error:
        build_model(configure("none", backbone=str(backbone)))
    assert "\n" not in str(error.value)


def test_damaged_models(saved: Path) -> None:
    assert load_point_model(saved).config.lookback == LOOKBACK
    change_config(saved, horizon=HORIZON + 1)
    with pytest.raises(CheckpointError, match=r"weight 'head.linear.weight' has shape"):
        load_point_model(saved)
    change_config(saved, horizon=HORIZON, heads=7)
    with pytest.raises(CheckpointError, match=r"heads: unknown key.*another kind of model"):
        load_point_model(saved)
    with pytest.raises(CheckpointError, match=r"nowhere/config.json: cannot be read"):
        load_point_model(saved / "nowhere")


def test_missing_or_foreign_errors(saved: Path) -> None:
    path = saved / "errors.safetensors"
    save_file({"errors_NHF": torch.ones(40, HORIZON + 1, 6)}, path)
    with pytest.raises(CheckpointError, match=r"belongs to another model"):
        TimeLLMForecaster.load(saved)
    save_file({"errors_NHF": torch.ones(3, HORIZON, 6)}, path)
    with pytest.raises(CheckpointError, match=r"3 validation windows have errors.*at least 30"):
        TimeLLMForecaster.load(saved)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"sample paths are drawn from these"):
        TimeLLMForecaster.load(saved)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lookback": 10}, "shorter than one patch"),
        ({"backbone": "attention", "d_model": 10}, "n_heads=8 does not divide d_model=10"),
        ({"backbone": "a/b", "description": " "}, "say what the series are"),
        ({"heads": 3}, "heads: unknown key; did you mean n_heads"),
    ],
)
def test_configs_that_make_no_model(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PointConfig.model_validate({"lookback": 64, "horizon": 4, **changes})


def test_weights_that_are_missing_or_no_numbers(configure: Configure, backbone: Path) -> None:
    weights = load_file(backbone / "model.safetensors")
    name = "h.1.mlp.c_fc.weight"
    save_file({k: v for k, v in weights.items() if k != name}, backbone / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"lacks 1 of the network's weights, first '{name}'"):
        build_model(configure("none", backbone=str(backbone)))
    weights[name].fill_(float("nan"))
    save_file(weights, backbone / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"answers are not finite; the weights are damaged"):
        build_model(configure("none", backbone=str(backbone)))


def test_a_tokenizer_of_another_model(configure: Configure, backbone: Path, tmp_path: Path) -> None:
    small = write_random_backbone(tmp_path / "small", width=32, layers=1, vocabulary=300)
    shutil.copyfile(backbone / "tokenizer.json", small / "tokenizer.json")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json belongs to another model"):
        build_model(configure("none", backbone=str(small)))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_forecasts_every_row_by_itself(precision: str, configure: Configure) -> None:
    torch.manual_seed(1)
    model = build_model(configure("gpt2", backbone_precision=precision)).eval()
    torch.manual_seed(1)
    exact = build_model(configure("gpt2")).eval()
    x_BL = torch.randn(9, LOOKBACK).cumsum(1)
    together = forecast_rows(model, x_BL)
    assert together.dtype == torch.float32
    assert torch.equal(together[4:5], forecast_rows(model, x_BL[4:5]))
    assert torch.allclose(together, forecast_rows(exact, x_BL), atol=0.05, rtol=0.05)


def test_bits_need_a_gpu_and_an_extra(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("gpt2", backbone_bits=4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CheckpointError, match=r"needs a CUDA device.*timellm-bits") as error:
        build_model(config)
    assert "\n" not in str(error.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("forecaster.timellm.loading.find_spec", lambda _: None)
    with pytest.raises(CheckpointError, match=r"pip install 'candlecast\[timellm-bits\]'"):
        build_model(config)


def test_odd_series_are_forecast(configure: Configure) -> None:
    torch.manual_seed(1)
    errors = np.ones((40, HORIZON, 6), dtype=np.float32)
    model = TimeLLMForecaster(build_model(configure("gpt2")), errors)
    assert model.forecast([]) == []
    shorter_than_a_patch = np.arange(5.0)
    for odd in (np.full(70, 3.0), shorter_than_a_patch, np.linspace(1e38, 3e38, 70), np.arange(80)):
        (found,) = model.forecast([odd])
        assert found.shape == (HORIZON,)
        assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (["a", "b"], r"series 1: .*give numbers"),
        ([1.0, 1e200, 2.0], r"series 1: holds values beyond 1e\+150"),
    ],
)
def test_series_that_are_no_numbers_or_too_large(bad: list[float], said: str, saved: Path) -> None:
    with pytest.raises(ForecastInputError, match=said):
        TimeLLMForecaster.load(saved).forecast([np.arange(70.0), np.array(bad)])


@pytest.mark.parametrize("bad", [[1.0], [1.0, float("nan"), 2.0], [[1.0, 2.0]]])
def test_series_that_cannot_be_forecast(bad: list[float], saved: Path) -> None:
    with pytest.raises(ForecastInputError, match=r"series 1: .*at least two values, all finite"):
        TimeLLMForecaster.load(saved).forecast([np.arange(70.0), np.array(bad)])


def test_without_transformers_the_message_names_the_extra(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    build_model(configure("attention"))
    with pytest.raises(CheckpointError, match=r"pip install 'candlecast\[timellm\]'"):
        build_model(configure("gpt2"))


def test_words_are_not_taken_for_folders() -> None:
    with pytest.raises(CheckpointError, match=r"none, attention, nlinear, dlinear"):
        backbone_folder("nonlinear")
