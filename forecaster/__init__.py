"""From windows of bars to sample paths of tomorrow's. Knows models; nothing of storage or Ray.

Names load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forecaster.baselines import HistoricalBootstrap, RandomWalk
    from forecaster.interface import (
        Forecaster,
        SamplePaths,
        SamplingParams,
        WindowBatch,
    )
    from forecaster.kronos.dataframes import KronosPredictor
    from forecaster.kronos.pipeline import KronosForecaster
    from forecaster.kronos.predictor import Kronos
    from forecaster.kronos.tokenizer import KronosTokenizer
    from forecaster.registry import LoadedModel, known_models, load_forecaster
    from forecaster.summary import Summary, summarise

_HOME = {
    "Forecaster": "interface",
    "HistoricalBootstrap": "baselines",
    "Kronos": "kronos.predictor",
    "KronosForecaster": "kronos.pipeline",
    "KronosPredictor": "kronos.dataframes",
    "KronosTokenizer": "kronos.tokenizer",
    "LoadedModel": "registry",
    "RandomWalk": "baselines",
    "SamplePaths": "interface",
    "SamplingParams": "interface",
    "Summary": "summary",
    "WindowBatch": "interface",
    "known_models": "registry",
    "load_forecaster": "registry",
    "summarise": "summary",
}

__all__ = [
    "Forecaster",
    "HistoricalBootstrap",
    "Kronos",
    "KronosForecaster",
    "KronosPredictor",
    "KronosTokenizer",
    "LoadedModel",
    "RandomWalk",
    "SamplePaths",
    "SamplingParams",
    "Summary",
    "WindowBatch",
    "known_models",
    "load_forecaster",
    "summarise",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'forecaster' has no attribute {name!r}")
    return getattr(import_module(f"forecaster.{_HOME[name]}"), name)
