"""A linear pool of the model and two baselines. Knows arrays alone.

Legend: N windows, S paths, K fitted steps, P parts of the pool.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from forecaster.scores import mean_difference

Array = npt.NDArray[np.float64]
GRID = 10
"""Weights are multiples of 1 / GRID: finer ones would fit noise."""


def fit_weights(
    parts: Sequence[npt.NDArray[np.floating]], actual_NK: Array, scale_NK: Array, weight_NK: Array
) -> tuple[float, ...]:
    """Weights on the simplex with the lowest CRPS of the mixture on the past.

    parts: ensembles (N, S, K). The CRPS of a mixture is Σ w_i e_i - ½ Σ w_i w_j d_ij, with e the
    mean distance of a part's members to the outcome and d that between two parts' members (Gneiting
    & Raftery 2007, eq. 20), so that all mixtures are scored from P + P² numbers.
    """
    wide = [np.asarray(part, np.float64) for part in parts]
    share_NK = weight_NK / np.maximum(weight_NK.sum(axis=0), 1e-12) / scale_NK
    actual = np.where(weight_NK > 0, actual_NK, 0.0)
    n_parts = len(wide)

    def average(value_NK: Array) -> float:
        return float((share_NK * value_NK).sum(axis=0).mean())

    error_P = [average(np.abs(part - actual[:, None]).mean(axis=1)) for part in wide]
    within = [mean_difference(part) for part in wide]
    apart_PP = np.diag([average(each) for each in within])
    for i, j in itertools.combinations(range(n_parts), 2):
        apart_PP[i, j] = apart_PP[j, i] = average(_between(wide[i], wide[j], within[i], within[j]))
    best_score, best = np.inf, np.eye(n_parts)[0]
    for units in _simplex(n_parts, GRID):
        weight_P = np.array(units) / GRID
        score = float(weight_P @ error_P - 0.5 * weight_P @ apart_PP @ weight_P)
        if score < best_score - 1e-12:
            best_score, best = score, weight_P
    return tuple(float(each) for each in best)


def _between(a_NSK: Array, b_NSK: Array, within_a: Array, within_b: Array) -> Array:
    """Mean |x - y| of members of two ensembles, from the pairs of both together."""
    n, m = a_NSK.shape[1], b_NSK.shape[1]
    both = mean_difference(np.concatenate((a_NSK, b_NSK), axis=1))
    pairs = both * (n + m) * (n + m - 1) - within_a * n * (n - 1) - within_b * m * (m - 1)
    apart: Array = pairs / (2 * n * m)
    return apart


def _simplex(parts: int, total: int) -> list[tuple[int, ...]]:
    if parts == 1:
        return [(total,)]
    return [
        (first, *rest)
        for first in range(total, -1, -1)
        for rest in _simplex(parts - 1, total - first)
    ]


def shares(weights: Sequence[float], n_paths: int) -> tuple[int, ...]:
    """How many of n paths each part gives: largest remainders, the first part on ties."""
    exact = np.asarray(weights) * n_paths
    counts = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: n_paths - int(counts.sum())]] += 1
    return tuple(int(each) for each in counts)


def pooled(parts: Sequence[Array], weights: Sequence[float]) -> tuple[Array, npt.NDArray[np.int64]]:
    """Members (N, S, …) of the pool, and which part each comes from (S,).

    Path s stays path s: the first part gives its first paths, the second the ones that follow, so
    that baselines drawn from the same noise never bring the same path twice.
    """
    n_paths = parts[0].shape[1]
    source_S = np.repeat(np.arange(len(parts)), shares(weights, n_paths))
    out = np.concatenate([part[:, source_S == p] for p, part in enumerate(parts)], axis=1)
    return out, source_S
