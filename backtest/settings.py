"""What a backtest may be told. Knows pydantic alone: no bars, no forecasts, no engine."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class BacktestSettings(BaseModel):
    """Everything that changes a backtest's numbers; printed whole on the tear sheet."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    strategy: Literal["topk"] = "topk"
    """topk: hold the k highest scores of each forecast date with equal weights."""
    k: int = Field(20, ge=1)
    """Names held; a date with fewer scored names is spread equally over those it has."""
    cash: float = Field(1_000_000.0, gt=0)
    """Starting cash, in the currency of the prices; idle cash earns nothing."""
    commission_bps: float = Field(5.0, ge=0, lt=10_000)
    """Commission in basis points of each order's value."""
    min_fee: float = Field(1.0, ge=0)
    """An order is charged at least this much, in the currency of the prices."""
    slippage_bps: float = Field(5.0, ge=0, lt=10_000)
    """Buys fill this many basis points above the open, sells as many below."""
    horizon: int | None = Field(None, ge=1)
    """Forecast step whose mean close makes the score; None: the last step of the table."""
    model_id: str | None = None
    """Which model's rows to trade; needed only where the table holds several."""
    run_id: str | None = None
    """Trade the rows of this run only."""
    start: date | None = None
    """First forecast date to trade; None: the table's first."""
    end: date | None = None
    """Last session of the backtest; None: the last forecast date + horizon, or the last bar."""
    recovery: float = Field(1.0, ge=0, le=1)
    """What a delisted share pays, as a fraction of its last close."""
    max_gap_sessions: int = Field(5, ge=0)
    """A symbol silent for more sessions than this, to the end of the bars, is paid out."""
    periods_per_year: float | None = Field(None, gt=0)
    """Bars per year for annualised figures; None: counted from the bars."""
    trials: int = Field(1, ge=1)
    """How many strategies or settings were tried before this one; printed beside the results."""
    fan_symbols: tuple[str, ...] = Field((), max_length=8)
    """Symbols of the fan charts; empty: four evenly spaced in the score ranking of the date."""
    title: str = "candlecast backtest"
    """Heading of the tear sheet."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start and self.end and self.start > self.end:
            raise ValueError(f"start {self.start} is after end {self.end}")
        return self


class BacktestRequest(BacktestSettings):
    """A backtest of stored forecasts on a stored history: what `candlecast backtest` is told."""

    store: Path
    """Folder of the history lake."""
    forecasts: Path
    """Folder of the forecast table."""
    report: Path = Path("tearsheet.html")
    """Where the tear sheet goes."""
    store_version: str | None = None
    """Version of the history to trade on; None: the newest."""
