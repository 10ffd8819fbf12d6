"""Training of tokenizers and predictors: plain torch, one process or several. Knows no Ray."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forecaster.training.config import (
        PredictorTraining,
        TokenizerTraining,
        TrainingError,
    )
    from forecaster.training.data.pools import TrainingSeries
    from forecaster.training.data.sources import training_series
    from forecaster.training.process_group import Peers
    from forecaster.training.run import (
        Surroundings,
        TrainingRun,
        train_predictor,
        train_tokenizer,
    )

_HOME = {
    "Peers": "process_group",
    "PredictorTraining": "config",
    "Surroundings": "run",
    "TokenizerTraining": "config",
    "TrainingError": "config",
    "TrainingRun": "run",
    "TrainingSeries": "data.pools",
    "train_predictor": "run",
    "train_tokenizer": "run",
    "training_series": "data.sources",
}

__all__ = [
    "Peers",
    "PredictorTraining",
    "Surroundings",
    "TokenizerTraining",
    "TrainingError",
    "TrainingRun",
    "TrainingSeries",
    "train_predictor",
    "train_tokenizer",
    "training_series",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
