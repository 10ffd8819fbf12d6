"""All headline figures of one book. Knows its frames; formulas are in
`backtest.figures.metrics`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.figures import metrics
from backtest.figures.metrics import LEAST_SESSIONS
from backtest.figures.overfitting import deflated_sharpe
from backtest.results import Metrics

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


def summarise_book(
    daily: pl.DataFrame,
    orders: pl.DataFrame,
    rebalances: pl.DataFrame,
    periods: float,
    *,
    totals: Mapping[str, float],
    benchmark_T: Float | None = None,
    own_T: Bool | None = None,
    rate_T: Float | None = None,
    trials: int = 1,
    trials_variance: float | None = None,
) -> Metrics:
    """All figures of one book; frames as backtest.results.Book holds them.

    trials, trials_variance: for the deflated Sharpe ratio, see `backtest.figures.overfitting`.
    benchmark_T: equity of the benchmark on the same bars, for alpha, beta and what is beyond it;
    None: of itself. own_T: bars it had a new value on, whose figures these are; None: all. rate_T:
    yearly risk-free rate of each bar but the first; None: 0.

    Turnover: Σ over bars of traded value / (2 · equity at the close before), per year; replacing
    the whole portfolio once counts 1. Cost drag: (fees and taxes + slippage + impact + borrow fees
    + funding) / mean equity, per year. Payouts of delisted names count in neither, nor as orders.
    Over fewer than LEAST_SESSIONS sessions nothing is annualised (NaN); a ruined account has no
    ratios.
    """
    equity_T = daily["equity"].to_numpy()
    return_T = metrics.returns(equity_T)
    sessions = daily["timestamp"].dt.date().n_unique()
    nothing = float("nan")
    # NaN stands for a length that is not annualised, and spreads through what is made of it.
    years = len(return_T) / periods if sessions > LEAST_SESSIONS else nothing
    annual = periods if sessions > LEAST_SESSIONS else nothing
    traded = orders.filter(~pl.col("settled"))
    costs = float(traded["fee"].sum()) + float(traded["slippage"].sum()) + totals["borrow"]
    costs += totals.get("funding", 0.0)
    growth = metrics.cagr(equity_T, years)
    ruined = bool(equity_T[-1] <= 0)
    deepest = float(metrics.drawdown(equity_T).min())
    mean_equity = float(equity_T.mean())
    free_T = np.zeros(len(return_T)) if rate_T is None else rate_T[: len(return_T)] / periods
    beyond_T = return_T - free_T
    compared = _compared(equity_T, equity_T if benchmark_T is None else benchmark_T, free_T, own_T)
    share = len(compared[0]) / max(len(return_T), 1)
    alpha, beta = metrics.alpha_beta(
        compared[0] - compared[2], compared[1] - compared[2], annual * share
    )
    ahead = compared[0] - compared[1]
    skew, kurtosis = metrics.moments(return_T)
    sharpe = nothing if ruined else metrics.sharpe(beyond_T, annual)
    worth_T = np.where(equity_T[1:] > 0, equity_T[1:], np.inf)
    long, short = (
        float(np.mean(daily[side].to_numpy()[1:] / worth_T)) for side in ("long", "short")
    )
    return Metrics(
        total_return=float(equity_T[-1] / equity_T[0] - 1),
        cagr=growth,
        volatility=metrics.volatility(return_T, annual),
        sharpe=sharpe,
        sharpe_error=nothing if ruined else metrics.sharpe_error(beyond_T, annual),
        deflated_sharpe=deflated_sharpe(
            nothing if ruined else metrics.sharpe(beyond_T, periods) / periods**0.5,
            len(return_T),
            trials,
            variance=trials_variance,
            skew=skew,
            kurtosis=kurtosis,
        ),
        sortino=nothing if ruined else metrics.sortino(beyond_T, annual),
        calmar=metrics.calmar(growth, deepest),
        max_drawdown=deepest,
        longest_drawdown=metrics.longest_drawdown(equity_T),
        value_at_risk=metrics.value_at_risk(return_T),
        conditional_value_at_risk=metrics.conditional_value_at_risk(return_T),
        skew=skew,
        tail_ratio=metrics.tail_ratio(return_T),
        profit_factor=metrics.profit_factor(return_T),
        alpha=alpha,
        beta=beta,
        excess_return=growth - _growth(compared[1], annual * share),
        tracking_error=metrics.volatility(ahead, annual * share),
        information_ratio=metrics.sharpe(ahead, annual * share),
        turnover=_turnover(daily, traded) / years,
        cost_drag=costs / mean_equity / years,
        capacity=metrics.capacity(mean_equity, growth, totals["impact"] / mean_equity / years),
        hit_rate=metrics.hit_rate(return_T),
        exposure=long + short,
        net_exposure=long - short,
        long_exposure=long,
        short_exposure=short,
        ruined=ruined,
        orders=traded.height,
    )


def _compared(
    equity_T: Float, benchmark_T: Float, free_T: Float, own_T: Bool | None
) -> tuple[Float, Float, Float]:
    """Returns of the account, the benchmark and the risk-free rate between the bars on which the
    benchmark has a value of its own."""
    bars = min(len(equity_T), len(benchmark_T))
    rows = np.arange(bars) if own_T is None else np.flatnonzero(own_T[:bars])
    sums = np.concatenate(([0.0], np.cumsum(free_T)))
    free = free_T[: bars - 1] if own_T is None else np.diff(sums[rows])
    return metrics.returns(equity_T[rows]), metrics.returns(benchmark_T[rows]), free


def _growth(return_K: Float, periods: float) -> float:
    return metrics.cagr(np.cumprod(np.append(1.0, 1 + return_K)), len(return_K) / periods)


def _turnover(daily: pl.DataFrame, traded: pl.DataFrame) -> float:
    """Σ traded value / (2 · equity at the close before)."""
    row_M = np.searchsorted(daily["close_utc"].to_numpy(), traded["close_utc"].to_numpy())
    before_M = daily["equity"].to_numpy()[np.maximum(row_M - 1, 0)]
    value_M = np.where(before_M > 0, traded["value"].to_numpy() / np.maximum(before_M, 1e-300), 0.0)
    return float(value_M.sum()) / 2
