"""What followed the scores: realised returns, and which dates a model may have seen.

Knows decisions, targets and prices; nothing of fills.

Legend: D decisions, N symbols, M (decision, symbol) scores.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.fills.inputs import Targets
from backtest.fills.prices import PriceTable
from backtest.scores.decisions import Decisions
from market.flags import Flag

Int = npt.NDArray[np.int64]


def held_nothing(made: Decisions, targets: Targets) -> int:
    """Decisions on which some name had a score and none a weight."""
    if made.brought is not None:
        return 0
    scored_D = np.isfinite(made.matrix("score")).any(axis=1)
    entry_M = np.repeat(np.arange(len(targets.row_R)), np.diff(targets.start_R1))
    held_D = np.bincount(entry_M, np.abs(targets.weight_M), minlength=len(targets.row_R)) > 0
    return int((scored_D & ~held_D).sum())


def with_outcomes(made: Decisions, targets: Targets, last_row: int) -> pl.DataFrame:
    """Scores with what followed: `realised`, `picked` (held long) and `in_sample`.

    realised: mark after `horizon` bars / close at as_of − 1; a suspended name at its last close, a
    delisted one at its settlement (leaving it out would forget the worst), NaN where the window
    runs past the end.
    """
    row_M, column_M = made.places()
    mark_TN = made.prices.total_marks
    end_M = row_M + made.horizon
    realised_M = mark_TN[np.minimum(end_M, last_row), column_M] / mark_TN[row_M, column_M] - 1
    realised_M[end_M > last_row] = np.nan
    long_DN = np.zeros((len(made.row_D), len(made.prices.symbols)), np.bool_)
    decision_M = np.repeat(np.arange(len(targets.row_R)), np.diff(targets.start_R1))
    long_DN[decision_M, targets.column_M] = targets.weight_M > 0
    return made.scores.with_columns(
        pl.Series("realised", realised_M),
        pl.Series("picked", long_DN[np.searchsorted(made.row_D, row_M), column_M]),
        ((pl.col("flags") & int(Flag.IN_SAMPLE)) != 0).alias("in_sample"),
    )


def picks_above_median(scores: pl.DataFrame) -> float:
    known = scores.filter(pl.col("realised").is_finite())
    beat = known.select(
        "picked", (pl.col("realised") > pl.col("realised").median().over("as_of")).alias("beat")
    ).filter("picked")["beat"]
    return float(beat.mean()) if len(beat) else float("nan")  # type: ignore[arg-type]


def in_sample_spans(
    scores: pl.DataFrame, prices: PriceTable, row_D: Int, last_row: int
) -> tuple[tuple[np.datetime64, np.datetime64], ...]:
    """Label ranges traded on in-sample forecasts: from each date to the next one's."""
    by_date = scores.group_by("as_of").agg(pl.col("in_sample").any()).sort("as_of")
    marked = by_date["in_sample"].to_numpy()
    ends = np.minimum(np.append(row_D[1:], last_row), last_row)
    spans: list[tuple[np.datetime64, np.datetime64]] = []
    for row, end, inside in zip(row_D, ends, marked, strict=True):
        if not inside:
            continue
        first, last = prices.labels_T[min(row, last_row)], prices.labels_T[end]
        if spans and spans[-1][1] == first:
            first = spans.pop()[0]
        spans.append((first, last))
    return tuple(spans)


def kept_weights(unsolved: Mapping[int, str], made: Decisions) -> tuple[str, ...]:
    """A sentence on decisions that no weights were found for. unsolved: why, by decision."""
    if not unsolved:
        return ()
    first = min(unsolved)
    session = made.prices.sessions_T[made.row_D[first]]
    sentence = (
        f"No weights found on {len(unsolved)} of {len(made.row_D)} decisions, the first on "
        f"{session}: {unsolved[first]}. They kept the weights of the decision before."
    )
    return (sentence,)
