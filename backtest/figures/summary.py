"""All headline figures of one book. Knows its frames; formulas are in
`backtest.figures.metrics`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.figures import metrics
from backtest.figures.metrics import YEAR
from backtest.figures.overfitting import deflated_sharpe
from backtest.results import Metrics

Float = npt.NDArray[np.float64]


def summarise_book(
    daily: pl.DataFrame,
    orders: pl.DataFrame,
    rebalances: pl.DataFrame,
    periods: float,
    *,
    totals: Mapping[str, float],
    benchmark_T: Float | None = None,
    trials: int = 1,
    trials_variance: float | None = None,
) -> Metrics:
    """All figures of one book; frames as backtest.results.Book holds them.

    trials, trials_variance: for the deflated Sharpe ratio, see `backtest.figures.overfitting`.
    benchmark_T: equity of the benchmark on the same bars, for alpha and beta; None: of itself.

    Turnover: Σ over rebalances of traded value / (2 · equity at the decision), per calendar year;
    replacing the whole portfolio once counts 1. Cost drag: (commission + slippage + impact +
    borrow fees) / mean equity, per calendar year. Payouts of delisted names count in neither, nor
    as orders.
    """
    equity_T = daily["equity"].to_numpy()
    invested_T = daily["invested"].to_numpy()
    labels_T = daily["timestamp"].to_numpy()
    return_T = metrics.returns(equity_T)
    years = float((labels_T[-1] - labels_T[0]) / YEAR)
    traded = orders.filter(~pl.col("settled"))
    costs = float(traded["fee"].sum()) + float(traded["slippage"].sum()) + totals["borrow"]
    growth = metrics.cagr(equity_T, years)
    deepest = float(metrics.drawdown(equity_T).min())
    mean_equity = float(equity_T.mean())
    against_T = metrics.returns(equity_T if benchmark_T is None else benchmark_T)
    alpha, beta = metrics.alpha_beta(return_T, against_T, periods)
    skew, kurtosis = metrics.moments(return_T)
    sharpe = metrics.sharpe(return_T, periods)
    return Metrics(
        total_return=float(equity_T[-1] / equity_T[0] - 1),
        cagr=growth,
        volatility=metrics.volatility(return_T, periods),
        sharpe=sharpe,
        sharpe_error=metrics.sharpe_error(return_T, periods),
        deflated_sharpe=deflated_sharpe(
            sharpe / periods**0.5,
            len(return_T),
            trials,
            variance=trials_variance,
            skew=skew,
            kurtosis=kurtosis,
        ),
        sortino=metrics.sortino(return_T, periods),
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
        turnover=float(rebalances["turnover"].sum()) / years,
        cost_drag=costs / mean_equity / years,
        capacity=metrics.capacity(mean_equity, growth, totals["impact"] / mean_equity / years),
        hit_rate=metrics.hit_rate(return_T),
        exposure=float(np.mean(invested_T[1:] / np.where(equity_T[1:] > 0, equity_T[1:], np.inf))),
        orders=traded.height,
    )
