"""What a walk-forward is made of, checked before anything starts. Knows no models and no Ray."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Self

from pydantic import Field, model_validator

from cluster.settings import HowToForecast
from cluster.training.request import Workforce
from forecaster.training.config import DataRules, Fitting, PredictorLoss
from market.settings import Place


class FoldTraining(Fitting, DataRules, PredictorLoss):
    """How each fold is fine-tuned: a predictor's run without its dates."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Of the order of the windows and of dropout, in every fold."""


class FoldForecast(HowToForecast):
    """What each fold forecasts, and how: a forecast without its model, bars and dates."""

    every: str = "weekly"
    """daily, weekly, monthly, or a number of sessions."""


class WalkForwardSettings(Workforce):
    """A walk-forward through one store."""

    store: Place
    """Folder or URL of the history lake."""
    out: Place
    """Folder or URL of the forecast table."""
    runs: Place
    """Folder or URL of the folds' trainings and of the record."""
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
    """The last of them, which measure, or choose the checkpoint with training.run.publish: best."""
    test_sessions: Annotated[int, Field(ge=1)]
    """Sessions each fold's model forecasts from."""
    embargo: Annotated[int, Field(ge=0)] = 0
    """Sessions left out before them, beside the horizon's."""
    expanding: bool = False
    """Every fold's training begins at `start`; else it moves along."""
    training: FoldTraining
    """How each fold is fine-tuned."""
    forecast: FoldForecast = FoldForecast()
    """What each fold forecasts."""

    @model_validator(mode="after")
    def _room(self) -> Self:
        windows = self.training.windows
        least = windows.horizon + windows.validation_horizon
        if self.validation_sessions < least:
            raise ValueError(
                f"`validation_sessions`={self.validation_sessions}: a purge of {windows.horizon} "
                f"and a validation_horizon of {windows.validation_horizon} need {least} or more"
            )
        if self.train_sessions <= self.validation_sessions:
            raise ValueError(
                f"`train_sessions`={self.train_sessions} includes the {self.validation_sessions} "
                "of `validation_sessions`, so it must be larger"
            )
        return self
