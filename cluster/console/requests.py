"""What a forecast on demand is asked with, and the window that follows. Knows bars; no HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from cluster.console.ondemand import Ask, Made
from cluster.console.settings import ServeSettings
from cluster.console.universe import notes
from cluster.forecasting.work import Task
from forecaster.interface import SamplingParams
from market.calendars import local_to_utc
from market.errors import ConfigError, ForecastInputError
from market.importing.frames import read_frame
from market.importing.options import ImportOptions
from market.lake.asof import as_of_row, parse_moment
from market.lake.history import MarketHistory, series_of
from market.spec import AsOf, StoreSpec, parse_freq
from market.windows import SymbolSeries, eligibility, window_at

_NAME = 200
_OTHERS = ("mean", "q10", "q50", "q90")
"""What is told of features beside the close."""
_STATS = ("return_mean", "return_std", "expected_drawdown", "path_volatility", "floored")


class Bars(BaseModel):
    """Bars of one symbol, a list per column, oldest first."""

    model_config = ConfigDict(extra="forbid", strict=False)

    timestamp: list[datetime]
    """Exchange-local labels, as ISO dates or times."""
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float] | None = None
    amount: list[float] | None = None


class ForecastRequest(BaseModel):
    """One forecast: of a stored symbol, or of bars brought along."""

    model_config = ConfigDict(extra="forbid")

    symbol: str = Field(min_length=1, max_length=_NAME)
    """Name of the symbol; with the seed and the moment it keys the noise."""
    bars: Bars | None = None
    """Without: the symbol's bars in the store."""
    as_of: str | None = Field(None, max_length=40)
    """Last moment known, as a date or time. Without: the newest close."""
    venue: str | None = Field(None, max_length=20)
    """Of bars brought along: calendar such as XNYS, or 24/7."""
    freq: str | None = Field(None, max_length=10)
    """Of bars brought along: 1d, 1h, 5min … Without: as their labels show."""
    model: str | None = Field(None, max_length=_NAME)
    """One of those served. Without: the first."""
    lookback: int = Field(256, ge=2, le=4096)
    horizon: int = Field(20, ge=1)
    paths: int = Field(64, ge=2)
    seed: int = Field(0, ge=0, lt=2**63)
    temperature: float = Field(1.0, gt=0, le=100)
    top_k: int = Field(0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)


def window_of(
    request: ForecastRequest, settings: ServeSettings, history: MarketHistory | None, model: str
) -> tuple[Ask, Task]:
    """How to forecast, and what from.

    Raises CandlecastError for what is beyond the console's limits, for an unknown symbol, and where
    the bars do not allow a forecast.
    """
    for name, value, most in (
        ("paths", request.paths, settings.max_paths),
        ("horizon", request.horizon, settings.max_horizon),
    ):
        if value > most:
            raise ConfigError(f"{name}={value}: this console answers up to {most}")
    spec, series, as_of, sessions = (
        _stored(request, history) if request.bars is None else _brought(request, settings)
    )
    reason = eligibility(series, as_of, request.lookback, sessions=sessions)
    if reason is not None:
        raise ForecastInputError(f"{request.symbol}: {reason}")
    ask = Ask(
        model=request.model or model,
        spec=spec,
        lookback=request.lookback,
        horizon=request.horizon,
        paths=request.paths,
        seed=request.seed,
        sampling=SamplingParams(request.temperature, request.top_k, request.top_p),
    )
    return ask, Task(series, window_at(series, as_of, request.lookback))


_Window = tuple[StoreSpec, SymbolSeries, AsOf, Any]


def _stored(request: ForecastRequest, history: MarketHistory | None) -> _Window:
    if history is None:
        raise ForecastInputError("there is no store here; send bars along")
    sessions = history.sessions()
    if not sessions:
        raise ForecastInputError("the store holds no bars yet")
    as_of = history.resolve_as_of(request.as_of or sessions[-1])
    found = history.series([request.symbol], as_of=as_of.close_utc)
    if not found:
        raise ForecastInputError(f"{request.symbol}: no bars of this symbol in the store by then")
    known = np.array([day for day in sessions if day <= as_of.session], dtype="datetime64[D]")
    return history.spec, found[0], as_of, known


def _brought(request: ForecastRequest, settings: ServeSettings) -> _Window:
    bars = request.bars
    assert bars is not None
    columns = {name: values for name, values in bars.model_dump().items() if values is not None}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise ForecastInputError("bars: the columns have different lengths")
    if max(lengths) > settings.max_bars:
        raise ForecastInputError(
            f"bars: {max(lengths)} rows; this console takes up to {settings.max_bars}"
        )
    if any(moment.tzinfo is not None for moment in bars.timestamp):
        raise ForecastInputError("bars: timestamps are exchange-local labels without an offset")
    frame = pl.DataFrame(columns).with_columns(pl.col("timestamp").cast(pl.Datetime("us")))
    options = ImportOptions(
        venue=request.venue,
        freq=None if request.freq is None else parse_freq(request.freq),
        symbol=request.symbol,
    )
    read = read_frame(frame, options, source="bars")
    if read.quarantine.height:
        row = read.quarantine.row(0, named=True)
        raise ForecastInputError(f"bars: row {row['row']}: {row['detail']} (rule: {row['rule']})")
    known = read.bars
    if request.as_of is not None:
        moment = parse_moment(request.as_of)
        if isinstance(moment, datetime):
            known = known.filter(pl.col("close_utc") <= local_to_utc(moment, read.spec.tz))
        else:
            known = known.filter(pl.col("session") <= moment)
        if not known.height:
            raise ForecastInputError(f"bars: none by {request.as_of}")
    as_of = as_of_row(known.select("session", "close_utc").row(-1))
    series = series_of(known, spec=read.spec)[0]
    sessions = known["session"].unique().sort().to_numpy().astype("datetime64[D]")
    return read.spec, series, as_of, sessions


def answer(request: ForecastRequest, ask: Ask, made: Made) -> dict[str, Any]:
    """The forecast for programs."""
    first = made.steps.row(0, named=True)
    keep = [
        "step", "timestamp", "p_up",
        *(n for n in made.steps.columns if n.startswith("close_")),
        *(f"{f}_{s}" for f in ("open", "high", "low", "volume") for s in _OTHERS),
    ]  # fmt: skip
    stats = made.path_stats.row(0, named=True)
    return {
        "symbol": request.symbol,
        "as_of": first["as_of"],
        "model": ask.model,
        "model_id": made.model_id,
        "venue": ask.spec.venue,
        "freq": ask.spec.freq,
        "lookback": ask.lookback,
        "horizon": ask.horizon,
        "n_paths": first["n_paths"],
        "seed": ask.seed,
        "last_close": first["last_close"],
        "data_through": first["data_through"],
        "flags": notes(first["flags"]),
        "steps": made.steps.select(keep).to_dicts(),
        "path_stats": {name: stats[name] for name in _STATS},
    }
