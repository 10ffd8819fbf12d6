"""Figures as a reader sees them, on the page and on the command line alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from backtest.results import BacktestResult, Metrics

MINUS, TIMES, NOTHING = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{EM DASH}"


@dataclass(frozen=True)
class Row:
    """One line of the headline table."""

    label: str
    note: str
    values: tuple[str, ...]


def headline(result: BacktestResult) -> list[Row]:
    """Figures of the strategy and its benchmarks, as text."""
    books = [book.metrics for book in result.books]
    per_year = f"{result.periods_per_year:.0f} bars a year"

    def row(label: str, note: str, show: Callable[[Metrics], str]) -> Row:
        return Row(label, note, tuple(show(metrics) for metrics in books))

    def sharpe(metrics: Metrics) -> str:
        return f"{number(metrics.sharpe)} ± {number(metrics.sharpe_error)}"

    return [
        row("Total return", "net of all costs", lambda m: signed(m.total_return)),
        row("CAGR", "per year of 365.25 days", lambda m: signed(m.cagr)),
        row("Volatility", f"annualised, {per_year}", lambda m: percent(m.volatility)),
        row("Sharpe ratio", "annualised ± standard error (Lo 2002), risk-free 0", sharpe),
        row("Sortino ratio", "annualised, target 0", lambda m: number(m.sortino)),
        row("Maximum drawdown", "close to close", lambda m: percent(m.max_drawdown)),
        row("Longest drawdown", "bars below an earlier peak", lambda m: f"{m.longest_drawdown}"),
        row("Turnover", "portfolios replaced per year", lambda m: f"{number(m.turnover)} {TIMES}"),
        row("Cost drag", "commission + slippage, per year", lambda m: percent(m.cost_drag)),
        row("Winning bars", "of those with a return", lambda m: percent(m.hit_rate)),
        row("Exposure", "mean share of equity invested", lambda m: percent(m.exposure)),
        row("Orders", "settlements not counted", lambda m: f"{m.orders:,}"),
    ]


def percent(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.2%}".replace("-", MINUS)


def signed(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:+.2%}".replace("-", MINUS)


def number(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.2f}".replace("-", MINUS)
