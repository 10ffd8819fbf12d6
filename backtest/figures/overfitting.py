"""How much of a result is luck of the draw. Knows Sharpe ratios and returns alone.

Sharpe ratios here are per bar, not annualised. Legend: T bars, C configurations, B blocks of bars.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from math import e, isfinite, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]
EULER = 0.5772156649015329
MOST_RANKED = 400_000_000
"""Splits × configurations."""
SAME = 11
"""Digits after the point of returns that make configurations differ."""
_NORMAL = NormalDist()


def expected_best_sharpe(trials: int, variance: float) -> float:
    """Expected largest of `trials` independent Sharpe estimates whose true value is 0.

    variance: of the estimates across trials. Bailey & López de Prado (2014), "The Deflated Sharpe
    Ratio", eq. 1; 0 for a single trial, where nothing was chosen.
    """
    if trials < 2:
        return 0.0
    high = _NORMAL.inv_cdf(1 - 1 / trials)
    higher = _NORMAL.inv_cdf(1 - 1 / (trials * e))
    return sqrt(variance) * ((1 - EULER) * high + EULER * higher)


def probabilistic_sharpe(
    sharpe: float, bars: int, *, above: float = 0.0, skew: float = 0.0, kurtosis: float = 3.0
) -> float:
    """Probability that the true Sharpe ratio exceeds `above`, given the estimate.

    Φ((SR − SR*) √(T − 1) / √(1 − skew · SR + (kurtosis − 1) / 4 · SR²)), Bailey & López de Prado
    (2012), eq. 11. kurtosis is not in excess: 3 for a normal law. NaN where it is not defined.
    """
    if bars < 2 or not all(map(isfinite, (sharpe, skew, kurtosis))):
        return float("nan")
    spread = 1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2
    if not spread > 0:
        return float("nan")
    return _NORMAL.cdf((sharpe - above) * sqrt((bars - 1) / spread))


def deflated_sharpe(
    sharpe: float,
    bars: int,
    trials: int,
    *,
    variance: float | None = None,
    skew: float = 0.0,
    kurtosis: float = 3.0,
) -> float:
    """Probability that the true Sharpe ratio is above 0 although the best of `trials` was chosen.

    Bailey & López de Prado (2014). variance: of the Sharpe estimates across the trials; None where
    only their number is known, and then the 1 / T that estimates of a true 0 have is taken.
    """
    spread = 1 / bars if variance is None and bars else variance or 0.0
    return probabilistic_sharpe(
        sharpe, bars, above=expected_best_sharpe(trials, spread), skew=skew, kurtosis=kurtosis
    )


@dataclass(frozen=True)
class Overfitting:
    """Outcome of combinatorially symmetric cross-validation."""

    probability: float
    """Share of the splits in which the best configuration of one half is below the median of the
    other half; those exactly at it count half."""
    logits: Float
    """log(ω / (1 − ω)) per split, ω the relative rank out of sample of the best in sample."""
    splits: int


def block_sums(return_TC: Float, blocks: int) -> tuple[Float, Float, Float]:
    """(bars (B,), sums (B, C), sums of squares (B, C)) of returns over equal blocks of bars.

    Blocks differ by at most one bar. Raises BacktestInputError with fewer bars than blocks.
    """
    edges = block_edges(len(return_TC), blocks)
    parts = [return_TC[a:b] for a, b in pairwise(edges)]
    return (
        np.diff(edges).astype(np.float64),
        np.array([part.sum(axis=0) for part in parts]),
        np.array([(part**2).sum(axis=0) for part in parts]),
    )


def block_edges(bars: int, blocks: int) -> npt.NDArray[np.int64]:
    """Edges (B + 1,) of equal blocks of `bars` returns."""
    if blocks < 2 or blocks % 2:
        raise BacktestInputError(
            f"{blocks} blocks: cross-validation needs an even number, 2 or more"
        )
    if bars < 2 * blocks:
        raise BacktestInputError(
            f"{bars} bars are too few for {blocks} blocks of at least 2; choose fewer blocks"
        )
    return np.linspace(0, bars, blocks + 1).round().astype(np.int64)


def probability_of_overfitting(count_B: Float, sum_BC: Float, square_BC: Float) -> Overfitting:
    """Probability of backtest overfitting by combinatorially symmetric cross-validation.

    Bailey, Borwein, López de Prado & Zhu (2017). All ways to split the blocks into two halves: the
    configuration with the best Sharpe ratio in one half is ranked among all in the other half.
    Ties rank in the middle, and where several are best, each is as likely to be chosen. Where the
    chosen one is exactly at the median (ω = 1/2, possible for odd counts and ties) the split counts
    half, so that noise gives 1/2 for every number of configurations. Configurations should differ
    and trade: see `distinct`. Of very many configurations MOST_RANKED ranks are made, in
    evenly spaced splits; `splits` counts them.
    """
    n_blocks, n_configs = sum_BC.shape
    if n_configs < 2:
        raise BacktestInputError("overfitting needs at least two configurations to choose from")
    halves = list(combinations(range(n_blocks), n_blocks // 2))
    if len(halves) * n_configs > MOST_RANKED:
        # Evenly spaced from both ends: the complement of a split is its mirror image in the list.
        count = max(MOST_RANKED // n_configs // 2, 8)
        first_half = np.unique(np.linspace(0, len(halves) // 2 - 1, count).astype(int))
        halves = [halves[i] for i in (*first_half, *(len(halves) - 1 - first_half[::-1]))]
    inside_SB = np.zeros((len(halves), n_blocks))
    for i, half in enumerate(halves):
        inside_SB[i, list(half)] = 1.0
    logits, below = np.empty(len(halves)), np.empty(len(halves))
    some = int(np.clip(2**22 // n_configs, 1, 256))  # memory stays bounded
    for first in range(0, len(halves), some):
        inside = inside_SB[first : first + some]
        trained = _sharpes(inside, count_B, sum_BC, square_BC)
        tested = _sharpes(1 - inside, count_B, sum_BC, square_BC)
        best = trained == trained.max(axis=1, keepdims=True)
        for i in range(len(inside)):
            chosen = tested[i, best[i]][:, None]
            rank = (tested[i] < chosen).sum(axis=1) + ((tested[i] == chosen).sum(axis=1) + 1) / 2
            share = rank / (n_configs + 1)
            logits[first + i] = np.mean(np.log(share / (1 - share)))
            below[first + i] = np.mean((share < 0.5) + 0.5 * (share == 0.5))
    return Overfitting(float(np.mean(below)), logits, len(halves))


def distinct(
    sum_BC: Float, square_BC: Float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """(columns of the first of each group of identical configurations, which never moved).

    Configurations whose returns have the same sums and sums of squares in every block, to SAME
    digits after the point (more are rounding, as of another starting cash), are one trial, and one
    whose equity never moved is none; the columns leave both out.
    """
    idle_C: npt.NDArray[np.bool_] = np.logical_not((square_BC != 0).any(axis=0))
    rows = np.ascontiguousarray(np.vstack((sum_BC, square_BC)).T.round(SAME))
    first_C = np.unique(rows, axis=0, return_index=True)[1]
    kept = np.sort(first_C[~idle_C[first_C]])
    return kept.astype(np.int64), idle_C


def _sharpes(inside_SB: Float, count_B: Float, sum_BC: Float, square_BC: Float) -> Float:
    """Sharpe ratio per bar of every configuration over the chosen blocks, (S, C).

    One that did not move there, in cash throughout, has 0: neither the best nor the worst.
    """
    bars = (inside_SB @ count_B)[:, None]
    mean = inside_SB @ sum_BC / bars
    variance = (inside_SB @ square_BC / bars - mean**2) * bars / (bars - 1)
    ratio = mean / np.sqrt(np.maximum(variance, 1e-24))
    still = np.where(np.abs(mean) > 1e-15, np.copysign(np.inf, mean), 0.0)
    return np.where(variance > 1e-24, ratio, still)


def walk_forward_sharpe(
    count_B: Float, sum_BC: Float, square_BC: Float, *, least_blocks: int = 4
) -> tuple[float, npt.NDArray[np.int64]]:
    """Sharpe ratio per bar of always trading, in each block, the best configuration so far.

    The first `least_blocks` only train. Returns it and the configuration chosen per later block.
    """
    n_blocks = len(count_B)
    chosen = []
    for b in range(least_blocks, n_blocks):
        before = np.zeros((1, n_blocks))
        before[0, :b] = 1.0
        chosen.append(int(_sharpes(before, count_B, sum_BC, square_BC)[0].argmax()))
    at = np.arange(least_blocks, n_blocks)
    pick = np.array(chosen, np.int64)
    if not len(pick):
        return float("nan"), pick
    bars, total = count_B[at].sum(), sum_BC[at, pick].sum()
    variance = (square_BC[at, pick].sum() - total**2 / bars) / (bars - 1)
    return float(total / bars / np.sqrt(variance)) if variance > 1e-24 else float("nan"), pick
