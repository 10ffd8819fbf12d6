"""What `candlecast calibrate` is told. Knows settings alone."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cluster.settings import ForecastSettings


class CalibrateSettings(ForecastSettings):
    """Settings of a forecast that is to be calibrated, and how much past to forecast for it."""

    dates: int = Field(90, ge=60)
    """Past dates to forecast before the first as_of; a fit needs 60 whose horizon has ended."""
    stride: Literal["auto"] | int = "auto"
    """Sessions between them; auto is 5, or fewer where the history is short."""
