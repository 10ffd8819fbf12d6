"""Scores to target weights, in compressed rows. Knows scores, nothing of prices or costs.

Legend: R rebalances, M (rebalance, symbol) entries; entries of rebalance r are
start_R1[r]:start_R1[r + 1], as in a compressed sparse row matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Time = npt.NDArray[np.datetime64]


@dataclass(frozen=True)
class TargetWeights:
    """What each rebalance wants to hold; a name not listed is wanted at zero."""

    as_of_R: Time
    """Decision instants (close, UTC), increasing."""
    start_R1: Int
    column_M: Int
    """Index into the symbols of the price table, increasing within a rebalance."""
    weight_M: Float
    """Fractions of the portfolio's value, ≥ 0; they add to at most 1 per rebalance."""

    def __len__(self) -> int:
        return len(self.as_of_R)

    def entries(self, r: int) -> tuple[Int, Float]:
        """Columns and weights of rebalance r."""
        span = slice(self.start_R1[r], self.start_R1[r + 1])
        return self.column_M[span], self.weight_M[span]


def top_k(scores: pl.DataFrame, symbols: Sequence[str], k: int) -> TargetWeights:
    """Equal weights on the k highest scores of each date.

    Ties go to the earlier symbol. NaN scores are never bought; a date with fewer than k scores is
    spread over those it has, and one without any goes to cash.
    """
    ranked = (
        scores.filter(pl.col("score").is_finite())
        .sort(["as_of", "score", "symbol"], descending=[False, True, False])
        .group_by("as_of", maintain_order=True)
        .head(k)
    )
    return _equal(ranked, scores["as_of"].unique().sort(), symbols)


def equal_weight(scores: pl.DataFrame, symbols: Sequence[str]) -> TargetWeights:
    """Equal weights on every symbol forecast at each date, scored or not."""
    return _equal(scores, scores["as_of"].unique().sort(), symbols)


def buy_and_hold(scores: pl.DataFrame, symbols: Sequence[str]) -> TargetWeights:
    """Equal weights on the first date's symbols, never rebalanced."""
    first = scores.filter(pl.col("as_of") == pl.col("as_of").min())
    return _equal(first, first["as_of"].unique(), symbols)


def _equal(held: pl.DataFrame, dates: pl.Series, symbols: Sequence[str]) -> TargetWeights:
    index = {symbol: i for i, symbol in enumerate(symbols)}
    names = {
        row["as_of"]: row["symbol"]
        for row in held.group_by("as_of").agg(pl.col("symbol")).iter_rows(named=True)
    }
    columns = [_columns(names.get(as_of, ()), index) for as_of in dates]
    sizes = [len(c) for c in columns]
    return TargetWeights(
        as_of_R=dates.to_numpy(),
        start_R1=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        column_M=np.concatenate(columns),
        weight_M=np.concatenate([np.full(n, 1 / max(n, 1)) for n in sizes]),
    )


def _columns(names: Iterable[str], index: dict[str, int]) -> Int:
    return np.sort(np.array([index[name] for name in names], np.int64))
