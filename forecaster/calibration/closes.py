"""The whole calibration on closes, in the order in which it is fitted. Knows arrays alone.

Legend: N windows, S paths, H horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from forecaster.calibration.conformal import Map, mapped, standardised
from forecaster.calibration.direction import turned
from forecaster.calibration.parameters import Calibration
from forecaster.calibration.pool import pooled
from forecaster.calibration.spread import blended, deviations, reordered

Array = npt.NDArray[np.float64]
Members = npt.NDArray[np.floating]


class CalibratedCloses(NamedTuple):
    """Log closes of the published paths, where each comes from, and how bars stretch."""

    close_NSH: Array
    source_S: npt.NDArray[np.int64]
    """0 the model, 1 filtered historical simulation, 2 the driftless bootstrap."""
    stretch_NSH: Array
    """Factor of gaps and wicks, which follow the spread of the closes."""


def calibrated_closes(
    parts: Sequence[Members], sigma_N: Array, calibration: Calibration
) -> CalibratedCloses:
    """Published log closes, relative to the last one.

    parts: of the model, filtered historical simulation and the driftless bootstrap, each (N, S, H).
    sigma_N: volatility of one bar.
    """
    model_NSH, fhs_NSH, bootstrap_NSH = parts
    horizon = model_NSH.shape[2]
    at = calibration.at(horizon)
    unit_NH = sigma_N[:, None] * np.sqrt(np.arange(1, horizon + 1))
    moved, ratio_NH = moved_model(model_NSH, fhs_NSH, unit_NH, calibration)
    ready = [moved, np.asarray(fhs_NSH, np.float64), np.asarray(bootstrap_NSH, np.float64)]
    pool, source_S = pooled(ready, calibration.weights)
    middle, spread, unit = standardised(pool)
    residuals = Map(calibration.knots, calibration.upper, calibration.lower)
    width_NH = np.exp(calibration.adaptive) * spread
    close = middle[:, None] + width_NH[:, None] * mapped(unit, residuals)
    close = close + turned(close, at.up_factor, at.up_share)[:, None]
    close = reordered(close, calibration.memory)
    stretch = np.where(
        source_S[None, :, None] == 0, ratio_NH[:, None], np.ones_like(ratio_NH)[:, None]
    ) * np.exp(calibration.adaptive)
    return CalibratedCloses(close, source_S, stretch)


def moved_model(
    model_NSH: Members, fhs_NSH: Members, unit_NH: Array, calibration: Calibration
) -> tuple[Array, Array]:
    """The model's members with mean and spread corrected, and by what their spread changed."""
    at = calibration.at(model_NSH.shape[2])
    mean, spread, unit = deviations(model_NSH)
    other = np.asarray(fhs_NSH, np.float64).std(axis=1, ddof=1)
    target = at.spread_factor * blended(spread, other, calibration.model_share)
    centre = at.mean_factor * mean + at.mean_shift * unit_NH
    return centre[:, None] + target[:, None] * unit, target / np.maximum(spread, 1e-12)
