"""CRPS, coverage and P(up) of one model at one step, and how sure they are. Knows arrays alone.

Every statistic is taken per date first; its error allows for horizons that overlap.

Legend: N windows, S members, H horizon, D dates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from forecaster.evaluation.cases import Cases, Forecasts
from forecaster.hac import block_interval, date_mean, per_date
from forecaster.quantiles import ensemble_quantiles
from forecaster.scores import window_crps

Array = npt.NDArray[np.float64]

COVERAGES = (0.5, 0.8, 0.9)
PIT_BINS = 10
RELIABILITY_BINS = 10
WINDOWS_AT_ONCE = 64


def crps_of(cases: Cases, forecasts: Forecasts) -> Array:
    """CRPS in volatilities, (N, H), fair where there are members; NaN where there is no outcome."""
    crps = window_crps(forecasts.members_NSH, cases.actual_NH, fair=forecasts.exact)
    score: Array = crps / cases.unit_NH
    return score


def step_figures(cases: Cases, forecasts: Forecasts, crps_NH: Array, h: int) -> dict[str, Any]:
    """Everything about one model's step h + 1 that needs no other model."""
    lags = int(cases.overlap_H[h])
    n_dates = len(cases.as_of_D)
    actual_N = cases.actual_NH[:, h]
    known = np.isfinite(actual_N)
    date_N, actual = cases.date_N[known], actual_N[known]
    members_SN = np.sort(np.asarray(forecasts.members_NSH[known, :, h], np.float64), axis=1).T
    crps_D = per_date(crps_NH[known, h], date_N, n_dates)
    out: dict[str, Any] = {
        "windows": int(known.sum()),
        "dates": int(np.isfinite(crps_D).sum()),
        "lags": lags,
        "crps": date_mean(crps_D, lags).mean,
    }
    for level in COVERAGES:
        low, high = ensemble_quantiles(members_SN, ((1 - level) / 2, (1 + level) / 2))
        inside_D = per_date(
            ((low <= actual) & (actual <= high)).astype(np.float64), date_N, n_dates
        )
        name = f"coverage_{round(100 * level)}"
        out[name] = date_mean(inside_D, lags).mean
        out[f"{name}_low"], out[f"{name}_high"] = block_interval(inside_D, 1 + lags)
    out["pit"] = pit_histogram(members_SN, actual).tolist()
    return out | direction_figures(forecasts.p_up_NH[known, h], actual > 0, date_N, n_dates, lags)


def pit_histogram(members_SN: Array, actual_N: Array) -> Array:
    """Share of outcomes per tenth of the forecast distribution: flat where it is right.

    The place of an outcome among S members is (members below + ½ members equal + ½) / (S + 1).
    """
    below = (members_SN < actual_N).sum(axis=0) + 0.5 * (members_SN == actual_N).sum(axis=0)
    place = (below + 0.5) / (len(members_SN) + 1)
    counts, _ = np.histogram(place, bins=PIT_BINS, range=(0, 1))
    share: Array = counts / max(len(actual_N), 1)
    return share


def direction_figures(
    p_up_N: Array, up_N: npt.NDArray[np.bool_], date_N: npt.NDArray[np.integer], n_dates: int,
    lags: int,
) -> dict[str, Any]:  # fmt: skip
    """Brier score (a coin has 0.25), area under the ROC curve, and reliability."""
    brier = date_mean(per_date((p_up_N - up_N) ** 2, date_N, n_dates), lags)
    bins = np.minimum((p_up_N * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    reliability = [
        [float(p_up_N[bins == b].mean()), float(up_N[bins == b].mean()), int((bins == b).sum())]
        for b in range(RELIABILITY_BINS)
        if (bins == b).any()
    ]
    return {
        "brier": brier.mean,
        "brier_t_coin": date_mean(per_date((p_up_N - up_N) ** 2 - 0.25, date_N, n_dates), lags).t,
        "auc": auc(p_up_N, up_N),
        "reliability": reliability,
    }


def auc(score_N: Array, positive_N: npt.NDArray[np.bool_]) -> float:
    """Probability that a rise was given a higher P(up) than a fall, ties one half (Mann-Whitney);
    NaN with one kind alone."""
    n_up = int(positive_N.sum())
    n_down = len(positive_N) - n_up
    if not n_up or not n_down:
        return float("nan")
    _, group, count = np.unique(score_N, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2
    return float((rank[group][positive_N].sum() - n_up * (n_up + 1) / 2) / (n_up * n_down))


def compared(
    cases: Cases,
    ours_N: Array,
    theirs_N: Array,
    h: int,
    keep_N: npt.NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Ratio of mean CRPS, t of the difference per date (plus is worse), and the dates a difference
    of this size would need for t = 2."""
    both = np.isfinite(ours_N) & np.isfinite(theirs_N)
    if keep_N is not None:
        both &= keep_N
    n_dates, lags = len(cases.as_of_D), int(cases.overlap_H[h])
    date_N = cases.date_N[both]
    ours_D, theirs_D = (per_date(v[both], date_N, n_dates) for v in (ours_N, theirs_N))
    difference = date_mean(ours_D - theirs_D, lags)
    base = date_mean(theirs_D, lags).mean
    t = difference.t
    needed = difference.dates * (2 / abs(t)) ** 2 if abs(t) > 1e-9 else float("nan")
    return {
        "ratio": date_mean(ours_D, lags).mean / base if base > 0 else float("nan"),
        "t": t,
        "dates_for_t2": needed,
    }


def energy_score(members_NSH: npt.NDArray[np.floating], actual_NH: Array, unit_NH: Array) -> Array:
    """Fair energy score of whole paths in volatilities per step, (N,): E|X - y| - ½ E|X - X'| with
    Euclidean norms over steps / sqrt(H) (Gneiting & Raftery 2007, eq. 22). NaN where a step has no
    outcome."""
    n_steps, n = actual_NH.shape[1], members_NSH.shape[1]
    out = np.full(len(actual_NH), np.nan)
    whole = np.flatnonzero(np.isfinite(actual_NH).all(axis=1))
    for first in range(0, len(whole), WINDOWS_AT_ONCE):
        rows = whole[first : first + WINDOWS_AT_ONCE]
        unit = unit_NH[rows, None]
        x = np.asarray(members_NSH[rows], np.float64) / unit
        error = np.sqrt(((x - actual_NH[rows, None] / unit) ** 2).sum(axis=2)).mean(axis=1)
        square = (x**2).sum(axis=2)
        apart = square[:, :, None] + square[:, None] - 2 * x @ np.swapaxes(x, 1, 2)
        total = np.sqrt(np.maximum(apart, 0.0)).sum(axis=(1, 2))
        out[rows] = (error - 0.5 * total / (n * (n - 1))) / np.sqrt(n_steps)
    return out
