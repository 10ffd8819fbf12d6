"""Volatility, range, volume, and whether paths move as markets do. Knows arrays alone.

The three diagnostics of a model whose CRPS is bad: the slope of the outcome on the forecast mean
(1 is right, 0 is noise), the rank correlation of spread and error, and the autocorrelation and
variance ratio of the paths' own increments beside those of the market.

Legend: N windows, S members, H horizon.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from forecaster.evaluation.cases import Cases, Forecasts
from forecaster.hac import date_mean, per_date
from forecaster.scores import rank_correlation

Array = npt.NDArray[np.float64]


def movement_figures(cases: Cases, forecasts: Forecasts) -> dict[str, Any]:
    """Of one model, over the whole horizon; NaN where paths are needed and quantiles are kept."""
    whole = np.asarray(np.isfinite(cases.actual_NH).all(axis=1))
    n_dates, lags = len(cases.as_of_D), int(cases.overlap_H[-1])
    date_N = cases.date_N[whole]

    def mean(value_N: Array) -> float:
        return date_mean(per_date(value_N, date_N, n_dates), lags).mean

    out: dict[str, Any] = {}
    if cases.horizon > 1:
        steps = np.diff(cases.actual_NH[whole], axis=1, prepend=0.0)
        actual = steps.std(axis=1, ddof=1)
        said = forecasts.path_volatility_N[whole]
        usable = (actual > 0) & (said > 0)
        actual, said = np.where(usable, actual, np.nan), np.where(usable, said, np.nan)
        ratio = (actual / said) ** 2
        out["volatility_qlike"] = mean(ratio - np.log(ratio) - 1)
        out["volatility_mae"] = mean(np.abs(said - actual))
        out["path_volatility_ratio"] = mean(said) / mean(actual) if usable.any() else float("nan")
        out |= _increments(forecasts, whole, steps)
    out["range_mae"] = mean(
        np.nanmean(np.abs(forecasts.range_NH[whole] - cases.range_NH[whole]), axis=1)
        if whole.any() else np.array([])
    )  # fmt: skip
    first = np.abs(forecasts.log_volume_NH[whole, 0] - cases.log_volume_NH[whole, 0])
    out["log_volume_mae_1"] = mean(first)
    out["floored"] = float(np.mean(forecasts.floored_N)) if len(forecasts.floored_N) else 0.0
    out["repaired"] = forecasts.repaired
    return out


def _increments(
    forecasts: Forecasts, whole: npt.NDArray[np.bool_], actual_NH: Array
) -> dict[str, float]:
    def shape(steps: Array) -> tuple[float, float]:
        """Lag-1 autocorrelation of increments, and variance of their sum over theirs times H."""
        square = float((steps**2).mean())
        if steps.shape[-1] < 3 or not square > 0:
            return float("nan"), float("nan")
        lag = float((steps[..., 1:] * steps[..., :-1]).mean()) / square
        return lag, float((steps.sum(axis=-1) ** 2).mean()) / (square * steps.shape[-1])

    unit = np.sqrt((actual_NH**2).mean(axis=1, keepdims=True))
    lag, ratio = shape(actual_NH / np.maximum(unit, 1e-300))
    out = {"autocorrelation_actual": lag, "variance_ratio_actual": ratio,
           "autocorrelation": float("nan"), "variance_ratio": float("nan")}  # fmt: skip
    if forecasts.exact:
        paths = np.asarray(forecasts.members_NSH[whole], np.float64)
        steps = np.diff(paths, axis=2, prepend=0.0)
        steps = steps - steps.mean(axis=1, keepdims=True)
        unit = np.sqrt((steps**2).mean(axis=(1, 2), keepdims=True))
        out["autocorrelation"], out["variance_ratio"] = shape(steps / np.maximum(unit, 1e-300))
    return out


def step_diagnostics(cases: Cases, forecasts: Forecasts, h: int) -> dict[str, float]:
    """Slope of the outcome on the forecast mean with its HAC t against 1, and rank correlation of
    the forecast spread with the size of the error, both in volatilities."""
    known = np.isfinite(cases.actual_NH[:, h])
    unit_N = cases.unit_NH[known, h]
    members = np.asarray(forecasts.members_NSH[known, :, h], np.float64)
    x_N, y_N = members.mean(axis=1) / unit_N, cases.actual_NH[known, h] / unit_N
    date_N, n_dates = cases.date_N[known], len(cases.as_of_D)
    weight = 1.0 / np.bincount(date_N, minlength=n_dates)[date_N] if known.any() else x_N
    square = float(weight @ x_N**2)
    slope = t = float("nan")
    if square > 1e-12 * max(len(x_N), 1):
        slope = float(weight @ (x_N * y_N)) / square
        score = date_mean(per_date(x_N * (y_N - slope * x_N), date_N, n_dates),
                          int(cases.overlap_H[h]))  # fmt: skip
        error = score.error * len(np.unique(date_N)) / square
        t = (slope - 1) / error if error > 0 else float("nan")
    spread_N = members.std(axis=1, ddof=1)
    size_N = np.abs(y_N * unit_N - members.mean(axis=1))
    return {
        "slope": slope,
        "slope_t_one": t,
        "spread_error_correlation": rank_correlation(spread_N, size_N)
        if len(size_N) > 2
        else float("nan"),
    }
