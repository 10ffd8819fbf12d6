"""What `candlecast calibrate` is told. Knows settings alone."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cluster.settings import ForecastSettings
from forecaster.calibration import MIN_DATES


class CalibrateSettings(ForecastSettings):
    """Settings of a forecast that is to be calibrated, and how much past to forecast for it."""

    dates: int = Field(default=90, ge=MIN_DATES)
    """Past dates to forecast before the first as_of; a fit needs 60 whose horizon has ended."""
    stride: Literal["auto"] | int = "auto"
    """Sessions between them; auto is 5, or fewer where the history is short."""
