"""Standardised residuals mapped to those of the past, and followed from date to date.

A conformal predictive system on residuals (Vovk et al. 2019) in the form of a quantile map of the
ensemble, with the quantile tracker of Angelopoulos, Candès & Tibshirani 2023 (after adaptive
conformal inference, Gibbs & Candès 2021) on the log spread: misses of dates whose horizon has ended
move it, in the order in which they became known. What it can promise is coverage per step over
dates in the long run; none for a symbol or a date: in a crash all symbols miss together.

Legend: N windows, S paths, K fitted steps, D dates, Q levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from forecaster.hac import date_mean, per_date
from forecaster.interface import TimeArray
from forecaster.quantiles import ensemble_quantiles

Array = npt.NDArray[np.float64]
Int = npt.NDArray[np.integer]

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Of the sizes of residuals."""
PRIOR_DATES = 15.0
"""Dates' worth of weight for the pool's own residuals."""
KNOT_MEMBERS = 16
"""Members of each ensemble that the pool's own residuals are read from: they are plenty."""
NOMINAL = 0.8
"""Coverage that the tracker holds."""
GAIN = 0.15
"""Log spread per date of wholly missed intervals, before it is divided by the overlap."""
PULL = 0.45
"""Coverage that a Gaussian forecast gains per log of its spread at NOMINAL: 2 z φ(z), z = 1.28."""
_TINY = 1e-12


class Map(NamedTuple):
    """Sizes of residuals in the pool and in the past, ascending, (Q,)."""

    knots: tuple[float, ...]
    upper: tuple[float, ...]
    lower: tuple[float, ...]


def standardised(members_NSK: Array) -> tuple[Array, Array, Array]:
    """Middle (N, K), deviation (N, K) and standardised members of ensembles."""
    middle = members_NSK.mean(axis=1)
    spread = np.maximum(members_NSK.std(axis=1, ddof=1), _TINY)
    return middle, spread, (members_NSK - middle[:, None]) / spread[:, None]


def fit_map(
    unit_NSK: Array, residual_NK: Array, weight_NK: Array, date_N: Int, n_dates: int, lags: int
) -> Map:
    """The map of residual sizes. residual_NK: outcomes in the same units, NaN where unknown;
    weight_NK: 0 there.

    One shape serves all steps, since tails need more dates than one step has; steps that overlap
    less weigh more. Symmetric, unless the residuals' mean over dates is significant (|t| > 2): a
    past that rose must not tilt every forecast.
    """
    known = weight_NK > 0
    residual = np.where(known, residual_NK, 0.0)
    some = np.abs(unit_NSK[:, :KNOT_MEMBERS])
    members_weight = np.broadcast_to(weight_NK[:, None], some.shape)
    knots = _weighted_quantiles(some.ravel(), members_weight.ravel())

    def sizes(side: npt.NDArray[np.bool_]) -> tuple[float, ...]:
        chosen = known & side
        if not chosen.any():
            return tuple(knots)
        found = _weighted_quantiles(np.abs(residual[chosen]), weight_NK[chosen])
        days = len(np.unique(date_N[chosen.any(axis=1)]))
        trust = days / (days + PRIOR_DATES)
        log = trust * np.log(np.maximum(found, _TINY) / np.maximum(knots, _TINY))
        return tuple(np.maximum.accumulate(knots * np.exp(log)))

    both = np.ones_like(known)
    upper = lower = sizes(both)
    drift_D = per_date(np.where(known, residual_NK, np.nan).ravel(),
                       np.repeat(date_N, residual_NK.shape[1]), n_dates)  # fmt: skip
    if abs(date_mean(drift_D, lags).t) > 2:
        upper, lower = sizes(residual > 0), sizes(residual <= 0)
    return Map(tuple(knots), upper, lower)


def _weighted_quantiles(value_M: Array, weight_M: Array) -> Array:
    order = np.argsort(value_M, kind="stable")
    reached = np.cumsum(weight_M[order])
    middle = (reached - 0.5 * weight_M[order]) / reached[-1]
    found: Array = np.interp(LEVELS, middle, value_M[order])
    return found


def mapped(unit: Array, residuals: Map) -> Array:
    """Standardised members through the map: increasing, and in proportion beyond its last knot."""
    size = np.abs(unit)
    out: Array = np.where(
        unit >= 0,
        _stretch(size, residuals.knots, residuals.upper),
        -_stretch(size, residuals.knots, residuals.lower),
    )
    return out


def _stretch(size: Array, knots: Sequence[float], to: Sequence[float]) -> Array:
    inside = np.interp(size, (0.0, *knots), (0.0, *to))
    beyond: Array = np.where(size > knots[-1], size * (to[-1] / max(knots[-1], _TINY)), inside)
    return beyond


def track(
    members_NSK: Array, actual_NK: Array, ended_NK: TimeArray, as_of_D: TimeArray, date_N: Int,
    overlap_K: Int,
) -> float:  # fmt: skip
    """Log factor of the spread after all misses that are known.

    Every date is forecast with the factor known then. The share of its outcomes outside the NOMINAL
    interval, minus the nominal share, moves the factor once each step has ended. One factor serves
    all steps: volatility that changes moves them all, and a few symbols of one date say little of
    one step. A step's gain is divided by how many dates are under way at once, since all of them
    report late. How far the factor strays by chance is left out of what is returned (`_beyond`).
    """
    middle, spread, unit = standardised(members_NSK)
    tail = (1 - NOMINAL) / 2
    ordered = np.sort(unit, axis=1)
    low_NK, high_NK = ensemble_quantiles(np.moveaxis(ordered, 1, 0), (tail, 1 - tail))
    residual_NK = (actual_NK - middle) / spread
    n_dates, n_steps = len(as_of_D), members_NSK.shape[2]
    gain_K = GAIN / n_steps / (1 + overlap_K)
    log, begun = 0.0, 0
    used_D, moved_D = np.zeros(n_dates), np.full(n_dates, np.nan)
    known_NK = np.isfinite(residual_NK)
    ended_DK = np.full((n_dates, n_steps), np.datetime64("NaT", "us"))
    rows_D = [np.flatnonzero(date_N == d) for d in range(n_dates)]
    for d, rows in enumerate(rows_D):
        for k in range(n_steps):
            some = rows[known_NK[rows, k]]
            if len(some):
                ended_DK[d, k] = ended_NK[some, k].max()
    waiting: list[tuple[np.datetime64, int, int]] = sorted(
        (ended_DK[d, k], d, k)
        for d in range(n_dates) for k in range(n_steps) if not np.isnat(ended_DK[d, k])
    )  # fmt: skip
    for moment, d, k in waiting:
        while begun < n_dates and as_of_D[begun] < moment:
            used_D[begun] = log
            begun += 1
        rows = rows_D[d][known_NK[rows_D[d], k]]
        factor = np.exp(used_D[d])
        outside = (residual_NK[rows, k] > factor * high_NK[rows, k]) | (
            residual_NK[rows, k] < factor * low_NK[rows, k]
        )
        move = gain_K[k] * (float(outside.mean()) - (1 - NOMINAL))
        log, moved_D[d] = log + move, np.nansum((moved_D[d], move))
    return _beyond(log, moved_D, PULL * float(gain_K.sum()), int(overlap_K.max()))


def _beyond(log: float, moved_D: Array, pull: float, lags: int) -> float:
    """The factor less what noise explains.

    Where nothing changed, misses still move it, by moved_D per date, and its own effect on coverage
    pulls it back by `pull` per date: an Ornstein-Uhlenbeck process, whose variance is the long-run
    variance of moved_D over 2 pull. Of the factor the share 1 - variance / log² is kept (James &
    Stein 1961, positive part): nearly all of a change of regime, nothing of a stroll.
    """
    found = date_mean(moved_D, lags)
    if not found.error > 0:
        return float(log) if found.error == 0 else 0.0
    variance = found.error**2 * found.dates / (2 * pull)
    return float(log * max(0.0, 1 - variance / max(log**2, _TINY)))
