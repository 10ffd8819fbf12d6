"""Scores to target weights, in compressed rows. Knows scores, nothing of fills or costs.

A decision lists names in the order in which they compete for cash: best score first. NaN scores are
never bought. What caps take away stays in cash.

Legend: D decisions, N symbols, M (decision, symbol) entries, W bars of a return window.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from backtest.fills.inputs import Targets
from backtest.fills.targets import decisions, needed, one_set, starts
from backtest.weights.caps import capped
from backtest.weights.optimised import optimised
from backtest.weights.selection import best_nb, dropout_nb, hysteresis_nb
from backtest.weights.settings import (
    OPTIMISED,
    Float,
    Int,
    Name,
    Signals,
    StrategySettings,
    Weighting,
)


def build_targets(
    settings: StrategySettings,
    signals: Signals,
    *,
    bars_per_year: float = 252.0,
    group_N: Int | None = None,
) -> Targets:
    """Decisions of one strategy on every row of `signals`, caps applied.

    group_N: number of each symbol's group (sector), for max_group. Caps are applied in this order:
    position, group, volatility target, turnover; each only ever shrinks exposure or the move.
    Raises BacktestInputError where a signal the settings need is missing.
    """
    start_D1, column_M, weight_M = _RULES[settings.name](settings, signals)
    plain = not (settings.max_weight or settings.max_group or settings.max_turnover)
    if plain and not settings.volatility_target:
        return one_set(signals.row_D, start_D1, column_M, weight_M)
    return capped(settings, signals, start_D1, column_M, weight_M, bars_per_year, group_N)


def equal_weight(row_D: Int, listed_DN: npt.NDArray[np.bool_]) -> Targets:
    """Equal weights on every listed name of each decision."""
    size_D = listed_DN.sum(axis=1)
    weight_M = np.repeat(1 / np.maximum(size_D, 1), size_D)
    return one_set(row_D, starts(size_D), np.nonzero(listed_DN)[1].astype(np.int64), weight_M)


WHOLE = 1e-9
"""Names short by less than this count as whole: 29% of 100 are 29."""
Entries = tuple[Int, Int, Float]
"""start_D1, column_M, weight_M"""


def _topk(s: StrategySettings, signals: Signals) -> Entries:
    start_D1, column_M = best_nb(signals.score_DN, np.full(len(signals.row_D), s.k, np.int64))
    return start_D1, column_M, _weigh(s.weighting, signals, start_D1, column_M)


def _dropout(s: StrategySettings, signals: Signals) -> Entries:
    start_D1, column_M = dropout_nb(signals.score_DN, s.k, s.n_drop)
    return start_D1, column_M, _weigh(s.weighting, signals, start_D1, column_M)


def _threshold(s: StrategySettings, signals: Signals) -> Entries:
    held_DN = hysteresis_nb(signals.score_DN, s.enter, s.leave)
    ranked_DN = np.where(held_DN, np.nan_to_num(signals.score_DN, nan=-np.inf), np.nan)
    start_D1, column_M = best_nb(ranked_DN, np.full(len(ranked_DN), ranked_DN.shape[1], np.int64))
    return start_D1, column_M, _weigh(s.weighting, signals, start_D1, column_M)


def _longshort(s: StrategySettings, signals: Signals) -> Entries:
    """Best `quantile` long, worst short, Σ|w| = gross; the legs are dollar- or beta-neutral.

    Where one score reaches into both legs, its names are in neither; a date that leaves a leg empty
    goes to cash.
    Beta-neutral: with β_L, β_S the legs' weighted betas, the long leg gets gross · β_S / (β_L +
    β_S), so that the betas cancel; where a leg's beta is not above 0 the date goes to cash.
    """
    named_D = np.isfinite(signals.score_DN).sum(axis=1)
    most_D = np.floor(named_D * s.quantile + WHOLE).astype(np.int64)
    long, short = _without_ties(
        signals.score_DN, best_nb(signals.score_DN, most_D), best_nb(-signals.score_DN, most_D)
    )
    legs = [
        _weigh(s.weighting, signals, *long),
        _weigh(s.weighting, signals, *short, sign=-1.0),
    ]
    share_D = np.full(len(most_D), 0.5)
    if s.neutral == "beta":
        beta_DN = needed(signals.beta_DN, "beta-neutral legs")
        slopes = [
            np.bincount(decisions(start), weight * beta_DN[decisions(start), column], len(most_D))
            for (start, column), weight in zip((long, short), legs, strict=True)
        ]
        with np.errstate(divide="ignore", invalid="ignore"):
            share_D = slopes[1] / (slopes[0] + slopes[1])
        share_D[~((slopes[0] > 0) & (slopes[1] > 0))] = np.nan
    longs_D, shorts_D = np.diff(long[0]), np.diff(short[0])
    both_D = (longs_D > 0) & (shorts_D > 0) & np.isfinite(share_D)
    size_D = np.where(both_D, longs_D + shorts_D, 0)
    columns, weights = [], []
    for d in np.flatnonzero(size_D):
        up = slice(int(long[0][d]), int(long[0][d + 1]))
        down = slice(int(short[0][d]), int(short[0][d + 1]))
        columns += [long[1][up], short[1][down]]
        weights += [
            s.gross * share_D[d] * legs[0][up],
            -s.gross * (1 - share_D[d]) * legs[1][down],
        ]
    nothing = [np.empty(0)]
    return (
        starts(size_D),
        np.concatenate(columns or nothing).astype(np.int64),
        np.concatenate(weights or nothing),
    )


def _without_ties(
    score_DN: Float, long: tuple[Int, Int], short: tuple[Int, Int]
) -> tuple[tuple[Int, Int], tuple[Int, Int]]:
    """Legs without the names whose score stands in both."""
    kept: tuple[list[Int], list[Int]] = ([], [])
    for d, score_N in enumerate(score_DN):
        legs = [column[start[d] : start[d + 1]] for start, column in (long, short)]
        tied = np.intersect1d(score_N[legs[0]], score_N[legs[1]])
        for leg, column in zip(kept, legs, strict=True):
            leg.append(column[~np.isin(score_N[column], tied)])
    made = [
        (starts(np.array([len(each) for each in leg], np.int64)), np.concatenate(leg))
        for leg in kept
    ]
    return made[0], made[1]


def _kelly(s: StrategySettings, signals: Signals) -> Entries:
    """w = fraction · mean / variance per name (Kelly 1956; Thorp 2006 for the continuous form).

    Names are sized one by one, as if independent; where Σ|w| exceeds `gross`, all shrink alike.
    """
    mean_DN = needed(signals.mean_DN, "Kelly weights")
    deviation_DN = needed(signals.deviation_DN, "Kelly weights")
    with np.errstate(divide="ignore", invalid="ignore"):
        weight_DN = s.kelly_fraction * mean_DN / deviation_DN**2
    weight_DN[~np.isfinite(weight_DN) | np.isnan(signals.score_DN)] = 0.0
    if not signals.short:
        weight_DN = np.maximum(weight_DN, 0.0)
    total_D = np.abs(weight_DN).sum(axis=1)
    weight_DN *= (s.gross / np.maximum(total_D, s.gross))[:, None]
    order_DN = np.where(weight_DN != 0, np.abs(weight_DN), np.nan)
    start_D1, column_M = best_nb(order_DN, np.full(len(order_DN), order_DN.shape[1], np.int64))
    return start_D1, column_M, weight_DN[decisions(start_D1), column_M]


_RULES: dict[Name, Callable[[StrategySettings, Signals], Entries]] = {
    "topk": _topk,
    "dropout": _dropout,
    "threshold": _threshold,
    "longshort": _longshort,
    "kelly": _kelly,
    **dict.fromkeys(OPTIMISED, optimised),
}


def _weigh(
    weighting: Weighting, signals: Signals, start_D1: Int, column_M: Int, sign: float = 1.0
) -> Float:
    """Positive weights that add to 1 per decision; sign -1 for a leg of low scores.

    score: proportional to how far sign · score lies above the least one chosen, plus the mean such
    distance, so that the least still gets a share; inverse_volatility: to 1 / σ, names without an
    estimate as the median of the others.
    """
    size_D = np.diff(start_D1)
    if weighting == "equal":
        return np.repeat(1 / np.maximum(size_D, 1), size_D)
    decision_M = decisions(start_D1)
    if weighting == "score":
        value_M = sign * signals.score_DN[decision_M, column_M]
    else:
        value_M = (
            1 / needed(signals.volatility_DN, "inverse-volatility weights")[decision_M, column_M]
        )
    out_M = np.empty(len(column_M))
    for d in np.flatnonzero(size_D):
        span = slice(int(start_D1[d]), int(start_D1[d + 1]))
        value = value_M[span]
        known = value[np.isfinite(value)]
        value = np.where(np.isfinite(value), value, np.median(known) if len(known) else 1.0)
        if weighting == "score":
            off = value - value.min()
            value = off + (off.mean() or 1.0)
        out_M[span] = value / value.sum()
    return out_M
