"""Earlier forecasts with what happened, and what of it was known when. Knows arrays alone.

Legend: N windows, S paths, H horizon, D dates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from forecaster.interface import TimeArray
from market.errors import ForecastInputError

Array = npt.NDArray[np.float64]
Members = npt.NDArray[np.floating]

MODEL = "model"
"""Name of the forecasts to be calibrated among the sources; the others are baselines."""
POOLED = ("seasonal", "bootstrap-driftless")
"""Baselines that calibration blends with: filtered historical simulation, by time of day where bars
are shorter than a day, and the driftless bootstrap."""
REFERENCE = "random-walk"
"""Baseline that scores are told relative to."""
ALWAYS = (*POOLED, REFERENCE)
"""Baselines whose closes are kept whatever else is."""
MIN_DATES = 60
"""Distinct dates with a known horizon below which nothing is calibrated."""
SUSPICIOUS = 15.0
"""Outcomes beyond so many volatilities are taken for unadjusted actions and not learned from."""


@dataclass(frozen=True, eq=False)
class PastForecasts:
    """Forecasts of closes, as log returns from the last known close, and their outcomes."""

    symbols: tuple[str, ...]
    as_of_N: TimeArray
    members: Mapping[str, Members]
    """Per source (N, S, H); all sources from the same windows."""
    sigma_N: Array
    """Volatility of one bar, known at as_of: the unit that makes windows comparable; > 0."""
    actual_NH: Array
    """Log return to each step; NaN where it is not known or there was no bar."""
    ended_NH: TimeArray
    """When each outcome was known (close, UTC); NaT where there is none."""

    def __post_init__(self) -> None:
        n, horizon = self.actual_NH.shape
        for name, members in self.members.items():
            if members.shape[0] != n or members.shape[2] != horizon:
                raise ForecastInputError(
                    f"{name}: members of shape {members.shape} for {n} windows of {horizon} steps"
                )
            if members.shape[1] < 2:
                raise ForecastInputError(
                    f"{name}: forecasts of one path cannot be scored or calibrated; "
                    "forecast with --paths 64"
                )

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def horizon(self) -> int:
        return int(self.actual_NH.shape[1])

    @cached_property
    def as_of_D(self) -> TimeArray:
        """Distinct dates, ascending."""
        return np.unique(self.as_of_N)

    @cached_property
    def date_N(self) -> npt.NDArray[np.int64]:
        """Which of the dates each window belongs to."""
        return np.searchsorted(self.as_of_D, self.as_of_N)

    @cached_property
    def unit_NH(self) -> Array:
        """sigma · sqrt(h): what a random walk would spread to."""
        return self.sigma_N[:, None] * np.sqrt(np.arange(1, self.horizon + 1))

    @cached_property
    def complete_dates(self) -> int:
        """Dates of which some window's whole horizon has ended."""
        return len(np.unique(self.as_of_N[np.isfinite(self.actual_NH[:, -1])]))

    @cached_property
    def overlap_H(self) -> npt.NDArray[np.int64]:
        """Per step, the most later dates that begin before one date's step has ended."""
        out = np.zeros(self.horizon, np.int64)
        for h in range(self.horizon):
            known = ~np.isnat(self.ended_NH[:, h])
            if known.any():
                ends = self.ended_NH[known, h]
                later = np.searchsorted(self.as_of_D, ends, side="left") - self.date_N[known] - 1
                out[h] = max(int(np.median(later)), 0)
        return out

    def rows(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> PastForecasts:
        """The chosen windows."""
        chosen = np.arange(len(self))[keep]
        return PastForecasts(
            symbols=tuple(self.symbols[i] for i in chosen),
            as_of_N=self.as_of_N[chosen],
            members={name: each[chosen] for name, each in self.members.items()},
            sigma_N=self.sigma_N[chosen],
            actual_NH=self.actual_NH[chosen],
            ended_NH=self.ended_NH[chosen],
        )

    def known_by(self, moment: np.datetime64) -> PastForecasts:
        """What was known at a moment: earlier windows, and outcomes that had closed by then."""
        past = self.rows(self.as_of_N < moment)
        unknown = np.isnat(past.ended_NH) | (past.ended_NH > moment)
        return replace(
            past,
            actual_NH=np.where(unknown, np.nan, past.actual_NH),
            ended_NH=np.where(unknown, np.datetime64("NaT", "us"), past.ended_NH),
        )

    def learnable(self) -> PastForecasts:
        """Without outcomes so far out that they must be unadjusted splits or bad prices."""
        odd = np.abs(self.actual_NH) > SUSPICIOUS * self.unit_NH
        return replace(self, actual_NH=np.where(odd, np.nan, self.actual_NH))

    def thinned(self, windows: int, paths: int) -> PastForecasts:
        """At most so many windows, evenly over the dates, and the first so many paths."""
        keep = np.ones(len(self), np.bool_)
        if len(self) > windows:
            rank = np.empty(len(self), np.int64)
            for d in range(len(self.as_of_D)):
                of_date = np.flatnonzero(self.date_N == d)
                rank[of_date] = np.arange(len(of_date))
            keep = rank < max(1, windows // len(self.as_of_D))
        chosen = self.rows(keep)
        return replace(chosen, members={k: m[:, :paths] for k, m in chosen.members.items()})

    def digest(self) -> str:
        """Hash of everything a fit reads."""
        hashed = hashlib.blake2b(digest_size=8)
        hashed.update("\x1f".join(self.symbols).encode())
        for part in (self.as_of_N, self.sigma_N, self.actual_NH, self.ended_NH):
            hashed.update(np.ascontiguousarray(part).tobytes())
        for name in sorted(self.members):
            hashed.update(name.encode())
            hashed.update(np.ascontiguousarray(self.members[name]).tobytes())
        return hashed.hexdigest()


def fit_steps(horizon: int) -> npt.NDArray[np.int64]:
    """Steps at which parameters are fitted, 1, 2, 3, 5, 8, 13, 21 … and the last; between them
    they are interpolated, since they move slowly and each costs dates."""
    steps, following = [1, 2], 3
    while following < horizon:
        steps.append(following)
        following = steps[-1] + steps[-2]
    return np.unique(np.minimum([*steps, horizon], horizon)).astype(np.int64)
