"""What a walk-forward is made of, checked before anything starts. Knows no models and no Ray."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cluster.settings import Place
from forecaster.training.config import OptimiserSettings, RunSettings, WindowSettings


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FoldTraining(_Settings):
    """How each fold is fine-tuned: a predictor's run without its dates."""

    seed: Annotated[int, Field(ge=0)] = 0
    windows: WindowSettings
    optimiser: OptimiserSettings
    run: RunSettings = RunSettings()
    held_out_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    exclude_symbols: tuple[str, ...] = ()
    max_abs_return: Annotated[float, Field(gt=0)] = 0.4
    max_gap_days: Annotated[int, Field(ge=1)] = 10
    s1_conditioning: Literal["target", "sampled"] = "target"
    dependency_as_decoded: bool = False


class FoldForecast(_Settings):
    """What each fold forecasts, and how."""

    every: str = "weekly"
    """daily, weekly, monthly, or a number of sessions."""
    universe: str = "all"
    lookback: Annotated[int, Field(ge=2)] = 256
    horizon: Annotated[int, Field(ge=1)] = 20
    paths: Annotated[int, Field(ge=1)] = 16
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    temperature: Annotated[float, Field(gt=0)] = 1.0
    seed: Annotated[int, Field(ge=0)] = 0
    replicas: int | str = "auto"


class WalkForwardSettings(_Settings):
    """A walk-forward through one store."""

    store: Path
    """Folder of the history lake."""
    out: Place
    """Folder or URL of the forecast table."""
    runs: Path
    """Folder of the folds' trainings and of the record."""
    base: str
    """Predictor that every fold starts from: alias, folder or hub id."""
    tokenizer: str | None = None
    """Folder or hub id of its tokenizer, where the alias does not say it."""
    base_trained_through: date | None = None
    """Last date that base and tokenizer saw, where they do not say so."""
    start: date | None = None
    """First session to use, for training already; the store's first without."""
    end: date | None = None
    """Last session to forecast from; the store's last without."""
    train_sessions: Annotated[int, Field(ge=2)]
    """Sessions of each fold's training and validation together."""
    validation_sessions: Annotated[int, Field(ge=1)]
    """The last of them, which measure, or choose among checkpoints with run.publish: best."""
    test_sessions: Annotated[int, Field(ge=1)]
    """Sessions each fold's model forecasts from."""
    embargo: Annotated[int, Field(ge=0)] = 0
    """Sessions left out before them, beside the horizon's."""
    expanding: bool = False
    """Every fold's training begins at `start`; else it moves along."""
    training: FoldTraining
    forecast: FoldForecast = FoldForecast()
    workers: Annotated[int, Field(ge=1)] = 1
    gpus: bool = False
    threads: Annotated[int, Field(ge=1)] = 1
    address: str | None = None

    @model_validator(mode="after")
    def _room(self) -> Self:
        windows = self.training.windows
        least = windows.horizon + windows.validation_horizon
        if self.validation_sessions < least:
            raise ValueError(
                f"validation_sessions={self.validation_sessions}: a purge of {windows.horizon} and "
                f"a validation_horizon of {windows.validation_horizon} need {least} or more"
            )
        if self.train_sessions <= self.validation_sessions:
            raise ValueError(
                f"train_sessions={self.train_sessions} includes the {self.validation_sessions} of "
                "validation_sessions, so it must be larger"
            )
        return self
