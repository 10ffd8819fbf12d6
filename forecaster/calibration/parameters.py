"""A calibration as numbers. Knows nothing of how they are found.

Legend: K fitted steps, H horizon.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class StepParameters(NamedTuple):
    """Parameters of every step of a horizon, each (H,)."""

    mean_factor: Array
    mean_shift: Array
    spread_factor: Array
    up_factor: Array
    up_share: Array


@dataclass(frozen=True)
class Calibration:
    """What is done to the paths of a model; per-step values belong to `steps`."""

    steps: tuple[int, ...]
    mean_factor: tuple[float, ...]
    """Share of the forecast mean of log returns that is believed, 0 … 1."""
    mean_shift: tuple[float, ...]
    """Added to it, in volatilities sigma · sqrt(h): minus the model's bias, where significant."""
    model_share: float
    """Exponent of the model's spread; 1 minus it goes to filtered historical simulation."""
    spread_factor: tuple[float, ...]
    memory: float
    """Smoothing of each path from step to step, -1 … 1: above 0 it takes false reversion out."""
    weights: tuple[float, float, float]
    """Shares of the published paths: model, filtered historical simulation, driftless bootstrap."""
    knots: tuple[float, ...]
    """Sizes of standardised residuals in the pool, ascending, …"""
    upper: tuple[float, ...]
    """… and of the past's outcomes above …"""
    lower: tuple[float, ...]
    """… and below the middle: equal unless a drift is significant."""
    adaptive: float
    """Log factor of the spread that follows recent misses."""
    up_factor: tuple[float, ...]
    """Share of the forecast P(up) that is believed, 0 … 1; the rest is `up_share`."""
    up_share: tuple[float, ...]

    def at(self, horizon: int) -> StepParameters:
        """Parameters of steps 1 … horizon, interpolated in log steps; the last ones go on."""
        x = np.log(np.arange(1, horizon + 1))
        known = np.log(self.steps)
        return StepParameters(
            *(np.interp(x, known, getattr(self, name)) for name in StepParameters._fields)
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON values; `from_dict` gives the same calibration back, to the last bit."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**plain)
