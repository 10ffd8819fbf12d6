"""What a run of a point model is made of, checked before anything starts. Knows no torch."""

from __future__ import annotations

from datetime import date
from typing import Self

from pydantic import model_validator

from forecaster.timellm.config import PointConfig, PointShape
from forecaster.training.config import Training


class TimeLLMTraining(Training):
    """A whole run of a point model: Time-LLM, one of its ablations, or a linear model."""

    model: PointShape = PointShape()

    @model_validator(mode="after")
    def _one_shape_of_window(self) -> Self:
        windows = self.windows
        if len(set(windows.lookbacks)) != 1:
            raise ValueError(
                f"`windows.lookbacks`: {list(windows.lookbacks)}; a point model reads one "
                "length of window; give one"
            )
        if windows.validation_horizon != windows.horizon:
            raise ValueError(
                f"`windows.validation_horizon`: {windows.validation_horizon} differs from horizon="
                f"{windows.horizon}: a point model forecasts its own horizon; make them equal"
            )
        if self.run.best_by != "loss":
            raise ValueError(f"`run.best_by`: {self.run.best_by}; point models are chosen by loss")
        _ = self.point_config()
        return self

    def point_config(self, backbone_hash: str = "") -> PointConfig:
        """The model's config; backbone_hash is that of its files."""
        return PointConfig(
            **self.model.model_dump(),
            lookback=self.windows.lookbacks[0],
            horizon=self.windows.horizon,
            clip=self.windows.clip,
            backbone_hash=backbone_hash,
        )

    @property
    def seen_through(self) -> date:
        """The errors that paths are drawn from are those on the validation bars."""
        return self.data.validation_through
