"""What a calibration found. A plain record."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.forecasting.report import ForecastReport
from forecaster.calibration import Fitted
from market.spec import AsOf


@dataclass(frozen=True)
class CalibrationReport:
    """What was forecast, and what the past says at each moment."""

    recipe: str
    hindcast: ForecastReport | None
    """None where no date was missing."""
    fitted: dict[AsOf, Fitted]
