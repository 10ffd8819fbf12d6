"""How much of a score is the luck of few paths. Knows forecast rows alone."""

from __future__ import annotations

import polars as pl

from backtest.scores.forecasts import sampling_variance

NOISY = 0.25
"""Share of sampling error in the scores from which a reader is warned."""


def sampling_noise(rows: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """as_of, share: of the variance of expected returns between names, what is sampling error.

    Per date the mean of (standard deviation over paths / last close)² / paths over the variance of
    the expected returns at step `horizon`; of names all alike it may exceed 1. Dates of one name
    have none; empty where the table has no standard deviations.
    """
    if "close_std" not in rows.columns:
        return pl.DataFrame(schema={"as_of": pl.Datetime("us", "UTC"), "share": pl.Float64})
    value = pl.col("close_mean") / pl.col("last_close") - 1
    return (
        rows.filter(pl.col("step") == horizon)
        .group_by("as_of")
        .agg((sampling_variance().mean() / value.var()).alias("share"))
        .filter(pl.col("share").is_finite())
        .sort("as_of")
    )
