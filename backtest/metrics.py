"""What a book earned and whether its ranking held. Knows arrays of equity and scores alone.

Conventions: returns are simple returns of the equity from close to close; the risk-free rate is
zero; "annualised" means × N (means) or × √N (deviations) with N = bars per year, which
`bars_per_year` counts from the bars. Figures that are not defined are NaN.

Legend: T bars, R rebalances, D forecast dates.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.results import InformationCoefficient, Metrics

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Time = npt.NDArray[np.datetime64]

YEAR = np.timedelta64(31_557_600_000_000, "us")
"""365.25 days."""
USUAL_YEARS = (252.0, 365.0, 52.0, 12.0)
"""Sessions of a stock exchange, days, weeks, months."""
FEWEST_NAMES = 3
"""A ranking of fewer names says nothing."""


def bars_per_year(labels_T: Time) -> float:
    """Bars per year, counted; taken as 252, 365, 52 or 12 where the count is within 5% of it."""
    if len(labels_T) < 2:
        return float("nan")
    counted = float((len(labels_T) - 1) / ((labels_T[-1] - labels_T[0]) / YEAR))
    for usual in USUAL_YEARS:
        if abs(counted / usual - 1) <= 0.05:
            return usual
    return counted


def returns(equity_T: Float) -> Float:
    """Simple return of each bar, shape (T - 1,)."""
    return equity_T[1:] / equity_T[:-1] - 1


def drawdown(equity_T: Float) -> Float:
    """equity / highest equity so far − 1; 0 at a peak."""
    return equity_T / np.maximum.accumulate(equity_T) - 1


def longest_drawdown(equity_T: Float) -> int:
    """Bars of the longest spell below an earlier peak, a spell still open at the end included."""
    longest = spell = 0
    for below in drawdown(equity_T) < 0:
        spell = spell + 1 if below else 0
        longest = max(longest, spell)
    return longest


def cagr(equity_T: Float, years: float) -> float:
    """(last / first)^(1 / years) − 1, over calendar years of 365.25 days."""
    return float((equity_T[-1] / equity_T[0]) ** (1 / years) - 1)


def volatility(return_T: Float, periods: float) -> float:
    """Sample standard deviation (ddof 1) × √N."""
    return float(np.std(return_T, ddof=1) * np.sqrt(periods)) if len(return_T) > 1 else float("nan")


def sharpe(return_T: Float, periods: float) -> float:
    """Mean / sample deviation × √N (Sharpe 1994), risk-free rate zero."""
    deviation = volatility(return_T, periods)
    # Below rounding of the returns themselves there is no risk to divide by.
    if not deviation > 1e-12:
        return float("nan")
    return float(np.mean(return_T)) * periods / deviation


def sharpe_error(return_T: Float, periods: float) -> float:
    """Standard error of the annualised Sharpe ratio: √((1 + SR²/2) / T) × √N, SR per bar.

    Lo (2002), "The Statistics of Sharpe Ratios", eq. 9: returns independent and identically
    distributed. Fat tails and autocorrelation make the true error larger.
    """
    per_bar = sharpe(return_T, periods) / np.sqrt(periods)
    return float(np.sqrt((1 + per_bar**2 / 2) / len(return_T) * periods))


def sortino(return_T: Float, periods: float) -> float:
    """Mean / √(mean of min(return, 0)²) × √N (Sortino & van der Meer 1991), target zero."""
    downside = float(np.sqrt(np.mean(np.minimum(return_T, 0) ** 2))) if len(return_T) else 0.0
    if not downside > 0:
        return float("nan")
    return float(np.mean(return_T) / downside * np.sqrt(periods))


def hit_rate(return_T: Float) -> float:
    """Share of gains among the non-zero returns."""
    moved = return_T[return_T != 0]
    return float(np.mean(moved > 0)) if len(moved) else float("nan")


def summarise_book(
    daily: pl.DataFrame, orders: pl.DataFrame, rebalances: pl.DataFrame, periods: float
) -> Metrics:
    """All figures of one book; frames as backtest.results.Book holds them.

    Turnover: Σ over rebalances of traded value / (2 · equity at the decision), per calendar year;
    replacing the whole portfolio once counts 1. Cost drag: (commission + slippage) / mean equity,
    per calendar year. Payouts of delisted names count in neither, nor as orders.
    """
    equity_T = daily["equity"].to_numpy()
    labels_T = daily["timestamp"].to_numpy()
    return_T = returns(equity_T)
    years = float((labels_T[-1] - labels_T[0]) / YEAR)
    traded = orders.filter(~pl.col("settled"))
    costs = float(traded["fee"].sum()) + float(traded["slippage"].sum())
    return Metrics(
        total_return=float(equity_T[-1] / equity_T[0] - 1),
        cagr=cagr(equity_T, years),
        volatility=volatility(return_T, periods),
        sharpe=sharpe(return_T, periods),
        sharpe_error=sharpe_error(return_T, periods),
        sortino=sortino(return_T, periods),
        max_drawdown=float(drawdown(equity_T).min()),
        longest_drawdown=longest_drawdown(equity_T),
        turnover=float(rebalances["turnover"].sum()) / years,
        cost_drag=costs / float(equity_T.mean()) / years,
        hit_rate=hit_rate(return_T),
        exposure=float((daily["invested"].to_numpy() / equity_T)[1:].mean()),
        orders=traded.height,
    )


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
