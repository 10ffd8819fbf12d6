"""Calibration parameters from the past. Knows the stages and their order.

Legend: N windows, S paths, H horizon, K fitted steps, D dates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from forecaster.calibration.closes import calibrated_closes, moved_model
from forecaster.calibration.conformal import LEVELS, fit_map, mapped, standardised, track
from forecaster.calibration.direction import fit_direction, p_up
from forecaster.calibration.location import fit_location
from forecaster.calibration.parameters import Calibration
from forecaster.calibration.past import MODEL, POOLED, PastForecasts, fit_steps
from forecaster.calibration.pool import fit_weights, pooled
from forecaster.calibration.spread import deviations, fit_memory, fit_spread

Array = npt.NDArray[np.float64]

FIT_WINDOWS = 1200
FIT_PATHS = 64
"""What a fit looks at: more windows of the same dates say little new."""
MEMORY_WINDOWS = 400
"""And the fit of how paths move, which needs whole paths."""


def identity(steps: tuple[int, ...]) -> Calibration:
    """A calibration that changes nothing."""
    zero, one = (0.0,) * len(steps), (1.0,) * len(steps)
    return Calibration(
        steps=steps, mean_factor=one, mean_shift=zero, model_share=1.0, spread_factor=one,
        memory=0.0, weights=(1.0, 0.0, 0.0), knots=LEVELS, upper=LEVELS, lower=LEVELS,
        adaptive=0.0, up_factor=one, up_share=(0.5,) * len(steps),
    )  # fmt: skip


def fit(past: PastForecasts, *, movement: bool = True) -> Calibration:
    """Parameters that would have made these forecasts best.

    past: what is known (`PastForecasts.known_by`); unknown outcomes are NaN and weigh nothing. The
    stages are fitted one after the other, each on what the ones before make of the paths: mean,
    spread, pool, residual map, tracker, P(up), memory. Without `movement` the memory, which changes
    no single step, is left at 0.
    """
    past = past.learnable().thinned(FIT_WINDOWS, FIT_PATHS)
    steps = fit_steps(past.horizon)
    at = steps - 1
    lags_K, unit_NK = past.overlap_H[at], past.unit_NH[:, at]
    actual_NK, date_N, n_dates = past.actual_NH[:, at], past.date_N, len(past.as_of_D)
    weight_NK = _weights(actual_NK, date_N, n_dates)

    model, fhs = past.members[MODEL], past.members[POOLED[0]]
    mean, spread, unit = deviations(model)
    factor_K, shift_K = fit_location(
        mean[:, at] / unit_NK, actual_NK / unit_NK, date_N, n_dates, lags_K
    )
    centre_NK = factor_K * mean[:, at] + shift_K * unit_NK
    other = np.asarray(fhs, np.float64).std(axis=1, ddof=1)
    share, spread_K = fit_spread(
        centre_NK, spread[:, at], other[:, at], unit[..., at], actual_NK, unit_NK, weight_NK,
        steps, date_N, lags_K,
    )  # fmt: skip
    found: dict[str, object] = {
        "mean_factor": factor_K, "mean_shift": shift_K, "model_share": share,
        "spread_factor": spread_K,
    }  # fmt: skip
    first = _calibration(steps, **found)
    moved, _ = moved_model(model, fhs, past.unit_NH, first)
    parts = [np.asarray(each, np.float64)[..., at] for each in
             (moved, *(past.members[name] for name in POOLED))]  # fmt: skip
    weights = fit_weights(parts, actual_NK, unit_NK, weight_NK)
    pool, _ = pooled(parts, weights)

    middle, width, pool_unit = standardised(pool)
    by_step_NK = weight_NK / (1 + lags_K)
    residuals = fit_map(
        pool_unit, (actual_NK - middle) / width, by_step_NK, date_N, n_dates, int(lags_K.max())
    )
    pool = middle[:, None] + width[:, None] * mapped(pool_unit, residuals)
    adaptive = track(pool, actual_NK, past.ended_NH[:, at], past.as_of_D, date_N, lags_K)
    up_NK = np.where(np.isfinite(actual_NK), (actual_NK > 0).astype(np.float64), np.nan)
    up_factor_K, up_share_K = fit_direction(p_up(pool), up_NK, date_N, n_dates, lags_K)
    found |= {
        "weights": weights, "knots": residuals.knots, "upper": residuals.upper,
        "lower": residuals.lower, "adaptive": adaptive, "up_factor": up_factor_K,
        "up_share": up_share_K,
    }  # fmt: skip
    if not movement:
        return _calibration(steps, **found)
    few = past.thinned(MEMORY_WINDOWS, FIT_PATHS)
    sources = [np.asarray(few.members[name], np.float64) for name in (MODEL, *POOLED)]
    made = calibrated_closes(sources, few.sigma_N, _calibration(steps, **found))
    source, _ = pooled(sources, weights)
    found["memory"] = fit_memory(
        made.close_NSH, source, few.actual_NH, few.sigma_N, few.date_N, int(few.overlap_H[-1])
    )
    return _calibration(steps, **found)


def _weights(actual_NK: Array, date_N: npt.NDArray[np.int64], n_dates: int) -> Array:
    """Every date with outcomes weighs 1 per step, shared among its windows."""
    known = np.isfinite(actual_NK)
    out = np.zeros_like(actual_NK)
    for k in range(actual_NK.shape[1]):
        count_D = np.bincount(date_N[known[:, k]], minlength=n_dates)
        out[:, k] = np.where(known[:, k], 1.0 / np.maximum(count_D, 1)[date_N], 0.0)
    return out


def _calibration(steps: npt.NDArray[np.int64], **values: object) -> Calibration:
    """The identity with some values replaced, all as plain numbers."""
    plain: dict[str, Any] = {}
    for name, value in values.items():
        wide = np.asarray(value, np.float64)
        plain[name] = tuple(wide.tolist()) if wide.ndim else float(wide)
    base = identity(tuple(int(step) for step in steps)).as_dict()
    return Calibration.from_dict(base | plain)
