"""The settings of a backtest. Knows pydantic and the typed rooms beside it: no bars, no engine."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from backtest.fills.costs import Costs
from backtest.fills.rules import Rules
from backtest.weights.settings import StrategySettings
from market.settings import Place, Settings

ScoreName = Literal[
    "expected_return", "median_return", "trimean_return", "shrunk_return", "p_up",
    "mean_over_std", "quantile_spread", "volatility", "expected_drawdown",
    "-expected_return", "-median_return", "-trimean_return", "-shrunk_return", "-p_up",
    "-mean_over_std", "-quantile_spread", "-volatility", "-expected_drawdown",
]  # fmt: skip


class BacktestSettings(Settings):
    """Everything that changes a backtest's numbers; printed whole on the tear sheet.

    The settings of `strategy`, `costs` and `rules` may be written without the group's name:
    `BacktestSettings(k=10, commission_bps=2)`.
    """

    flat_groups: ClassVar[tuple[str, ...]] = ("strategy", "costs", "rules")

    strategy: StrategySettings = StrategySettings()
    """Which names are wanted, and how much of each."""
    costs: Costs = Costs()
    """What trading and holding cost."""
    rules: Rules = Rules()
    """When orders fill, and how much of them."""

    score: ScoreName = "expected_return"
    """Score of a forecast; a leading minus prefers low values."""
    rebalance: Literal["each", "weekly", "monthly"] | int | None = None
    """Which score dates to trade: each, the last of each week or month, or every n-th. Without:
    each, and weekly for momentum."""
    horizon: int | None = Field(None, ge=1)
    """Forecast step that is scored and judged. Without: the last of the table, or the bars between
    decisions where scores are not forecasts."""
    momentum: int | None = Field(None, ge=1)
    """Score by the return over this many bars, instead of forecasts."""
    momentum_skip: int = Field(0, ge=0)
    """Most recent bars the momentum leaves out."""
    model_id: str | None = None
    """Which model's rows to trade, by id or name; needed only where the table holds several."""
    run_id: str | None = None
    """Trade the rows of this run only."""
    on_closed: Literal["error", "previous", "next"] = "error"
    """What to do with own dates on which the market is closed: an error, or the session (for an
    instant: the bar) before or after; month ends roll back with previous."""
    max_age_days: int = Field(7, ge=0)
    """A forecast that read no bar this recent at its as_of is stale, and refused."""
    start: date | None = None
    """First decision date to trade. Without: the first there is."""
    end: date | None = None
    """Last session of the backtest. Without: the last forecast date + horizon, or the last bar."""

    cash: float = Field(1_000_000.0, gt=0)
    """Starting cash, in the currency of the prices."""
    currency: str | None = Field(None, max_length=12)
    """Name of that currency, such as USD or BTC, for the page."""
    recovery: float = Field(1.0, ge=0, le=1)
    """What a delisted share pays, as a fraction of its last close."""
    max_gap_sessions: int = Field(5, ge=0)
    """A symbol silent for more sessions than this, to the end of the bars, is paid out."""
    compat: Literal["none", "vectorbt", "qlib"] = "none"
    """vectorbt: size and fill as vectorbt's from_orders does; qlib: choose, size and fill as Qlib's
    top-k dropout on its simulated exchange does (needs the strategy dropout)."""

    risk_free: float = Field(0.0, gt=-1, lt=1)
    """Yearly risk-free rate, 0.03 for 3%: Sharpe and Sortino ratios, alpha and the figures of a
    sweep are of returns beyond it."""
    periods_per_year: float | None = Field(None, gt=0)
    """Bars per year for annualised figures. Without: counted from the bars."""
    trials: int = Field(1, ge=1)
    """How many strategies or settings were tried before this one; the deflated Sharpe ratio and the
    report use it."""
    trials_variance: float | None = Field(None, ge=0)
    """Variance of the per-bar Sharpe ratios across those trials. Without: not known, 1 / bars."""
    fan_symbols: tuple[str, ...] = Field((), max_length=8)
    """Symbols of the fan charts; empty: four evenly spaced in the score ranking of the date."""
    title: str = "candlecast backtest"
    """Heading of the tear sheet."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.start and self.end and self.start > self.end:
            raise ValueError(f"`start` {self.start} is after `end` {self.end}")
        if isinstance(self.rebalance, int) and self.rebalance < 1:
            raise ValueError(f"`rebalance` {self.rebalance}: must be 1 or more")
        dropout = self.strategy.name == "dropout" and self.strategy.plugin is None
        if self.compat == "qlib" and not dropout:
            raise ValueError("`compat` qlib is its top-k dropout: set `strategy` to dropout")
        return self

    @property
    def effective_rules(self) -> Rules:
        """The rules, with negative weights allowed where the strategy needs them."""
        if self.rules.short or not self.strategy.needs_short:
            return self.rules
        return self.rules.model_copy(update={"short": True})


class BacktestRequest(BacktestSettings):
    """A backtest on a stored history: the settings of `candlecast backtest`."""

    store: Place
    """Folder of the history lake."""
    forecasts: Path | None = None
    """Folder of the forecast table; give this, scores or momentum."""
    walkforward: Path | None = None
    """Record of a walk-forward (walkforward.json): trade its folds' rows of `forecasts` as those of
    one model."""
    scores: Path | None = None
    """CSV or Parquet file of one's own scores, instead of forecasts: symbol, date and score."""
    score_column: str = "score"
    """Column of the scores."""
    weights: Path | None = None
    """CSV or Parquet file of own target weights, instead of scores: date, symbol and weight, or a
    column of weights per symbol."""
    orders: Path | None = None
    """File of own orders, instead of scores: time, symbol, one of shares, value and percent (a
    fraction of equity), perhaps side and limit."""
    signals: Path | None = None
    """File of own signals, instead of scores: time, symbol, entry and exit (true or false); an
    entry buys gross / k of the equity."""
    groups: Path | None = None
    """CSV file with symbol and group, for max_group."""
    terms: Path | None = None
    """CSV file of what differs by symbol: symbol and some of limit, commission_bps, borrow_bps."""
    benchmark: str | None = None
    """A symbol of the store, or a CSV or Parquet file of date and close, to judge against instead
    of equal weight."""
    risk_free_rates: Path | None = None
    """CSV or Parquet file of date and yearly rate (0.0525 or 5.25%), instead of `risk_free`."""
    actions: Path | None = None
    """File of splits and dividends of raw prices: symbol, session, split, dividend, funding."""
    store_actions: bool = True
    """Trade raw prices with the splits and dividends that the store holds, unless a file gives
    others."""
    venue_costs: bool = False
    """Take commission, taxes, lot, T+1 and daily price limits from the store's venue where they are
    not given; the tear sheet says which."""
    export: Path | None = None
    """Folder for the tables of the strategy: equity, orders, trades, holdings, untraded."""
    export_form: Literal["parquet", "csv"] = "parquet"
    """Form of these tables."""
    report: Path = Path("tearsheet.html")
    """Where the tear sheet goes."""
    store_version: str | None = None
    """Version of the history to trade on. Without: the newest."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = ("forecasts", "scores", "momentum", "weights", "orders", "signals")
        given = [name for name in sources if getattr(self, name)]
        if len(given) != 1 and (given or self.strategy.plugin is None):
            raise ValueError(
                "give one source of scores: `forecasts`, `scores` or `momentum`, or `weights`, "
                "`orders` or `signals`; got "
                + (" and ".join(f"`{name}`" for name in given) or "none")
            )
        if self.walkforward is not None and (
            self.forecasts is None or self.model_id is not None or self.run_id is not None
        ):
            raise ValueError(
                "`walkforward` names the rows of `forecasts`: give both, and no `model_id` or "
                "`run_id`"
            )
        if self.risk_free and self.risk_free_rates is not None:
            raise ValueError("give `risk_free` or `risk_free_rates`, not both")
        if self.strategy.max_group and self.groups is None:
            raise ValueError("`strategy.max_group` needs `groups`, a CSV file of symbol and group")
        return self
