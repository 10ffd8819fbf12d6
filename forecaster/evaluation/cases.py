"""Forecasts and outcomes of the same windows. Knows arrays alone.

Legend: N windows, S members, H horizon, D dates, Q levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from forecaster.interface import TimeArray
from forecaster.quantiles import ensemble_quantiles
from market.errors import ForecastInputError

Array = npt.NDArray[np.float64]

POINTS = 64
"""Members that stand for a forecast of which only quantiles are kept."""


@dataclass(frozen=True, eq=False)
class Cases:
    """What happened in windows that several models forecast."""

    symbols: tuple[str, ...]
    as_of_N: TimeArray
    actual_NH: Array
    """Log return to each step, NaN where there is no outcome."""
    sigma_N: Array
    """Volatility of one bar known at as_of: the unit that makes windows comparable."""
    overlap_H: npt.NDArray[np.int64]
    """Per step, the most later dates that begin before one date's step has ended: HAC lags."""
    range_NH: Array
    """Actual log(high / low); NaN where unknown."""
    log_volume_NH: Array
    """Actual log(volume / volume at as_of); NaN where unknown or zero."""
    group_N: npt.NDArray[np.str_] | None = None

    @cached_property
    def as_of_D(self) -> TimeArray:
        return np.unique(self.as_of_N)

    @cached_property
    def date_N(self) -> npt.NDArray[np.int64]:
        return np.searchsorted(self.as_of_D, self.as_of_N)

    @property
    def horizon(self) -> int:
        return int(self.actual_NH.shape[1])

    @property
    def unit_NH(self) -> Array:
        """sigma · sqrt(h)."""
        unit: Array = self.sigma_N[:, None] * np.sqrt(np.arange(1, self.horizon + 1))
        return unit

    @cached_property
    def regime_D(self) -> npt.NDArray[np.int64]:
        """Thirds of the dates by the market's volatility, known at as_of: 0 calm, 2 wild."""
        median = np.array(
            [np.median(self.sigma_N[self.date_N == d]) for d in range(len(self.as_of_D))]
        )
        rank = np.argsort(np.argsort(median, kind="stable"), kind="stable")
        return rank * 3 // max(len(median), 1)


@dataclass(frozen=True, eq=False)
class Forecasts:
    """What one model said about the cases."""

    name: str
    members_NSH: npt.NDArray[np.floating]
    """Log closes relative to the last; where `exact` is False, points that stand for quantiles."""
    p_up_NH: Array
    exact: bool
    baseline: bool
    path_volatility_N: Array
    """Forecast deviation of one-step log returns over the horizon; NaN where not kept."""
    range_NH: Array
    log_volume_NH: Array
    n_paths: int
    floored_N: Array
    """Share of paths at the price floor."""
    repaired: float = float("nan")
    """Share of sampled bars that broke a bar rule."""

    def __post_init__(self) -> None:
        if self.n_paths < 2:
            raise ForecastInputError(
                f"{self.name}: forecasts of one path cannot be scored; forecast with --paths 64"
            )


def points_of_quantiles(quantiles_NHQ: Array, levels: tuple[float, ...]) -> Array:
    """Members (N, POINTS, H) at even levels of a distribution of which some quantiles are known.

    Linear in the normal score of the level, also beyond the outermost; NaN columns (levels not
    kept) are left out.
    """
    from scipy.stats import norm

    known = np.isfinite(quantiles_NHQ).all(axis=(0, 1))
    x = norm.ppf(np.array(levels)[known])
    wanted = norm.ppf((np.arange(POINTS) + 0.5) / POINTS)
    at = np.clip(np.searchsorted(x, wanted) - 1, 0, len(x) - 2)
    weight = (wanted - x[at]) / (x[at + 1] - x[at])
    kept = quantiles_NHQ[..., known]
    points_NHS = kept[..., at] + weight * (kept[..., at + 1] - kept[..., at])
    return np.moveaxis(points_NHS, -1, 1)


def as_quantiles(members_NSH: npt.NDArray[np.floating], levels: tuple[float, ...]) -> Array:
    """What would be left of an ensemble if only its quantiles were kept: members again."""
    ordered = np.moveaxis(np.sort(np.asarray(members_NSH, np.float64), axis=1), 1, 0)
    quantiles_QNH = ensemble_quantiles(ordered, levels)
    return points_of_quantiles(np.moveaxis(quantiles_QNH, 0, -1), levels)
