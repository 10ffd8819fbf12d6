"""The spread of the paths, and how it grows from step to step. Knows arrays alone.

Member-by-member calibration (Van Schaeybroeck & Vannitsem 2015): the ensemble is moved and
stretched as a whole, so that members keep their ranks and the shapes of their paths.

Legend: N windows, S paths, H horizon, K fitted steps.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forecaster.scores import window_crps

Array = npt.NDArray[np.float64]
Int = npt.NDArray[np.integer]

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Exponents of the model's own spread that are tried."""
MEMORIES = (0.0, 0.2, 0.4, 0.6, 0.75, 0.85)
"""Smoothings that are tried."""
PATH_VOLATILITY_SLACK = 1.05
TILT_ERROR = 0.15
"""Prior deviation of the log spread factor's slope in log steps."""
_TINY = 1e-12


def deviations(members_NSH: npt.NDArray[np.floating], memory: float) -> tuple[Array, Array, Array]:
    """Mean (N, H), standard deviation (N, H) and standardised deviations (N, S, H) of ensembles.

    With memory m each path's deviation becomes y_h = m · y_{h-1} + (1 - m) · x_h, y_0 = 0, scaled
    back to unit deviation at every step. A model that rounds each bar by itself adds noise to
    levels that looks like reversion: smoothing removes it, and the spread stays what it was.
    """
    x = np.asarray(members_NSH, np.float64)
    mean = x.mean(axis=1)
    x = x - mean[:, None]
    spread = np.sqrt((x**2).sum(axis=1) / (x.shape[1] - 1))
    if memory == 0.0:
        return mean, spread, x / np.maximum(spread, _TINY)[:, None]
    smooth = np.empty_like(x)
    state = np.zeros_like(x[..., 0])
    for h in range(x.shape[2]):
        state = memory * state + (1 - memory) * x[..., h]
        smooth[..., h] = state
    unit = np.sqrt((smooth**2).sum(axis=1) / (x.shape[1] - 1))
    return mean, spread, smooth / np.maximum(unit, _TINY)[:, None]


def blended(model_NH: Array, other_NH: Array, model_share: float) -> Array:
    """Geometric mean of two spreads."""
    model, other = np.maximum(model_NH, _TINY), np.maximum(other_NH, _TINY)
    spread: Array = model**model_share * other ** (1 - model_share)
    return spread


def fit_spread(
    centre_NK: Array, model_NK: Array, other_NK: Array, unit_NSK: Array, actual_NK: Array,
    scale_NK: Array, weight_NK: Array, steps_K: Int, effective_K: Array,
) -> tuple[float, Array]:  # fmt: skip
    """The model's share of the spread and the factor per step.

    For each share the factor matches the mean size of the error to what the ensemble expects of
    itself; the share with the lowest CRPS wins. scale_NK: volatilities, so that windows and steps
    weigh alike. weight_NK: of outcomes, 0 where unknown. effective_K: about how many independent
    dates each step has seen: factors follow a line in log steps that is steep only where the dates
    say so.
    """
    error_NK = np.abs(np.where(weight_NK > 0, actual_NK, 0.0) - centre_NK) / scale_NK
    expected_NK = np.abs(unit_NSK).mean(axis=1)
    best: tuple[float, float, Array] | None = None
    total_K = np.maximum(weight_NK.sum(axis=0), _TINY)
    for share in SHARES:
        spread_NK = blended(model_NK, other_NK, share)
        ours_K = (weight_NK * expected_NK * spread_NK / scale_NK).sum(axis=0) / total_K
        theirs_K = (weight_NK * error_NK).sum(axis=0) / total_K
        factor_K = _line(
            np.log(np.maximum(theirs_K, _TINY) / np.maximum(ours_K, _TINY)), steps_K, effective_K
        )
        members = centre_NK[:, None] + (spread_NK * factor_K)[:, None] * unit_NSK
        score_NK = window_crps(members, np.where(weight_NK > 0, actual_NK, 0.0)) / scale_NK
        score = float(((weight_NK * score_NK).sum(axis=0) / total_K).mean())
        if best is None or score < best[0] - 1e-12:
            best = (score, share, factor_K)
    assert best is not None
    return best[1], best[2]


def _line(log_K: Array, steps_K: Int, effective_K: Array) -> Array:
    """exp of the weighted ridge line through log factors over log steps."""
    x_K = np.log(steps_K)
    weight_K = effective_K / 0.5  # a log spread of n independent dates has variance about 1 / (2n)
    total = max(float(weight_K.sum()), _TINY)
    x_mean, y_mean = float(weight_K @ x_K) / total, float(weight_K @ log_K) / total
    x, y = x_K - x_mean, log_K - y_mean
    tilt = float(weight_K @ (x * y)) / (float(weight_K @ x**2) + 1 / TILT_ERROR**2)
    line: Array = np.exp(y_mean + tilt * x)
    return line


def path_volatility(close_NSH: Array) -> Array:
    """Mean over paths of the deviation (n - 1) of one-step log returns, (N,)."""
    steps = np.diff(close_NSH, axis=2, prepend=0.0)
    volatility: Array = steps.std(axis=2, ddof=1).mean(axis=1)
    return volatility


def fit_memory(
    members_NSH: npt.NDArray[np.floating], target_NH: Array, actual_NH: Array, sigma_N: Array
) -> float:
    """The least smoothing at which calibrated paths move no more per bar than the market did.

    target_NH: calibrated spread at every step. Windows whose horizon has not wholly ended are left
    out; without any, 0.
    """
    whole = np.isfinite(actual_NH).all(axis=1)
    if actual_NH.shape[1] < 3 or not whole.any():
        return 0.0
    moved = np.diff(actual_NH[whole], axis=1, prepend=0.0).std(axis=1, ddof=1) / sigma_N[whole]
    wanted = float(moved.mean()) * PATH_VOLATILITY_SLACK
    ratios = []
    for memory in MEMORIES:
        _, _, unit = deviations(members_NSH[whole], memory)
        found = path_volatility(unit * target_NH[whole][:, None]) / sigma_N[whole]
        ratios.append(float(found.mean()) / max(wanted, _TINY))
        if ratios[-1] <= 1:
            return memory
    return MEMORIES[int(np.argmin(ratios))]
