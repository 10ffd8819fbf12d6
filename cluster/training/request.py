"""What training commands are told beside the run's own settings. Knows no torch and no Ray."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cluster.flags import FlagName
from forecaster.training.config import PredictorTraining, TokenizerTraining
from forecaster.training.timellm_config import TimeLLMTraining
from market.settings import Place, Settings


class Workforce(Settings):
    """Who trains, and where."""

    workers: int = Field(1, ge=1)
    """Processes that train together; resuming needs as many."""
    gpus: bool = False
    """One GPU per worker; else CPUs."""
    threads: int = Field(1, ge=1)
    """Threads of each worker's matrix products on CPUs."""
    address: str | None = None
    """Join this Ray cluster instead of starting a local one."""


class TokenizerPlace(Workforce):
    """Where a tokenizer's run finds its bars and leaves its model."""

    out: Place
    """Folder or URL of the run and, at the end, of the model."""
    stores: Annotated[tuple[Place, ...], FlagName("--store")] = ()
    """History made by 'candlecast data import'; repeat for several."""
    start_from: Annotated[str | None, FlagName("--from")] = None
    """Weights to begin with: a folder, a hub id, or an alias."""


class PredictorPlace(TokenizerPlace):
    """The same for a predictor, which needs its tokenizer."""

    tokenizer: str
    """The tokenizer: a folder, a hub id, or an alias."""


class TimeLLMPlace(TokenizerPlace):
    """The same for a point model."""

    backbone: str | None = None
    """Instead of the config's: folder or hub id of a language model, or none, attention, nlinear,
    dlinear."""


class TrainingRequest(TokenizerPlace):
    """A whole run: its settings, and what the command line adds to them."""

    settings: TokenizerTraining | PredictorTraining | TimeLLMTraining
    """What is trained, and how."""
    tokenizer: str | None = None
    """Of a predictor's run."""
    store_version: str | None = None
    """Of every store; the newest without."""
