"""Did the ranking hold? Information coefficients and how sure they are. Knows scores and returns.

Legend: D dates, N symbols.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.results import InformationCoefficient

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

FEWEST_NAMES = 3
"""A ranking of fewer names says nothing."""


def correlations(score_DN: Float, return_DN: Float, *, ranked: bool) -> Float:
    """Pearson, or with `ranked` Spearman (average ranks), correlation of each row; shape (D,).

    Names with a NaN in either are left out of their row; NaN where fewer than two are left or one
    side does not vary.
    """
    out_D = np.full(len(score_DN), np.nan)
    for d, (score_N, return_N) in enumerate(zip(score_DN, return_DN, strict=True)):
        both = np.isfinite(score_N) & np.isfinite(return_N)
        x, y = score_N[both], return_N[both]
        if len(x) < 2:
            continue
        if ranked:
            x, y = _average_ranks(x), _average_ranks(y)
        x, y = x - x.mean(), y - y.mean()
        spread = np.sqrt((x @ x) * (y @ y))
        if spread > 0:
            out_D[d] = (x @ y) / spread
    return out_D


def _average_ranks(value_N: Float) -> Float:
    _, group, count = np.unique(value_N, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    return (ends - (count - 1) / 2)[group]


def overlap(row_D: Int, horizon: int) -> int:
    """Most later dates whose return windows share bars with one date's: the least HAC lag."""
    ends = np.searchsorted(row_D, row_D + horizon, side="left")
    return int((ends - np.arange(len(row_D)) - 1).max(initial=0))


def hac_t(value_D: Float, lag: int) -> float:
    """t-statistic of the mean with a Newey–West (1987) variance, Bartlett weights 1 − l/(lag + 1).

    Var(mean) = (γ₀ + 2 Σ_{l≤lag} (1 − l/(lag+1)) γ_l) / D, γ_l = Σ e_d e_{d−l} / D, without a
    small-sample correction. With few dates per lag it is optimistic; NaN with fewer than two dates
    or no variance.
    """
    n = len(value_D)
    if n < 2:
        return float("nan")
    error = value_D - value_D.mean()
    long_run = float(error @ error) / n
    for l in range(1, min(lag, n - 1) + 1):
        long_run += 2 * (1 - l / (lag + 1)) * float(error[l:] @ error[:-l]) / n
    if not long_run > 1e-30:
        return float("nan")
    return float(value_D.mean() / np.sqrt(long_run / n))


def rank_ic(scores: pl.DataFrame, lag: int) -> InformationCoefficient:
    """Spearman correlation (average ranks) of `score` and `realised` per as_of, and its mean.

    Names without either are left out; a date with fewer than three names left, or with all scores
    or all returns equal, has no IC. The HAC lag is the larger of `lag` (the overlap of the return
    windows) and Newey & West's (1994) rule ⌊4 (D/100)^(2/9)⌋.
    """
    both = pl.col("score").is_finite() & pl.col("realised").is_finite()
    spread = (pl.col("score").n_unique() > 1) & (pl.col("realised").n_unique() > 1)
    ranked = (
        scores.filter(both)
        .group_by("as_of")
        .agg(
            pl.corr(pl.col("score").rank(), pl.col("realised").rank()).alias("ic"),
            pl.len().cast(pl.Int64).alias("names"),
            spread.alias("spread"),
        )
        .with_columns(
            pl.when(pl.col("spread") & (pl.col("names") >= FEWEST_NAMES))
            .then(pl.col("ic"))
            .otherwise(float("nan"))
        )
    )
    by_date = (
        scores.select("as_of", "as_of_date")
        .unique()
        .join(ranked.select("as_of", "ic", "names"), on="as_of", how="left")
        .with_columns(pl.col("ic").fill_null(float("nan")), pl.col("names").fill_null(0))
        .sort("as_of")
    )
    ic_D = by_date["ic"].to_numpy()
    defined_D = ic_D[np.isfinite(ic_D)]
    dates = len(defined_D)
    lag = max(lag, int(4 * (dates / 100) ** (2 / 9)))
    return InformationCoefficient(
        by_date=by_date,
        mean=float(defined_D.mean()) if dates else float("nan"),
        t=hac_t(defined_D, lag),
        lag=lag,
        dates=dates,
    )
