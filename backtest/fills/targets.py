"""Target weights in compressed rows: joining, checking, taking apart. Knows no scores and no fills.

Legend: D decisions, M (decision, symbol) entries.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from backtest.fills.inputs import Targets
from backtest.fills.prices import PriceTable
from backtest.fills.rules import Rules
from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


def check_targets(targets: Targets, prices: PriceTable, rules: Rules) -> None:
    """Raise BacktestInputError for weights no account could be told to hold.

    Refused, naming symbol and date: decisions out of order, NaN weights, negative weights without
    `short`, weights adding to more than the leverage limit, names listed twice.
    """
    out_of_order = np.flatnonzero(np.diff(targets.row_R) <= 0)
    for s in targets.set_S1[1:-1]:
        out_of_order = out_of_order[out_of_order != s - 1]
    if len(out_of_order):
        at = int(out_of_order[0])
        days = [prices.sessions_T[targets.row_R[i]] for i in (at, at + 1)]
        raise BacktestInputError(
            f"decision of {days[1]} comes after that of {days[0]} (rule: dates increase)"
        )
    decision_M = np.repeat(np.arange(len(targets.row_R)), np.diff(targets.start_R1))

    def refuse(broken_M: npt.NDArray[np.bool_], problem: str) -> None:
        if broken_M.any():
            at = int(np.flatnonzero(broken_M)[0])
            day = prices.sessions_T[targets.row_R[decision_M[at]]]
            raise BacktestInputError(
                f"{prices.symbols[targets.column_M[at]]}: weight {targets.weight_M[at]:g} on {day} "
                f"{problem}"
            )

    refuse(~np.isfinite(targets.weight_M), "(rule: weights are numbers)")
    orders = len(targets.unit_M) > 0
    if not rules.short and not orders:
        refuse(targets.weight_M < 0, "is a short position; allow it with short: true")
    key_M = decision_M * len(prices.symbols) + targets.column_M
    repeated = np.ones(len(key_M), np.bool_)
    repeated[np.unique(key_M, return_index=True)[1]] = False
    refuse(repeated, "is the second for that name (rule: one weight per name)")
    if orders:
        return
    gross_R = np.bincount(decision_M, np.abs(targets.weight_M), minlength=len(targets.row_R))
    over = np.flatnonzero(gross_R > rules.leverage * (1 + 1e-9))
    if len(over):
        r = int(over[0])
        span = slice(int(targets.start_R1[r]), int(targets.start_R1[r + 1]))
        heaviest = int(np.argmax(np.abs(targets.weight_M[span]))) + span.start
        raise BacktestInputError(
            f"weights of {prices.sessions_T[targets.row_R[r]]} add to {gross_R[r]:.6g}, the "
            f"largest {targets.weight_M[heaviest]:.6g} on "
            f"{prices.symbols[targets.column_M[heaviest]]} "
            f"(rule: at most the leverage limit {rules.leverage:g})"
        )


def many_targets(sets: list[Targets]) -> Targets:
    """Several target sets as one, for `kernels.simulate_many_nb`; the order is kept."""
    rows = [len(t.row_R) for t in sets]
    entries = np.cumsum([0, *(len(t.column_M) for t in sets)])
    starts = [t.start_R1[:-1] + entry for t, entry in zip(sets, entries, strict=False)]
    return Targets(
        set_S1=np.cumsum([0, *rows]).astype(np.int64),
        row_R=np.concatenate([t.row_R for t in sets]),
        start_R1=np.concatenate([*starts, entries[-1:]]).astype(np.int64),
        column_M=np.concatenate([t.column_M for t in sets]),
        weight_M=np.concatenate([t.weight_M for t in sets]),
        unit_M=np.concatenate([t.unit_M for t in sets]),
        limit_M=np.concatenate([t.limit_M for t in sets]),
    )


def target_set(targets: Targets, at: int) -> Targets:
    """One of several target sets, alone."""
    first, end = int(targets.set_S1[at]), int(targets.set_S1[at + 1])
    start_R1 = targets.start_R1[first : end + 1]
    span = slice(int(start_R1[0]), int(start_R1[-1]))
    return Targets(
        np.array([0, end - first]),
        targets.row_R[first:end],
        start_R1 - start_R1[0],
        targets.column_M[span],
        targets.weight_M[span],
    )


def needed(matrix: npt.NDArray[Any] | None, purpose: str) -> npt.NDArray[Any]:
    """The matrix, or BacktestInputError saying what needs it."""
    if matrix is None:
        raise BacktestInputError(f"{purpose} need a signal that was not given")
    return matrix


def decisions(start_D1: Int) -> Int:
    """Number of the decision that each entry belongs to."""
    return np.repeat(np.arange(len(start_D1) - 1), np.diff(start_D1))


def starts(size_D: npt.NDArray[np.integer]) -> Int:
    """Row starts from row sizes."""
    return np.concatenate(([0], np.cumsum(size_D))).astype(np.int64)


def one_set(row_D: Int, start_D1: Int, column_M: Int, weight_M: Float) -> Targets:
    """Entries as the only target set."""
    return Targets(
        np.array([0, len(row_D)], np.int64),
        np.asarray(row_D, np.int64),
        start_D1,
        column_M,
        weight_M,
    )
