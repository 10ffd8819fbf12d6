"""What a backtest may be told. Knows pydantic and the typed rooms beside it: no bars, no engine."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from backtest.fills.costs import Costs
from backtest.fills.rules import FillPrice, Rules
from market.errors import BacktestInputError

StrategyName = Literal["topk", "dropout", "longshort", "threshold", "kelly"]
ScoreName = Literal[
    "expected_return", "p_up", "mean_over_std", "quantile_spread", "volatility",
    "expected_drawdown", "-expected_return", "-p_up", "-mean_over_std", "-quantile_spread",
    "-volatility", "-expected_drawdown",
]  # fmt: skip


class BacktestSettings(BaseModel):
    """Everything that changes a backtest's numbers; printed whole on the tear sheet."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # What is traded.
    strategy: StrategyName = "topk"
    """topk: the k highest scores; dropout: the same, replacing at most n_drop names a time;
    longshort: the best quantile long, the worst short; threshold: names from `enter` to `leave`;
    kelly: mean over variance of the path distribution."""
    k: int = Field(20, ge=1)
    """Names held by topk and dropout; a date with fewer scored names is spread over those."""
    n_drop: int = Field(5, ge=0)
    """Most names that dropout replaces per decision."""
    quantile: float = Field(0.1, gt=0, le=0.5)
    """Share of the scored names in each leg of longshort."""
    weighting: Literal["equal", "score", "inverse_volatility"] = "equal"
    """Weights of the names chosen."""
    neutral: Literal["dollar", "beta"] = "dollar"
    """What the legs of longshort balance."""
    gross: float = Field(1.0, gt=0)
    """Σ|weight| of longshort and kelly."""
    enter: float = 0.0
    """threshold buys names scored above this,"""
    leave: float = 0.0
    """and holds them until they score this or less."""
    kelly_fraction: float = Field(0.5, gt=0, le=1)
    """Share of the full Kelly weight."""
    volatility_target: float = Field(0.0, ge=0)
    """Scale weights down to this yearly volatility, from the last 60 bars; 0: do not."""
    max_weight: float = Field(0.0, ge=0)
    """Largest weight of a name; 0: no cap."""
    max_turnover: float = Field(0.0, ge=0)
    """Most Σ|change of weight| / 2 per decision after the first; 0: no cap."""
    max_group: float = Field(0.0, ge=0)
    """Largest Σ|weight| of a group; 0: no cap."""
    rebalance: Literal["each", "weekly", "monthly"] | int | None = None
    """Which score dates to trade: each, the last of each week or month, or every n-th. None: each,
    and weekly for momentum."""
    score: ScoreName = "expected_return"
    """Score of a forecast; a leading minus prefers low values."""
    horizon: int | None = Field(None, ge=1)
    """Forecast step that is scored and judged; None: the last of the table, or the bars between
    decisions where scores are not forecasts."""
    momentum: int | None = Field(None, ge=1)
    """Score by the return over this many bars, instead of forecasts."""
    momentum_skip: int = Field(0, ge=0)
    """Most recent bars the momentum leaves out."""
    model_id: str | None = None
    """Which model's rows to trade; needed only where the table holds several."""
    run_id: str | None = None
    """Trade the rows of this run only."""
    max_age_days: int = Field(7, ge=0)
    """A forecast that read no bar this recent at its as_of is stale, and refused."""
    start: date | None = None
    """First decision date to trade; None: the first there is."""
    end: date | None = None
    """Last session of the backtest; None: the last forecast date + horizon, or the last bar."""

    # What it costs.
    cash: float = Field(1_000_000.0, gt=0)
    """Starting cash, in the currency of the prices."""
    commission_bps: float = Field(5.0, ge=0, lt=10_000)
    """Commission in basis points of each order's value."""
    commission_per_share: float = Field(0.0, ge=0)
    """And per share, in the currency of the prices."""
    min_fee: float = Field(1.0, ge=0)
    """An order is charged at least this much."""
    slippage_bps: float = Field(5.0, ge=0, lt=10_000)
    """Buys fill this many basis points above the reference price, sells as many below."""
    slippage_volatility: float = Field(0.0, ge=0)
    """Further slippage, in volatilities of one bar."""
    impact: float = Field(0.0, ge=0)
    """Square-root impact: this × volatility × √(order / volume); 1 is usual, 0 none."""
    borrow_bps: float = Field(0.0, ge=0)
    """Yearly fee on the value of shorts, in basis points."""
    cash_rate: float = Field(0.0, ge=0)
    """Yearly interest on cash; 0.03 is 3%."""
    debit_rate: float = Field(0.0, ge=0)
    """Yearly interest on borrowed cash."""

    # How it fills.
    lag: int = Field(1, ge=0)
    """Bars from decision to fill; 0 is refused unless allow_same_bar."""
    fill: FillPrice = "open"
    """Reference price on the fill bar: open, close, or vwap (mean of open, high, low, close)."""
    allow_same_bar: bool = False
    """Permit lag 0, which nobody can trade; the report flags it."""
    inside_bar: bool = False
    """Keep fill prices within the bar's low and high."""
    participation: float = Field(0.0, ge=0, le=1)
    """Largest share of the fill bar's volume an order may take; 0: no cap."""
    carry: bool = False
    """Try unfilled orders again on the following bars, until the next decision."""
    lot: float = Field(0.0, ge=0)
    """Shares per lot; 0: fractional shares."""
    t_plus_one: bool = False
    """Shares bought in a session cannot be sold in it."""
    limit: float = Field(0.0, ge=0, le=1)
    """Price limit on the last close, 0.1 for 10%; 0: none."""
    short: bool = False
    """Whether kelly may sell short; longshort always does."""
    leverage: float = Field(1.0, gt=0, le=100)
    """Most gross exposure over equity."""
    maintenance: float = Field(0.0, ge=0, le=1)
    """Equity over gross exposure below which all is sold; 0: no margin calls."""
    recovery: float = Field(1.0, ge=0, le=1)
    """What a delisted share pays, as a fraction of its last close."""
    max_gap_sessions: int = Field(5, ge=0)
    """A symbol silent for more sessions than this, to the end of the bars, is paid out."""
    compat: Literal["none", "vectorbt"] = "none"
    """vectorbt: size and fill as vectorbt's from_orders does."""

    # How it is told.
    periods_per_year: float | None = Field(None, gt=0)
    """Bars per year for annualised figures; None: counted from the bars."""
    trials: int = Field(1, ge=1)
    """How many strategies or settings were tried before this one; the deflated Sharpe ratio and the
    report use it."""
    trials_variance: float | None = Field(None, ge=0)
    """Variance of the per-bar Sharpe ratios across those trials; None: not known, 1 / bars."""
    fan_symbols: tuple[str, ...] = Field((), max_length=8)
    """Symbols of the fan charts; empty: four evenly spaced in the score ranking of the date."""
    title: str = "candlecast backtest"
    """Heading of the tear sheet."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.start and self.end and self.start > self.end:
            raise ValueError(f"start {self.start} is after end {self.end}")
        if isinstance(self.rebalance, int) and self.rebalance < 1:
            raise ValueError(f"rebalance {self.rebalance}: must be 1 or more")
        try:
            _ = self.costs, self.rules
        except BacktestInputError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def costs(self) -> Costs:
        """The costs among these settings."""
        return Costs(**{name: getattr(self, name) for name in Costs.__dataclass_fields__})

    @property
    def rules(self) -> Rules:
        """The rules among these settings; longshort implies shorts."""
        given = {name: getattr(self, name) for name in Rules.__dataclass_fields__}
        return Rules(**given | {"short": self.short or self.strategy == "longshort"})


class BacktestRequest(BacktestSettings):
    """A backtest on a stored history: what `candlecast backtest` is told."""

    store: Path
    """Folder of the history lake."""
    forecasts: Path | None = None
    """Folder of the forecast table; None with `scores` or `momentum`."""
    walkforward: Path | None = None
    """Record of a walk-forward (walkforward.json): trade its folds' rows of `forecasts` as those of
    one model."""
    scores: Path | None = None
    """CSV or Parquet file of one's own scores: symbol, date and score, instead of forecasts."""
    score_column: str = "score"
    """Its column."""
    groups: Path | None = None
    """CSV file with symbol and group, for max_group."""
    report: Path = Path("tearsheet.html")
    """Where the tear sheet goes."""
    store_version: str | None = None
    """Version of the history to trade on; None: the newest."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("forecasts", "scores", "momentum") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                "give one source of scores: --forecasts, --scores or --momentum; got "
                + (" and ".join(given) or "none")
            )
        if self.walkforward is not None and (
            self.forecasts is None or self.model_id is not None or self.run_id is not None
        ):
            raise ValueError(
                "--walkforward names the rows of --forecasts: give both, and no --model-id or "
                "--run-id"
            )
        if self.max_group and self.groups is None:
            raise ValueError("max_group needs --groups FILE")
        return self
