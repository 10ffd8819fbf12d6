"""P(up) drawn towards the share of rises of the past. Knows arrays alone.

Legend: N windows, S paths, K steps.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forecaster.calibration.location import _regression
from forecaster.hac import per_date

Array = npt.NDArray[np.float64]
Int = npt.NDArray[np.integer]

PRIOR_DATES = 250.0
"""Dates' worth of weight for a share of one half: a year of an index's drift moves the share of one
day by .02 or .03, and 60 dates know it to .065."""


def fit_direction(
    p_up_NK: Array, up_NK: Array, date_N: Int, n_dates: int, lags_K: Int
) -> tuple[Array, Array]:
    """Factor and past share per step, so that share + factor · (p - share) predicts a rise.

    up_NK: 1 for a rise, 0 for none, NaN where unknown. The factor is lowered by one HAC error, as
    for the mean, and held within 0 … 1.
    """
    n_steps = p_up_NK.shape[1]
    factor_K, share_K = np.zeros(n_steps), np.full(n_steps, 0.5)
    for k in range(n_steps):
        known = np.isfinite(up_NK[:, k])
        if len(np.unique(date_N[known])) < 3:
            continue
        lags = int(lags_K[k])
        share_D = per_date(up_NK[known, k], date_N[known], n_dates)
        effective = np.isfinite(share_D).sum() / (1 + lags)
        share_K[k] = (effective * np.nanmean(share_D) + PRIOR_DATES * 0.5) / (
            effective + PRIOR_DATES
        )
        slope, _, error = _regression(
            p_up_NK[known, k] - share_K[k], up_NK[known, k] - share_K[k], date_N[known], n_dates,
            lags, intercept=False,
        )  # fmt: skip
        factor_K[k] = np.clip(slope - error, 0.0, 1.0)
    return factor_K, share_K


def p_up(members_NSK: Array) -> Array:
    """Share of members above the last close."""
    share: Array = (members_NSK > 0).mean(axis=1)
    return share


def turned(members_NSK: Array, factor_K: Array, share_K: Array) -> Array:
    """How far each ensemble must move, (N, K), for its P(up) to be drawn towards the share.

    With P(up) p and the wanted p', the quantile at 1 - p' takes the place of that at 1 - p: 0
    where the forecast is believed.
    """
    p_NK = p_up(members_NSK)
    wanted_NK = share_K + factor_K * (p_NK - share_K)
    ordered = np.sort(members_NSK, axis=1)
    return _at(ordered, 1 - p_NK) - _at(ordered, 1 - wanted_NK)


def _at(ordered_NSK: Array, level_NK: Array) -> Array:
    """Quantiles at a level of each ensemble's own, linear between members at (s - ½) / S."""
    n = ordered_NSK.shape[1]
    position = np.clip(level_NK * n - 0.5, 0, n - 1)
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, n - 1)
    below = np.take_along_axis(ordered_NSK, low[:, None], axis=1)[:, 0]
    above = np.take_along_axis(ordered_NSK, high[:, None], axis=1)[:, 0]
    value: Array = below + (position - low) * (above - below)
    return value
