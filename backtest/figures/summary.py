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
    against_T = metrics.returns(equity_T if benchmark_T is None else benchmark_T)
    together = min(len(return_T), len(against_T))
    alpha, beta = metrics.alpha_beta(return_T[:together], against_T[:together], annual)
    skew, kurtosis = metrics.moments(return_T)
    sharpe = nothing if ruined else metrics.sharpe(return_T, annual)
    worth_T = np.where(equity_T[1:] > 0, equity_T[1:], np.inf)
    long, short = (
        float(np.mean(daily[side].to_numpy()[1:] / worth_T)) for side in ("long", "short")
    )
    return Metrics(
        total_return=float(equity_T[-1] / equity_T[0] - 1),
        cagr=growth,
        volatility=metrics.volatility(return_T, annual),
        sharpe=sharpe,
        sharpe_error=nothing if ruined else metrics.sharpe_error(return_T, annual),
        deflated_sharpe=deflated_sharpe(
            nothing if ruined else metrics.sharpe(return_T, periods) / periods**0.5,
            len(return_T),
            trials,
            variance=trials_variance,
            skew=skew,
            kurtosis=kurtosis,
        ),
        sortino=nothing if ruined else metrics.sortino(return_T, annual),
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


def _turnover(daily: pl.DataFrame, traded: pl.DataFrame) -> float:
    """Σ traded value / (2 · equity at the close before)."""
    row_M = np.searchsorted(daily["close_utc"].to_numpy(), traded["close_utc"].to_numpy())
    before_M = daily["equity"].to_numpy()[np.maximum(row_M - 1, 0)]
    value_M = np.where(before_M > 0, traded["value"].to_numpy() / np.maximum(before_M, 1e-300), 0.0)
    return float(value_M.sum()) / 2
