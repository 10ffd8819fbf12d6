"""The mean of the forecast log return: how much of it to believe. Knows arrays alone.

Legend: N windows, K fitted steps, D dates.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forecaster.hac import date_mean, per_date

Array = npt.NDArray[np.float64]
Int = npt.NDArray[np.integer]

SIGNIFICANT = 2.0
"""t of a bias up to which nothing of it is removed."""


def fit_location(
    mean_NK: Array, actual_NK: Array, date_N: Int, n_dates: int, lags_K: Int
) -> tuple[Array, Array]:
    """Factor and shift per step, so that factor · mean + shift predicts the outcome.

    mean_NK, actual_NK: in volatilities; NaN where an outcome is not known. Least squares with every
    date weighing the same. The shift is kept only where its HAC t-statistic exceeds SIGNIFICANT,
    and the share 1 - (SIGNIFICANT / t)² of it (James & Stein 1961, positive part). The factor is
    lowered by one HAC standard error, which costs little where the signal is real and much less
    than believing noise, and held within 0 … 1.
    """
    n_steps = mean_NK.shape[1]
    factor_K, shift_K = np.zeros(n_steps), np.zeros(n_steps)
    for k in range(n_steps):
        known = np.isfinite(actual_NK[:, k]) & np.isfinite(mean_NK[:, k])
        x_N, y_N, day_N = mean_NK[known, k], actual_NK[known, k], date_N[known]
        if len(np.unique(day_N)) < 3:
            continue
        lags = int(lags_K[k])
        slope, shift, error = _regression(x_N, y_N, day_N, n_dates, lags, intercept=True)
        residual = per_date(y_N - slope * x_N, day_N, n_dates)
        t = date_mean(residual, lags).t
        if abs(t) > SIGNIFICANT:
            shift_K[k] = shift
        else:
            slope, _, error = _regression(x_N, y_N, day_N, n_dates, lags, intercept=False)
        factor_K[k] = np.clip(slope - error, 0.0, 1.0)
        if shift_K[k]:
            mean_x, mean_y = (np.nanmean(per_date(v, day_N, n_dates)) for v in (x_N, y_N))
            shift_K[k] = (1 - (SIGNIFICANT / t) ** 2) * (mean_y - factor_K[k] * mean_x)
    return factor_K, shift_K


def _regression(
    x_N: Array, y_N: Array, day_N: Int, n_dates: int, lags: int, *, intercept: bool
) -> tuple[float, float, float]:
    """Slope, intercept and the slope's HAC error; every date weighs the same."""
    weight_N = 1.0 / np.bincount(day_N, minlength=n_dates)[day_N]
    x_mean = float(np.average(x_N, weights=weight_N)) if intercept else 0.0
    y_mean = float(np.average(y_N, weights=weight_N)) if intercept else 0.0
    x, y = x_N - x_mean, y_N - y_mean
    square = float(weight_N @ x**2)
    if not square > 0:
        return 0.0, y_mean, 0.0
    slope = float(weight_N @ (x * y)) / square
    days = len(np.unique(day_N))
    score_D = per_date(x * (y - slope * x), day_N, n_dates)
    # The mean of the scores is 0 by construction: their spread over dates is the slope's error.
    error = date_mean(score_D, lags).error * days / square
    return slope, y_mean - slope * x_mean, float(error) if np.isfinite(error) else 0.0
