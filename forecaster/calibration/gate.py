"""Which of raw, calibrated and baselines did best so far. Knows fits and scores.

The calibrated forecast, a pool of the others, is published unless one of them had a CRPS lower by
more than one standard error (the rule of Breiman et al. 1984): choosing among near equals by a few
dozen dates costs more than it brings.

Legend: N windows, H horizon, K fitted steps, D dates.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from forecaster.calibration.closes import calibrated_closes
from forecaster.calibration.fit import FIT_PATHS, FIT_WINDOWS, fit
from forecaster.calibration.parameters import Calibration
from forecaster.calibration.past import (
    MIN_DATES,
    MODEL,
    POOLED,
    REFERENCE,
    Members,
    PastForecasts,
    fit_steps,
)
from forecaster.hac import date_mean, per_date
from forecaster.scores import window_crps

Array = npt.NDArray[np.float64]

FOLDS = 3
RAW, CALIBRATED, UNCALIBRATED = "raw", "calibrated", "uncalibrated"


@dataclass(frozen=True)
class Fitted:
    """What the past says about how to publish: stored with the run and part of its id."""

    published: str
    """raw, calibrated, or the name of a baseline."""
    status: str
    """One line for people: what is published and why."""
    dates: int
    """Distinct past dates whose horizon had ended."""
    first_date: str | None
    last_date: str | None
    data: str
    """Hash of the past forecasts and outcomes."""
    ratios: dict[str, float]
    """Walk-forward CRPS on the past relative to the random walk, mean over steps."""
    calibration: Calibration | None

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Fitted:
        held = values["calibration"]
        return cls(**values | {"calibration": held and Calibration.from_dict(held)})


def calibrate(past: PastForecasts, *, min_dates: int = MIN_DATES) -> Fitted:
    """The fit and the choice at a moment; `past` is what was known by then (`known_by`).

    With fewer than min_dates dates nothing is fitted and the raw forecast is published.
    """
    dates, days = past.complete_dates, past.as_of_D
    first, last = (str(days[i])[:10] if len(days) else None for i in (0, -1))
    if dates < min_dates:
        return Fitted(
            RAW, f"{UNCALIBRATED}: {dates} of {min_dates} past dates whose horizon has ended",
            dates, first, last, past.digest(), {}, None,
        )  # fmt: skip
    relative = relative_crps(past)
    ratios = {name: float(np.nanmean(each)) for name, each in relative.items()}
    lowest = best = min(ratios, key=lambda name: (ratios[name], name))
    ahead = date_mean(relative[CALIBRATED] - relative[lowest], int(past.overlap_H[-1]))
    because = f"lowest CRPS of {dates} past dates"
    if lowest != CALIBRATED and not ahead.mean > ahead.error:
        best = CALIBRATED
        because = f"CRPS of {dates} past dates within one error ({ahead.error:.3f}) of {lowest}'s"
    others = ", ".join(f"{name} {value:.3f}" for name, value in ratios.items() if name != best)
    status = f"{best}: {because}, {ratios[best]:.3f} of the random walk ({others})"
    return Fitted(best, status, dates, first, last, past.digest(), ratios, fit(past))


def relative_crps(past: PastForecasts) -> dict[str, Array]:
    """CRPS over the random walk's mean per date, (D,), mean over fitted steps; NaN for dates that
    fitted the first block.

    The later half of the dates, in FOLDS blocks, is calibrated with a fit on what was known when
    each block began.
    """
    past = past.learnable().thinned(FIT_WINDOWS, FIT_PATHS)
    at = fit_steps(past.horizon) - 1
    days = past.as_of_D
    candidates = _different({k: each for k, each in past.members.items() if k != MODEL})
    edges = np.linspace(len(days) // 2, len(days), FOLDS + 1).round().astype(int)
    score_NK: dict[str, list[Array]] = {}
    date_N: list[npt.NDArray[np.int64]] = []
    for first, end in itertools.pairwise(edges.tolist()):
        if first == end:
            continue
        block = past.rows((past.date_N >= first) & (past.date_N < end))
        calibration = fit(past.known_by(days[first]), movement=False)
        parts = [block.members[name] for name in (MODEL, *POOLED)]
        made = calibrated_closes(parts, block.sigma_N, calibration)
        members = {RAW: block.members[MODEL], CALIBRATED: made.close_NSH} | {
            name: block.members[name] for name in candidates
        }
        for name, each in members.items():
            score = window_crps(each[..., at], block.actual_NH[:, at]) / block.unit_NH[:, at]
            score_NK.setdefault(name, []).append(score)
        date_N.append(np.searchsorted(days, block.as_of_N))
    day_N = np.concatenate(date_N)
    score_DK = {
        name: np.stack([per_date(column, day_N, len(days)) for column in
                        np.concatenate(parts).T], axis=1)
        for name, parts in score_NK.items()
    }  # fmt: skip
    base_K = np.nanmean(score_DK[REFERENCE], axis=0)
    return {name: _row_mean(each / base_K) for name, each in score_DK.items()}


def _different(members: Mapping[str, Members]) -> list[str]:
    """Names without those whose paths an earlier one has: on daily bars there is no time of day."""
    out: list[str] = []
    for name in sorted(members):
        if not any(np.array_equal(members[name], members[other]) for other in out):
            out.append(name)
    return out


def _row_mean(value_DK: Array) -> Array:
    """Mean of what is known in each row; NaN where nothing is."""
    known = np.isfinite(value_DK)
    total, count = np.where(known, value_DK, 0.0).sum(axis=1), known.sum(axis=1)
    mean: Array = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return mean
