"""How good sampled forecasts were. Knows arrays alone.

Legend: S paths, H horizon, N symbols.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

WINDOWS_AT_ONCE = 256


def crps(paths_SH: Array, actual_H: Array) -> npt.NDArray[np.float64]:
    """Continuous ranked probability score of an ensemble, per step.

    Uses the fair estimator (Ferro 2014, eq. 6), unbiased in the number of paths, so that forecasts
    with different path counts compare.

    paths_SH: sampled values, shape (paths, …), any unit; NaN-free. actual_H: what happened, shape
    (…), same unit. Returns the shape of actual_H, same unit; lower is better, 0 is perfect.
    Raises ValueError with fewer than two paths or where the shapes differ.
    """
    paths = np.asarray(paths_SH, np.float64)
    actual = np.asarray(actual_H, np.float64)
    if len(paths) < 2 or paths.shape[1:] != actual.shape:
        raise ValueError(
            f"paths of shape {paths.shape} and actual values of shape {actual.shape}: needs (S, …) "
            "with S >= 2, and (…)"
        )
    columns = window_crps(paths.reshape(1, len(paths), -1), actual.reshape(1, -1))
    out: npt.NDArray[np.float64] = columns.reshape(actual.shape)
    return out


def window_crps(
    members_NSH: Array, actual_NH: Array, *, fair: bool = True
) -> npt.NDArray[np.float64]:
    """`crps` of many windows, (N, H); NaN where the outcome or a member is. Without `fair` it is
    the score of the members as a distribution, as for evenly spaced quantiles.

    Members lie in the middle, as forecasts hold them: sorting along another axis of many windows
    takes several times as long; so does fresh memory for all of them at once.
    """
    out = np.empty(actual_NH.shape)
    n = members_NSH.shape[1]
    share = 0.5 if fair else 0.5 * (n - 1) / n
    for first in range(0, len(out), WINDOWS_AT_ONCE):
        rows = slice(first, first + WINDOWS_AT_ONCE)
        members = np.asarray(members_NSH[rows], np.float64)
        error = np.abs(members - np.asarray(actual_NH[rows], np.float64)[:, None]).mean(axis=1)
        out[rows] = error - share * mean_difference(members)
    return out


def mean_difference(members_NSH: Array) -> npt.NDArray[np.float64]:
    """Mean of |x_i - x_j| over pairs of different members (Gini's mean difference), (N, H).

    From order statistics: the sum over unordered pairs is Σ (2k - S + 1) x_(k), k from 0.
    """
    n = members_NSH.shape[1]
    weight_S = (2 * np.arange(n) - n + 1).astype(np.float64)
    ordered = np.sort(members_NSH, axis=1)
    out: npt.NDArray[np.float64] = np.einsum("s,nsh->nh", weight_S, ordered) * (2 / (n * (n - 1)))
    return out


def rank_correlation(score_N: Array, outcome_N: Array) -> float:
    """Spearman's correlation with average ranks; NaN where one side does not vary."""
    if np.ptp(score_N) == 0 or np.ptp(outcome_N) == 0:
        return float("nan")
    return float(np.corrcoef(_average_ranks(score_N), _average_ranks(outcome_N))[0, 1])


def _average_ranks(value_N: Array) -> npt.NDArray[np.float64]:
    _, group, count = np.unique(value_N, return_inverse=True, return_counts=True)
    rank: npt.NDArray[np.float64] = (np.cumsum(count) - (count - 1) / 2)[group]
    return rank
