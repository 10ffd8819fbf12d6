"""What a score was worth beyond its sign: portfolios by quantile, and how its ranking wears off.

Knows scores and the returns that followed.

Legend: D decisions, N symbols, Q quantiles.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.figures.ic import FEWEST_NAMES, correlations

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

STEPS = (1, 2, 3, 5, 10, 15, 20, 30, 40, 60, 90, 120)
"""Bars ahead at which a ranking is looked at again."""


def quantile_returns(scores: pl.DataFrame, quantiles: int = 5) -> pl.DataFrame:
    """quantile (1 is the lowest score), mean, error, dates: return over the horizon of an
    equal-weight portfolio of each quantile of the scores, and the standard error of its mean.

    Names are ranked per decision, ties together; a decision counts where it has as many scores
    with a known return as there are quantiles, at least. Before costs.
    """
    known = scores.filter(pl.col("score").is_finite() & pl.col("realised").is_finite())
    rank = pl.col("score").rank("average").over("as_of")
    names = pl.len().over("as_of")
    placed = known.filter(names >= quantiles).with_columns(
        (((rank - 0.5) / names * quantiles).floor().clip(0, quantiles - 1) + 1)
        .cast(pl.Int64)
        .alias("quantile")
    )
    return (
        placed.group_by("as_of", "quantile")
        .agg(pl.col("realised").mean())
        .group_by("quantile")
        .agg(
            pl.col("realised").mean().alias("mean"),
            (pl.col("realised").std() / pl.len().sqrt()).alias("error"),
            pl.len().cast(pl.Int64).alias("dates"),
        )
        .sort("quantile")
    )


def ic_decay(score_DN: Float, row_D: Int, mark_TN: Float, last_row: int) -> pl.DataFrame:
    """bars, ic, dates: mean rank correlation of the score with the return over that many bars.

    mark_TN: total-return marks. A decision counts where the bars are there and FEWEST_NAMES names
    have both; steps that no decision reaches are left out.
    """
    rows = []
    for step in STEPS:
        there = row_D + step <= last_row
        if not there.any():
            break
        at = row_D[there]
        now_DN = mark_TN[at]
        worth = now_DN > 0  # a name that was delisted for nothing has no return
        return_DN = (
            np.divide(mark_TN[at + step], now_DN, where=worth, out=np.full_like(now_DN, np.nan)) - 1
        )
        enough = (np.isfinite(score_DN[there]) & np.isfinite(return_DN)).sum(1) >= FEWEST_NAMES
        ic_D = correlations(score_DN[there][enough], return_DN[enough], ranked=True)
        ic_D = ic_D[np.isfinite(ic_D)]
        if len(ic_D):
            rows.append((step, float(ic_D.mean()), len(ic_D)))
    return pl.DataFrame(
        rows, schema={"bars": pl.Int64, "ic": pl.Float64, "dates": pl.Int64}, orient="row"
    )
