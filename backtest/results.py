"""What a backtest hands back. Plain records: no computing here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.figures.trades import TradeFigures
from backtest.figures.widths import WidthGroup
from backtest.fills.prices import PriceTable
from backtest.fills.simulation import Simulation
from backtest.settings import BacktestSettings
from backtest.vectorbt_bridge import to_vectorbt

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metrics:
    """Headline figures of one book; formulas in backtest.figures.metrics. Fractions unless stated.

    NaN where a figure is not defined, as a Sharpe ratio without volatility.
    """

    total_return: float
    cagr: float
    volatility: float
    sharpe: float
    sharpe_error: float
    """Standard error of the annualised Sharpe ratio."""
    deflated_sharpe: float
    """Probability that the true Sharpe ratio is above 0, given how many settings were tried."""
    sortino: float
    calmar: float
    max_drawdown: float
    """Deepest fall from a peak, ≤ 0."""
    longest_drawdown: int
    """Bars of the longest spell below an earlier peak."""
    value_at_risk: float
    """5% quantile of the bar returns."""
    conditional_value_at_risk: float
    """Mean of the bar returns at or below it."""
    skew: float
    tail_ratio: float
    profit_factor: float
    alpha: float
    """Yearly return beyond beta times the benchmark's, both beyond the risk-free rate; the
    benchmark is equal weight where none was given."""
    beta: float
    excess_return: float
    """CAGR less the benchmark's."""
    tracking_error: float
    """Volatility of the return beyond the benchmark's."""
    information_ratio: float
    """Mean of that return over its volatility, annualised."""
    turnover: float
    """Half the traded value over equity, per year."""
    cost_drag: float
    """Commission, slippage, impact and borrow fees over mean equity, per year."""
    capacity: float
    """Equity at which impact would eat all growth; NaN without impact."""
    hit_rate: float
    """Share of the bars with a non-zero return that gained."""
    exposure: float
    """Gross: mean of (longs + shorts) / equity."""
    net_exposure: float
    """Mean of (longs − shorts) / equity."""
    long_exposure: float
    short_exposure: float
    """Mean of the shorts' value / equity, 0 or more."""
    ruined: bool
    """Whether nothing was left: the run ended there, and has no ratios."""
    orders: int


@dataclass(frozen=True)
class Book:
    """One simulated portfolio."""

    name: str
    simulation: Simulation
    metrics: Metrics

    @property
    def daily(self) -> pl.DataFrame:
        """The account per bar; see Simulation."""
        return self.simulation.daily

    @property
    def orders(self) -> pl.DataFrame:
        """What filled, in execution order; see Simulation."""
        return self.simulation.orders

    @property
    def rebalances(self) -> pl.DataFrame:
        """One row per decision that filled; see Simulation."""
        return self.simulation.rebalances

    @property
    def untraded(self) -> pl.DataFrame:
        """What was wanted and did not trade; see Simulation."""
        return self.simulation.untraded


@dataclass(frozen=True)
class InformationCoefficient:
    """Does the ranking hold? Spearman correlation of scores and realised returns, per date."""

    by_date: pl.DataFrame
    """as_of, as_of_date, ic (NaN where it is not defined), names."""
    mean: float
    t: float
    """HAC (Newey-West) t-statistic of the mean."""
    lag: int
    """Lags of the HAC variance; covers every overlap of the return windows."""
    dates: int
    """Dates with a defined IC."""


@dataclass(frozen=True)
class Fan:
    """One symbol's forecast beside what happened."""

    symbol: str
    as_of_date: str
    rank: int
    """Place of its score on that date, 1 = highest; 0 where it has none."""
    ranked: int
    in_sample: bool
    past: pl.DataFrame
    """timestamp, close: the last bars known, the as_of bar included."""
    bands: pl.DataFrame
    """timestamp, close_mean and the quantiles of backtest.scores.forecasts.BAND_COLUMNS, per
    step."""
    actual: pl.DataFrame
    """timestamp, close: what followed."""


@dataclass(frozen=True)
class BacktestResult:
    """A strategy, its benchmarks, and how far to trust them."""

    settings: BacktestSettings
    model_id: str
    """Of the forecasts; where scores are not forecasts, what they are."""
    run_ids: tuple[str, ...]
    n_paths: tuple[int, ...]
    """Paths per forecast; several where runs differ."""
    horizon: int
    """Bars ahead that scores are judged over."""
    periods_per_year: float
    strategy: Book
    equal_weight: Book
    buy_and_hold: Book
    scores: pl.DataFrame
    """as_of, as_of_date, symbol, score, realised (close-to-close return over the horizon), picked,
    in_sample."""
    ic: InformationCoefficient
    picks_above_median: float
    """Share of the names picked whose realised return beat their date's median; 0.5 is luck."""
    fans: tuple[Fan, ...]
    widths: tuple[WidthGroup, ...]
    """Forecasts in fifths by the width of their last interval; empty for scores."""
    in_sample_dates: tuple[str, ...]
    """Forecast dates not after the model's training cut-off, ISO."""
    in_sample_spans: tuple[tuple[np.datetime64, np.datetime64], ...]
    """First and last bar label of each run of in-sample dates, for shading."""
    caveats: tuple[str, ...]
    provenance: Mapping[str, str]
    """Where the inputs came from, in words; printed on the sheet."""
    prices: PriceTable
    """What was traded on."""
    trades: pl.DataFrame
    """Round trips of the strategy, see `figures.trades.trades_of`."""
    trade_figures: TradeFigures
    quantiles: pl.DataFrame
    """Returns by fifth of the scores, see `figures.ranking.quantile_returns`."""
    decay: pl.DataFrame
    """How the ranking wears off, see `figures.ranking.ic_decay`."""
    groups: Mapping[str, str]
    """Group of each symbol; may be empty."""
    rate_T: Float
    """Yearly risk-free rate that each bar but the first began with."""
    noise: pl.DataFrame | None = None
    """Share of sampling error in expected returns by date, see `figures.noise.sampling_noise`; None
    where scores are not forecasts."""
    rates: str | None = None
    """Where these rates came from; None: the setting risk_free."""
    outside: Book | None = None
    """The benchmark that was given, as an account that holds it without costs."""

    @property
    def books(self) -> tuple[Book, ...]:
        """The strategy, the benchmark where one was given, and the two that need none."""
        given = () if self.outside is None else (self.outside,)
        return (self.strategy, *given, self.equal_weight, self.buy_and_hold)

    @property
    def benchmark(self) -> Book:
        """What the strategy is judged against."""
        return self.equal_weight if self.outside is None else self.outside

    def equity_of_all(self) -> pl.DataFrame:
        """The strategy's account per bar, with a column of the equity of each other book; nulls
        after the last bar of one that is shorter."""
        daily = self.strategy.daily
        columns = []
        for book in self.books[1:]:
            own = book.daily["equity"].head(daily.height)
            rest = pl.repeat(None, daily.height - len(own), dtype=pl.Float64, eager=True)
            name = book.name.lower().replace(" ", "_").replace("&", "and")
            columns.append(pl.concat([own, rest]).alias(name))
        return daily.with_columns(columns)

    def summary(self) -> dict[str, Any]:
        """Headline figures of every book and what to hold against them, JSON-ready but for NaN."""
        daily = self.strategy.daily["timestamp"]
        return {
            "model_id": self.model_id,
            "first_bar": daily[0].isoformat(),
            "last_bar": daily[-1].isoformat(),
            "horizon": self.horizon,
            "books": {book.name: asdict(book.metrics) for book in self.books},
            "rank_ic": {"mean": self.ic.mean, "t": self.ic.t, "dates": self.ic.dates},
            "picks_above_median": self.picks_above_median,
            "benchmark": self.benchmark.name,
            "untraded": self.strategy.untraded.height,
            "in_sample_dates": list(self.in_sample_dates),
            "same_bar": self.settings.rules.lag == 0,
        }

    def __repr__(self) -> str:
        told = self.summary()
        rows = [("", *(book.name for book in self.books))]
        for name in ("total_return", "cagr", "sharpe", "max_drawdown", "turnover", "cost_drag"):
            values = [getattr(book.metrics, name) for book in self.books]
            style = ".2f" if name in ("sharpe", "turnover") else ".2%"
            rows.append((name, *(format(value, style) for value in values)))
        wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(cell.rjust(n) for cell, n in zip(row, wide, strict=True)) for row in rows
        ]
        head = f"{told['first_bar'][:10]} to {told['last_bar'][:10]}, net of costs"
        ic = f"rank IC {self.ic.mean:+.3f} (t {self.ic.t:+.2f}, {self.ic.dates} dates)"
        tail = f"{ic}, {len(self.in_sample_dates)} in-sample dates"
        return "\n".join([f"BacktestResult of {self.model_id}, {head}", *lines, tail])

    def to_vectorbt(self) -> Any:
        """The strategy as a real `vectorbt.Portfolio`; see backtest.vectorbt_bridge."""
        return to_vectorbt(self.strategy.simulation, self.prices, self.periods_per_year)
