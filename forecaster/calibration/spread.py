"""The spread of the paths, and how it grows from step to step. Knows arrays alone.

Member-by-member calibration (Van Schaeybroeck & Vannitsem 2015): the ensemble is moved and
stretched as a whole, so that members keep their ranks and the shapes of their paths.

Legend: N windows, S paths, H horizon, K fitted steps.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forecaster.hac import date_mean, per_date
from forecaster.scores import window_crps

Array = npt.NDArray[np.float64]
Int = npt.NDArray[np.integer]

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Exponents of the model's own spread that are tried."""
MEMORIES = (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85)
"""Smoothings that are tried, ascending."""
LEVEL_PRIOR = 0.15
"""Prior deviation of the log spread factor, …"""
TILT_PRIOR = 0.05
"""… of its slope in log steps, …"""
MOVEMENT_PRIOR = 0.15
"""… and of the log ratio of the paths' volatility to the market's."""
MOVEMENT_STEP = 0.01
"""A log ratio nearer than this is not worth a smoothing."""
_TINY = 1e-12


def deviations(members_NSH: npt.NDArray[np.floating]) -> tuple[Array, Array, Array]:
    """Mean (N, H), standard deviation (N, H) and standardised deviations (N, S, H) of ensembles."""
    x = np.asarray(members_NSH, np.float64)
    mean = x.mean(axis=1)
    x = x - mean[:, None]
    spread = np.sqrt((x**2).sum(axis=1) / (x.shape[1] - 1))
    return mean, spread, x / np.maximum(spread, _TINY)[:, None]


def smoothed(members_NSH: Array, memory: float) -> Array:
    """Deviations from the mean with memory m: y_h = m · y_{h-1} + (1 - m) · x_h, y_0 = 0."""
    x = members_NSH - members_NSH.mean(axis=1, keepdims=True)
    out: Array = np.empty_like(x)
    state = np.zeros_like(x[..., 0])
    for h in range(x.shape[2]):
        state = memory * state + (1 - memory) * x[..., h]
        out[..., h] = state
    return out


def reordered(members_NSH: Array, memory: float) -> Array:
    """The same values at every step, given to paths in the order of their smoothed deviations.

    Every distribution of a single step stays what it was; what changes is which value follows which
    (ensemble copula coupling, Schefzik, Thorarinsdottir & Gneiting 2013). A model that rounds each
    bar by itself adds noise to levels that looks like reversion: smoothing takes it out.
    """
    if memory == 0.0:
        return members_NSH
    return _given(np.sort(members_NSH, axis=1), smoothed(members_NSH, memory))


def _given(ordered_NSH: Array, wanted_NSH: Array) -> Array:
    """Ascending values handed to members in the order that others have."""
    out = np.empty_like(ordered_NSH)
    np.put_along_axis(out, np.argsort(wanted_NSH, axis=1), ordered_NSH, axis=1)
    return out


def blended(model_NH: Array, other_NH: Array, model_share: float) -> Array:
    """Geometric mean of two spreads."""
    model, other = np.maximum(model_NH, _TINY), np.maximum(other_NH, _TINY)
    spread: Array = model**model_share * other ** (1 - model_share)
    return spread


def fit_spread(
    centre_NK: Array, model_NK: Array, other_NK: Array, unit_NSK: Array, actual_NK: Array,
    scale_NK: Array, weight_NK: Array, steps_K: Int, date_N: Int, lags_K: Int,
) -> tuple[float, Array]:  # fmt: skip
    """The model's share of the spread and the factor per step.

    For each share the factor matches the mean size of the error to what the ensemble expects of
    itself; the share with the lowest CRPS wins. scale_NK: volatilities, so that windows and steps
    weigh alike. weight_NK: of outcomes, 0 where unknown. Factors follow a line in log steps, drawn
    towards 1 as far as the dates leave it uncertain.
    """
    error_NK = np.abs(np.where(weight_NK > 0, actual_NK, 0.0) - centre_NK) / scale_NK
    expected_NK = np.abs(unit_NSK).mean(axis=1)
    best: tuple[float, float, Array] | None = None
    total_K = np.maximum(weight_NK.sum(axis=0), _TINY)
    theirs_K = np.maximum((weight_NK * error_NK).sum(axis=0) / total_K, _TINY)
    for share in SHARES:
        spread_NK = blended(model_NK, other_NK, share)
        own_NK = expected_NK * spread_NK / scale_NK
        ours_K = np.maximum((weight_NK * own_NK).sum(axis=0) / total_K, _TINY)
        excess_NK = np.where(weight_NK > 0, error_NK / theirs_K - own_NK / ours_K, np.nan)
        factor_K = _line(np.log(theirs_K / ours_K), excess_NK, steps_K, date_N, lags_K)
        members = centre_NK[:, None] + (spread_NK * factor_K)[:, None] * unit_NSK
        score_NK = window_crps(members, np.where(weight_NK > 0, actual_NK, 0.0)) / scale_NK
        score = float(((weight_NK * score_NK).sum(axis=0) / total_K).mean())
        if best is None or score < best[0] - 1e-12:
            best = (score, share, factor_K)
    assert best is not None
    return best[1], best[2]


def _line(log_K: Array, excess_NK: Array, steps_K: Int, date_N: Int, lags_K: Int) -> Array:
    """exp of a line through log factors over log steps, level and slope shrunk.

    excess_NK: what each window says beyond the mean, in units of the mean, NaN where unknown. The
    errors of level and slope are HAC errors over dates. Steps that overlap less weigh more.
    """
    n_dates = int(date_N.max()) + 1
    excess_DK = np.stack([per_date(column, date_N, n_dates) for column in excess_NK.T], axis=1)
    known_DK = np.isfinite(excess_DK)
    weight_K = known_DK.sum(axis=0) / (1.0 + lags_K)
    weight_K = weight_K / max(float(weight_K.sum()), _TINY)
    x_K = np.log(steps_K)
    x_K = x_K - float(weight_K @ x_K)
    square = max(float(weight_K @ x_K**2), _TINY)
    level, tilt = float(weight_K @ log_K), float(weight_K @ (x_K * log_K)) / square
    some_DK = np.where(known_DK, excess_DK, 0.0) * weight_K
    any_D = known_DK.any(axis=1)
    lags = int(lags_K.max())
    level_D = np.where(any_D, some_DK.sum(axis=1), np.nan)
    tilt_D = np.where(any_D, some_DK @ x_K / square, np.nan)
    line: Array = np.exp(
        shrunk(level, date_mean(level_D, lags).error, LEVEL_PRIOR)
        + shrunk(tilt, date_mean(tilt_D, lags).error, TILT_PRIOR) * x_K
    )
    return line


def shrunk(value: float, error: float, prior: float) -> float:
    """A Gaussian estimate drawn towards 0 under a Gaussian prior; 0 where its error is unknown."""
    return value * prior**2 / (prior**2 + error**2) if np.isfinite(error) else 0.0


def path_volatility(close_NSH: Array) -> Array:
    """Mean over paths of the deviation (n - 1) of one-step log returns, (N,)."""
    steps = np.diff(close_NSH, axis=2, prepend=0.0)
    volatility: Array = steps.std(axis=2, ddof=1).mean(axis=1)
    return volatility


def fit_memory(
    close_NSH: Array, source_NSH: npt.NDArray[np.floating], actual_NH: Array, sigma_N: Array,
    date_N: Int, lags: int,
) -> float:  # fmt: skip
    """The smoothing at which published paths move as much per bar as the market did.

    close_NSH: log closes, calibrated but for their order. source_NSH: the same paths before.
    Windows whose horizon has not wholly ended are left out. Where the dates leave uncertain how
    much the market moves, paths move as their sources do, times what their first step was
    stretched by: a last step that spreads further says that steps follow each other, not that each
    is larger.
    """
    whole = np.isfinite(actual_NH).all(axis=1)
    if actual_NH.shape[1] < 3 or not whole.any():
        return 0.0
    close, sigma, day = close_NSH[whole], sigma_N[whole], date_N[whole]
    source = np.asarray(source_NSH[whole], np.float64)
    n_dates = int(day.max()) + 1

    def mean(volatility_N: Array) -> float:
        return date_mean(per_date(volatility_N / sigma, day, n_dates), lags).mean

    actual_N = path_volatility(actual_NH[whole][:, None])
    first_N = close[..., 0].std(axis=1) / np.maximum(source[..., 0].std(axis=1), _TINY)
    ours_N = first_N * path_volatility(source)
    theirs, ours = max(mean(actual_N), _TINY), max(mean(ours_N), _TINY)
    excess = per_date(ours_N / sigma / ours - actual_N / sigma / theirs, day, n_dates)
    ratio = np.log(ours / theirs)
    wanted = ratio - shrunk(ratio, date_mean(excess, lags).error, MOVEMENT_PRIOR)
    ordered = np.sort(close, axis=1)

    def distance(memory: float) -> float:
        moved = path_volatility(_given(ordered, smoothed(close, memory)) if memory else close)
        return float(np.log(max(mean(moved), _TINY) / theirs) - wanted)

    if abs(distance(0.0)) < MOVEMENT_STEP:
        return 0.0
    # The stronger the smoothing, the less paths move.
    low, high = 0, len(MEMORIES) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if distance(MEMORIES[middle]) > 0 else (low, middle)
    return min((MEMORIES[low], MEMORIES[high]), key=lambda memory: abs(distance(memory)))
