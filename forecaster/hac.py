"""Means over dates and how sure they are. Knows arrays alone.

Forecasts of one date miss together, and horizons overlap: a mean is taken per date first, and its
error allows for correlation between dates.

Legend: D dates.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Int = npt.NDArray[np.integer]


class DateMean(NamedTuple):
    """Mean over dates with its standard error."""

    mean: float
    error: float
    """Newey–West standard error; NaN with fewer than two dates."""
    dates: int

    @property
    def t(self) -> float:
        return self.mean / self.error if self.error > 0 else float("nan")


def per_date(value_N: Array, date_N: Int, n_dates: int) -> Array:
    """Mean per date, (D,), over finite values; NaN where a date has none."""
    known = np.isfinite(value_N)
    count = np.bincount(date_N[known], minlength=n_dates)
    total = np.bincount(date_N[known], value_N[known], minlength=n_dates)
    mean: Array = np.divide(total, count, out=np.full(n_dates, np.nan), where=count > 0)
    return mean


def date_mean(value_D: Array, lags: int) -> DateMean:
    """Mean of the finite values and its HAC error: Newey & West 1987, Bartlett weights
    1 - l / (lags + 1), with the factor D / (D - 1) for few dates."""
    value = value_D[np.isfinite(value_D)]
    n = len(value)
    if n < 2:
        return DateMean(float(value.mean()) if n else float("nan"), float("nan"), n)
    centred = value - value.mean()
    long_run = float(centred @ centred) / n
    for lag in range(1, min(lags, n - 1) + 1):
        long_run += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag]) / n
    return DateMean(float(value.mean()), float(np.sqrt(max(long_run, 0.0) / (n - 1))), n)


def block_interval(
    value_D: Array, block: int, *, level: float = 0.9, draws: int = 999
) -> tuple[float, float]:
    """Interval of the mean by the circular moving-block bootstrap over dates (Künsch 1989;
    Politis & Romano 1992), percentiles of `draws` fixed draws. NaN with fewer than two dates."""
    value = value_D[np.isfinite(value_D)]
    n = len(value)
    if n < 2:
        return float("nan"), float("nan")
    block = int(np.clip(block, 1, n))
    rng = np.random.default_rng(20)
    starts = rng.integers(0, n, size=(draws, -(-n // block)))
    rows = (starts[..., None] + np.arange(block)).reshape(draws, -1)[:, :n] % n
    means = value[rows].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def overlap_lags(position_D: Int, horizon: int) -> int:
    """Most later dates whose horizon shares bars with one date's: ceil(h / stride) - 1 for an even
    stride. position_D: where each date lies among the market's sessions (or bars), ascending."""
    ends = np.searchsorted(position_D, position_D + horizon, side="left")
    return int((ends - np.arange(len(position_D)) - 1).max(initial=0))
