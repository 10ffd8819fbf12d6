"""How good sampled forecasts were. Knows arrays alone.

Legend: S paths, H horizon, N symbols.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

Array = npt.NDArray[np.floating]


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
    n = len(paths)
    error = np.abs(paths - actual).mean(axis=0)
    # Sum over pairs of |x_i - x_j| from order statistics: 2 · Σ (2k - n + 1) x_(k), k from 0.
    weight_S = 2 * np.arange(n) - n + 1
    spread = np.tensordot(weight_S, np.sort(paths, axis=0), axes=1) / (n * (n - 1))
    out: npt.NDArray[np.float64] = error - spread
    return out


def rank_correlation(score_N: Array, outcome_N: Array) -> float:
    """Spearman's correlation with average ranks; NaN where one side does not vary."""
    if np.ptp(score_N) == 0 or np.ptp(outcome_N) == 0:
        return float("nan")
    both = pl.DataFrame({"score": score_N, "outcome": outcome_N})
    return float(both.select(pl.corr("score", "outcome", method="spearman")).item())
