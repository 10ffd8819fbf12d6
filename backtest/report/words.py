"""Figures as a reader sees them, on the page and on the command line alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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
    against, free = benchmark_words(result), risk_free_words(result)
    per_year = f"{result.periods_per_year:.0f} bars a year"

    def row(label: str, note: str, show: Callable[[Metrics], str]) -> Row:
        return Row(label, note, tuple(show(metrics) for metrics in books))

    def sharpe(metrics: Metrics) -> str:
        if math.isnan(metrics.sharpe):
            return NOTHING
        return f"{number(metrics.sharpe)} ± {number(metrics.sharpe_error)}"

    return [
        row("Total return", "net of all costs", lambda m: signed(m.total_return)),
        row("CAGR", "per year; not under 20 sessions", lambda m: signed(m.cagr)),
        row("Volatility", f"annualised, {per_year}", lambda m: percent(m.volatility)),
        row("Sharpe ratio", f"annualised ± standard error (Lo 2002), {free}", sharpe),
        row(
            "Deflated Sharpe",
            f"probability that the true ratio is above 0 after {trials(result.settings.trials)}",
            lambda m: percent(m.deflated_sharpe),
        ),
        row("Sortino ratio", f"annualised, {free}", lambda m: number(m.sortino)),
        row("Calmar ratio", "CAGR / maximum drawdown", lambda m: number(m.calmar)),
        row("Maximum drawdown", "close to close", lambda m: percent(m.max_drawdown)),
        row("Longest drawdown", "bars below an earlier peak", lambda m: f"{m.longest_drawdown}"),
        row("Value at risk", "5% quantile of a bar's return", lambda m: percent(m.value_at_risk)),
        row(
            "Expected shortfall",
            "mean of the bars at or below it",
            lambda m: percent(m.conditional_value_at_risk),
        ),
        row("Skew", "of bar returns", lambda m: number(m.skew)),
        row("Tail ratio", "95% over 5% quantile", lambda m: number(m.tail_ratio)),
        row("Profit factor", "gains over losses", lambda m: number(m.profit_factor)),
        row("Alpha", f"per year, against {against}, {free}", lambda m: signed(m.alpha)),
        row("Beta", f"against {against}", lambda m: number(m.beta)),
        row("Excess return", f"CAGR less that of {against}", lambda m: signed(m.excess_return)),
        row("Tracking error", f"volatility beyond {against}", lambda m: percent(m.tracking_error)),
        row(
            "Information ratio",
            f"mean over volatility of what is beyond {against}",
            lambda m: number(m.information_ratio),
        ),
        row("Turnover", "portfolios replaced per year", lambda m: times(m.turnover)),
        row(
            "Cost drag",
            "commission, slippage, impact, borrowing, per year",
            lambda m: percent(m.cost_drag),
        ),
        row("Capacity", "equity at which impact eats all growth", lambda m: amount(m.capacity)),
        row("Winning bars", "of those with a return", lambda m: percent(m.hit_rate)),
        row(
            "Exposure, gross",
            "longs and shorts over equity, mean of the bars",
            lambda m: percent(m.exposure),
        ),
        row("Exposure, net", "longs less shorts", lambda m: percent(m.net_exposure)),
        row("Long and short", "each over equity", _sides),
        row("Orders", "settlements not counted", lambda m: f"{m.orders:,}"),
        *_trades(result),
    ]


def _trades(result: BacktestResult) -> list[Row]:
    """Round trips; of the strategy alone."""
    figures = result.trade_figures

    def row(label: str, note: str, value: str) -> Row:
        return Row(label, note, (value, *[NOTHING] * (len(result.books) - 1)))

    return [
        row("Round trips", "closed", f"{figures.count:,}"),
        row("Win rate", "of the round trips", percent(figures.win_rate)),
        row("Expectancy", "mean profit of a round trip, in currency", number(figures.expectancy)),
        row("Holding time", "mean bars of a round trip", number(figures.mean_bars)),
        row("Trade profit factor", "profits over losses", number(figures.profit_factor)),
        row(
            "Excursions",
            "mean worst and best return a round trip stood at (MAE, MFE)",
            f"{percent(figures.worst_excursion)}, {percent(figures.best_excursion)}",
        ),
    ]


def benchmark_words(result: BacktestResult) -> str:
    """What figures are against."""
    return "equal weight" if result.outside is None else result.outside.name


def risk_free_words(result: BacktestResult) -> str:
    """What a year without risk earns."""
    if result.rates is not None:
        return f"risk-free as in {result.rates}, {percent(float(result.rate_T.mean()))} on average"
    rate = result.settings.risk_free
    return f"risk-free {rate:.4g}" if rate == 0 else f"risk-free {percent(rate)}"


def _sides(metrics: Metrics) -> str:
    return f"{percent(metrics.long_exposure)}, {percent(metrics.short_exposure)}"


SCORES = {
    "expected_return": "expected return",
    "median_return": "median return",
    "trimean_return": "trimean return",
    "shrunk_return": "expected return less its sampling error",
    "p_up": "probability of a rise",
    "mean_over_std": "expected return over its deviation",
    "quantile_spread": "width of the 5–95% range",
    "volatility": "forecast volatility",
    "expected_drawdown": "expected drawdown",
}


def trials(count: int) -> str:
    """1 trial, 20 trials."""
    return f"{count:,} trial" + ("" if count == 1 else "s")


def what_is_traded(result: BacktestResult) -> str:
    """The strategy in a sentence."""
    settings, names = result.settings, result.scores["symbol"].n_unique()
    strategy = settings.strategy
    if result.n_paths:
        least = settings.score.startswith("-")
        score = ("least " if least else "") + SCORES[settings.score.removeprefix("-")]
        score += f" over {result.horizon} bars"
    else:
        score = result.model_id
    if settings.strategy.plugin is not None:
        return (
            f"{settings.strategy.plugin} on {names} symbols, {result.ic.by_date.height} decisions."
        )
    if result.model_id in ("own weights", "own orders", "own signals"):
        return f"{score.capitalize()} on {names} symbols, {result.ic.by_date.height} decisions."
    weights = {
        "equal": "equal weights",
        "score": "weights by score",
        "inverse_volatility": "weights by inverse volatility",
    }[strategy.weighting]
    if strategy.name == "topk":
        chosen = f"Top {strategy.k} of {names} symbols by {score}, {weights}"
    elif strategy.name == "dropout":
        chosen = (
            f"Top {strategy.k} of {names} symbols by {score}, at most {strategy.n_drop} replaced "
            f"at a time, {weights}"
        )
    elif strategy.name == "longshort":
        chosen = (
            f"Best {strategy.quantile:.0%} of {names} symbols by {score} long, worst short, "
            f"{strategy.neutral}-neutral, {weights}"
        )
    elif strategy.name == "threshold":
        chosen = (
            f"Of {names} symbols those whose {score} rose above {strategy.enter:g}, until at or "
            f"below {strategy.leave:g}, {weights}"
        )
    else:
        chosen = f"{strategy.kelly_fraction:.0%} Kelly on {names} symbols"
    return f"{chosen}, {result.ic.by_date.height} rebalances."


def amount(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:,.0f}"


def times(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{number(value)} {TIMES}"


def money(value: float) -> str:
    """Thousands without decimals, small amounts with the digits that say something."""
    if math.isnan(value):
        return NOTHING
    shown = f"{value:,.0f}" if abs(value) >= 1000 or value == 0 else f"{value:,.4g}"
    return shown.replace("-", MINUS)


def day(value: np.datetime64) -> str:
    """The day, and the time where it is not midnight."""
    minute = value.astype("datetime64[m]")
    midnight = minute == minute.astype("datetime64[D]")
    text = str(np.datetime_as_string(minute, unit="D" if midnight else "m"))
    return text.replace("T", " ")


def percent(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.2%}".replace("-", MINUS)


def signed(value: float) -> str:
    rounded = round(value, 6) + 0.0  # no minus before a zero
    return NOTHING if math.isnan(value) else f"{rounded:+.2%}".replace("-", MINUS)


def number(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.2f}".replace("-", MINUS)
