"""Weights that do not fit are refused with the file and the key; weights that fit are kept."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from forecaster import Kronos, KronosTokenizer, known_models, load_forecaster
from forecaster.kronos.checkpoint import content_hash
from forecaster.registry import resolve_model
from market.errors import CheckpointError

from .conftest import small_predictor, small_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_predictor().save_pretrained(tmp_path / "predictor")
    small_tokenizer().save_pretrained(tmp_path / "tokenizer")
    return tmp_path


def test_round_trip(folder: Path) -> None:
    for cls, part in ((Kronos, "predictor"), (KronosTokenizer, "tokenizer")):
        loaded = cls.from_pretrained(folder / part)
        assert not loaded.training
        loaded.save_pretrained(folder / "again")
        stored, again = (load_file(folder / f / "model.safetensors") for f in (part, "again"))
        assert stored.keys() == again.keys()
        assert all(torch.equal(stored[name], again[name]) for name in stored)
        assert (folder / part / "config.json").read_text() == (
            folder / "again" / "config.json"
        ).read_text()


def test_half_precision_is_widened(folder: Path) -> None:
    model = Kronos.from_pretrained(folder / "predictor")
    model.save_pretrained(folder / "half", half=True)
    widened = Kronos.from_pretrained(folder / "half")
    for name, value in widened.state_dict().items():
        assert value.dtype == model.state_dict()[name].dtype
    assert widened.head.proj_s1.weight.equal(model.head.proj_s1.weight.half().float())


def test_constructor_takes_positions_like_the_reference() -> None:
    model = Kronos(4, 4, 1, 16, 2, 24, 0.0, 0.0, 0.0, 0.0, False)
    assert model.config["d_model"] == 16
    assert model.config["learn_te"] is False
    minutes = model.time_emb.minute_embed
    assert not any(p.requires_grad for p in minutes.parameters())


def change_config(path: Path, **changes: object) -> None:
    config = json.loads((path / "config.json").read_text())
    config.update(changes)
    (path / "config.json").write_text(
        json.dumps({k: v for k, v in config.items() if v is not None})
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_modell": 32}, r"unknown key\(s\) \['d_modell'\]"),
        ({"d_model": None}, r"missing key\(s\) \['d_model'\]"),
        ({"d_model": 64}, "has shape .* but config.json asks for"),
        ({"n_layers": 3}, "'transformer.2.norm1.weight' is missing"),
        ({"n_layers": 1}, "first 'transformer.1"),
        ({"d_model": 30}, r"must be a multiple .* \(key: d_model\)"),
    ],
)
def test_config_errors_name_the_key(folder: Path, changes: dict[str, object], message: str) -> None:
    change_config(folder / "predictor", **changes)
    with pytest.raises(CheckpointError, match=message) as error:
        Kronos.from_pretrained(folder / "predictor")
    assert str(folder / "predictor") in str(error.value)


def test_damaged_files_are_named(folder: Path) -> None:
    weights = folder / "predictor" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"model.safetensors: damaged"):
        Kronos.from_pretrained(folder / "predictor")
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model.safetensors: not found"):
        Kronos.from_pretrained(folder / "predictor")
    weights.write_bytes(whole)
    state = load_file(weights)
    state["norm.weight"][3] = torch.nan
    save_file(state, weights)
    with pytest.raises(CheckpointError, match=r"'norm.weight' holds NaN"):
        Kronos.from_pretrained(folder / "predictor")
    (folder / "predictor" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        Kronos.from_pretrained(folder / "predictor")


def test_the_wrong_half_is_recognised(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="other half"):
        KronosTokenizer.from_pretrained(folder / "predictor")


def test_unknown_models_say_what_is_known(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="unknown model 'nanno'; known: nano, nano-l"):
        load_forecaster("nanno")
    with pytest.raises(CheckpointError, match="needs its tokenizer; add --tokenizer"):
        load_forecaster(str(folder / "predictor"))
    with pytest.raises(CheckpointError, match="brings its own tokenizer"):
        load_forecaster("nano", tokenizer="somewhere")
    with pytest.raises(CheckpointError, match=r"config.json: not found"):
        load_forecaster(str(folder), tokenizer=str(folder))
    with pytest.raises(CheckpointError, match="no such folder, and not a hub id"):
        KronosTokenizer.from_pretrained("no/such/folder")


def test_models_load_by_folder_and_by_pair(folder: Path) -> None:
    by_folder = load_forecaster(str(folder))
    by_pair = load_forecaster(str(folder / "predictor"), tokenizer=str(folder / "tokenizer"))
    assert by_folder.forecaster.model_id == by_pair.forecaster.model_id
    assert by_folder.trained_through is None
    assert by_folder.cutoff_unknown
    assert not load_forecaster("random-walk").cutoff_unknown
    longer = load_forecaster(str(folder), max_context=600)
    assert longer.forecaster.model_id != by_folder.forecaster.model_id
    assert set(known_models()) >= {"nano", "mini", "small", "base", "random-walk", "bootstrap"}


def test_the_cut_off_of_own_training_is_known(folder: Path) -> None:
    """Forecasts up to the later cut-off of the two halves are in-sample."""
    for part, through in (("tokenizer", "2018-03-01"), ("predictor", "2017-06-30")):
        (folder / part / "training.json").write_text(json.dumps({"trained_through": through}))
    by_pair = load_forecaster(str(folder / "predictor"), tokenizer=str(folder / "tokenizer"))
    assert by_pair.trained_through == date(2018, 3, 1)
    assert load_forecaster(str(folder)).trained_through == date(2018, 3, 1)
    (folder / "tokenizer" / "training.json").unlink()
    half_known = load_forecaster(str(folder))
    assert half_known.trained_through is None
    assert half_known.cutoff_unknown
    (folder / "tokenizer" / "training.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer/training.json: no readable"):
        load_forecaster(str(folder))


def test_an_alias_stands_for_its_tokenizer(folder: Path) -> None:
    """What training prints, --tokenizer nano, loads."""
    nano = resolve_model("nano")
    spec = resolve_model(nano.predictor, tokenizer="nano")
    assert (spec.tokenizer, spec.predictor) == (nano.tokenizer, nano.predictor)
    assert spec.trained_through == nano.trained_through


def test_nano_states_the_cut_off_it_was_trained_to() -> None:
    spec = resolve_model("nano")
    for part in (spec.tokenizer, spec.predictor):
        record = json.loads((Path(part) / "training.json").read_text())
        assert record["settings"]["data"]["train_through"] == str(spec.trained_through)


def test_content_hash_follows_content(folder: Path) -> None:
    a, b = (Kronos.from_pretrained(folder / "predictor") for _ in range(2))
    assert content_hash(a) == content_hash(b)
    with torch.no_grad():
        b.head.proj_s2.bias[0] += 1e-6
    assert content_hash(a) != content_hash(b)
