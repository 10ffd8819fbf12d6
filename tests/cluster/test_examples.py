"""The YAML files users start from: every key of a model, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from backtest.settings import BacktestRequest
from cluster.night.settings import NightlySettings
from cluster.settings import ForecastSettings, load_settings
from cluster.sweep_settings import SweepRequest
from cluster.training.walkforward_settings import WalkForwardSettings
from forecaster.training.config import PredictorTraining, TokenizerTraining
from forecaster.training.timellm_config import TimeLLMTraining
from market.settings import Settings, group_of, group_of_path, place

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

# What a file leaves out because another one, which it names, holds it.
EXAMPLES: list[tuple[str, type[Settings], dict[str, Any], set[str]]] = [
    ("forecast.yaml", ForecastSettings, {"store": "s", "as_of": "d", "out": "o"}, set()),
    ("backtest.yaml", BacktestRequest, {"store": "s", "momentum": 20}, set()),
    ("sweep.yaml", SweepRequest, {"store": "s", "momentum": 20}, {*BacktestRequest.model_fields}),
    ("nightly.yaml", NightlySettings, {}, {"forecast"}),
    (
        "train/finetune_predictor.yaml",
        PredictorTraining,
        {},
        {"model", "data.simulated", "data.coarser"},
    ),
    (
        "train/finetune_tokenizer.yaml",
        TokenizerTraining,
        {},
        {"model", "data", "windows", "optimiser", "run", "base_trained_through"},
    ),
    (
        "train/walkforward.yaml",
        WalkForwardSettings,
        {"store": "s"},
        {"forecast", "training.windows", "training.optimiser", "training.run"},
    ),
    ("train/levels_tokenizer.yaml", TokenizerTraining, {}, {*TokenizerTraining.model_fields}),
    ("train/levels_predictor.yaml", PredictorTraining, {}, {*PredictorTraining.model_fields}),
    ("train/levels_decoder.yaml", TokenizerTraining, {}, {*TokenizerTraining.model_fields}),
    ("train/returns_tokenizer.yaml", TokenizerTraining, {}, {*TokenizerTraining.model_fields}),
    ("train/returns_predictor.yaml", PredictorTraining, {}, {*PredictorTraining.model_fields}),
    ("train/returns_finetune.yaml", PredictorTraining, {}, {*PredictorTraining.model_fields}),
    ("train/timellm.yaml", TimeLLMTraining, {}, {*TimeLLMTraining.model_fields}),
]


def written(path: Path) -> set[str]:
    """Dotted keys of a file, commented-out ones included."""
    found: set[str] = set()
    above: list[tuple[int, str]] = []
    for line in path.read_text().splitlines():
        match = re.match(r"( *)(?:# )?(\w+):(?: |$)", line)
        if match is None:
            continue
        while above and above[-1][0] >= len(match[1]):
            above.pop()
        above.append((len(match[1]), match[2]))
        found.add(".".join(key for _, key in above))
    return found


def keys_of(model: type[Settings], within: str = "") -> set[str]:
    found = set()
    for name in model.model_fields:
        group = group_of(model, name)
        found |= {within + name} if group is None else keys_of(group, f"{within}{name}.")
    return found


@pytest.mark.parametrize(("name", "model", "flags", "left_out"), EXAMPLES)
def test_an_example_is_valid_and_holds_every_key(
    name: str, model: type[Settings], flags: dict[str, Any], left_out: set[str]
) -> None:
    path = CONFIGS / name
    load_settings(path, model, flags)
    known, there = keys_of(model), written(path)
    groups = {key for key in there if group_of_path(model, tuple(key.split("."))) is not None}
    assert groups | known | {"grid"} >= {k for k in there if not k.startswith("grid.")}, "unknown"

    def excused(key: str) -> bool:
        return any(key == out or key.startswith(f"{out}.") for out in left_out)

    assert not {key for key in known - there if not excused(key)}, "left out"


def test_every_example_is_checked() -> None:
    there = {str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml")}
    cluster = {name for name in there if name.startswith("cluster/")}  # test_cluster_configs.py
    assert there - cluster == {name for name, *_ in EXAMPLES}


@pytest.mark.parametrize(
    ("name", "model"), [("backtest.yaml", BacktestRequest), ("forecast.yaml", ForecastSettings)]
)
def test_the_values_are_the_defaults(name: str, model: type[Settings]) -> None:
    flags = {"store": "s", "momentum": 20} if model is BacktestRequest else EXAMPLES[0][2]
    assert load_settings(CONFIGS / name, model, flags) == load_settings(None, model, flags)
    assert all(place(model, key) for key in yaml.safe_load((CONFIGS / name).read_text()))
