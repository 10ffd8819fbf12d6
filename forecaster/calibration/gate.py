"""Which of raw, calibrated and baselines did best so far. Knows fits and scores.

Legend: N windows, H horizon, K fitted steps, D dates.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from forecaster.calibration.closes import calibrated_closes
from forecaster.calibration.fit import FIT_PATHS, FIT_WINDOWS, fit
from forecaster.calibration.parameters import Calibration
from forecaster.calibration.past import (
    CANDIDATES,
    MIN_DATES,
    MODEL,
    POOLED,
    PastForecasts,
    fit_steps,
)
from forecaster.hac import per_date
from forecaster.scores import window_crps

Array = npt.NDArray[np.float64]

FOLDS = 3
REFERENCE = "random-walk"
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
    ratios = walk_forward(past)
    best = min(ratios, key=lambda name: (ratios[name], name))
    calibration = fit(past)
    others = ", ".join(f"{name} {value:.3f}" for name, value in ratios.items() if name != best)
    status = (
        f"{best}: lowest CRPS of {dates} past dates, {ratios[best]:.3f} of the random walk "
        f"({others})"
    )
    return Fitted(best, status, dates, first, last, past.digest(), ratios, calibration)


def walk_forward(past: PastForecasts) -> dict[str, float]:
    """CRPS relative to the random walk, mean over fitted steps, of what would have been published.

    The later half of the dates, in FOLDS blocks, is calibrated with a fit on what was known when
    each block began; means are taken per date first.
    """
    past = past.learnable().thinned(FIT_WINDOWS, FIT_PATHS)
    at = fit_steps(past.horizon) - 1
    days = past.as_of_D
    edges = np.linspace(len(days) // 2, len(days), FOLDS + 1).round().astype(int)
    score_NK: dict[str, list[Array]] = {}
    date_N: list[npt.NDArray[np.int64]] = []
    for first, end in itertools.pairwise(edges.tolist()):
        if first == end:
            continue
        block = past.rows((past.date_N >= first) & (past.date_N < end))
        calibration = fit(past.known_by(days[first]))
        parts = [block.members[name] for name in (MODEL, *POOLED)]
        made = calibrated_closes(parts, block.sigma_N, calibration)
        members = {RAW: block.members[MODEL], CALIBRATED: made.close_NSH} | {
            name: block.members[name] for name in CANDIDATES if name in block.members
        }
        for name, each in members.items():
            score = window_crps(each[..., at], block.actual_NH[:, at]) / block.unit_NH[:, at]
            score_NK.setdefault(name, []).append(score)
        date_N.append(np.searchsorted(days, block.as_of_N))
    day_N = np.concatenate(date_N)
    mean_K = {
        name: np.array([np.nanmean(per_date(column, day_N, len(days))) for column in
                        np.concatenate(parts).T])
        for name, parts in score_NK.items()
    }  # fmt: skip
    base_K = mean_K[REFERENCE if REFERENCE in mean_K else POOLED[1]]
    return {name: float((each / base_K).mean()) for name, each in mean_K.items()}
