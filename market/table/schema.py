"""Columns of the forecast table and of the record of a run. Knows no storage and no model.

A row of `steps` is one forecast bar: what the sampled paths of one symbol, seen from one as_of,
say about one coming bar. `path_stats` holds, per (as_of, symbol), what marginals cannot give.
`paths` holds the sampled bars themselves, where they were asked for. `ensembles` holds the raw
closes of some symbols and of baselines beside them, which later nights are calibrated by.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from market.fields import FEATURES

QUANTILE_NAMES = ("q01", "q05", "q10", "q25", "q50", "q75", "q90", "q95", "q99")
"""Of the paths, in percent; q01 and q99 are null below 100 paths, where they would only repeat the
extremes."""

PARTITION_BY = ("model_id", "as_of_date")

FORMAT = 1
"""Of run records and pointers; a table with a larger one was written by newer code."""

_UTC = pl.Datetime("us", "UTC")
_KEY: dict[str, pl.DataType] = {
    "run_id": pl.String(),
    "model_id": pl.String(),
    "as_of_date": pl.Date(),
    "as_of": _UTC,
    "symbol": pl.String(),
    "freq": pl.String(),
    "venue": pl.String(),
}
SLOT = ("as_of", "freq", "venue")
"""Within a partition, what one run's rows replace another's in."""

STEPS_SCHEMA = pl.Schema(
    _KEY
    | {
        "step": pl.Int32(),
        "timestamp": pl.Datetime("us"),
        "n_paths": pl.Int32(),
        "last_close": pl.Float64(),
        "data_through": _UTC,
        "price_basis": pl.String(),
        "flags": pl.Int32(),
        "published": pl.String(),
    }
    | {
        f"{feature}_{statistic}": pl.Float64()
        for feature in FEATURES
        for statistic in ("mean", "std", *QUANTILE_NAMES)
    }
    | {"p_up": pl.Float64()}
    | {f"raw_close_{statistic}": pl.Float64() for statistic in ("mean", "std", *QUANTILE_NAMES)}
    | {"raw_p_up": pl.Float64()}
)
"""`published` says what the row's numbers are of: `as sampled` where no calibration was asked for,
else `raw`, `calibrated` or a baseline's name, after what did best so far; `uncalibrated` where the
past was too short. The raw_ columns hold the model's own close beside a published one of another
kind; elsewhere they are null."""

PATH_STATS_SCHEMA = pl.Schema(
    _KEY
    | {
        "n_paths": pl.Int32(),
        "horizon": pl.Int32(),
        "return_mean": pl.List(pl.Float64()),
        "return_std": pl.List(pl.Float64()),
        "expected_drawdown": pl.Float64(),
        "path_volatility": pl.Float64(),
        "floored": pl.Int32(),
    }
)

PATHS_SCHEMA = pl.Schema(
    _KEY
    | {"path": pl.Int32(), "step": pl.Int32()}
    | {feature: pl.Float32() for feature in FEATURES}
)

ENSEMBLES_SCHEMA = pl.Schema(
    _KEY
    | {
        "recipe": pl.String(),
        "source": pl.String(),
        "n_paths": pl.Int32(),
        "horizon": pl.Int32(),
        "last_close": pl.Float64(),
        "sigma": pl.Float64(),
        "log_close": pl.List(pl.Float32()),
    }
)
"""log_close: log returns from the last close, path by path, n_paths × horizon numbers. sigma: the
volatility of one bar known at as_of. recipe: hash of what the forecasts depend on beside their
windows; only forecasts of one recipe say something about each other. source: `model`, or a
baseline's name."""

Kind = Literal["steps", "path_stats", "paths", "ensembles"]
KINDS: tuple[Kind, ...] = ("ensembles", "paths", "path_stats", "steps")
"""In the order of commits: steps, which makes a date visible, comes last."""
SCHEMAS: dict[Kind, pl.Schema] = {
    "steps": STEPS_SCHEMA,
    "path_stats": PATH_STATS_SCHEMA,
    "paths": PATHS_SCHEMA,
    "ensembles": ENSEMBLES_SCHEMA,
}
ROW_ORDER: dict[Kind, list[str]] = {
    "steps": ["as_of", "symbol", "step"],
    "path_stats": ["as_of", "symbol"],
    "paths": ["as_of", "symbol", "path", "step"],
    "ensembles": ["as_of", "symbol", "source"],
}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DateRecord(_Record):
    """What became of one as_of of a run."""

    as_of: datetime
    as_of_date: date
    eligible: int
    """Symbols that could be forecast."""
    forecast: int = 0
    """Symbols that were."""
    in_sample: bool
    """The model had seen this date in training."""
    versions: dict[Kind, int] = {}
    """Version of each table that shows this date's rows of this run, also when replaced later."""


class SymbolNote(_Record):
    """Why symbols are missing from one as_of."""

    as_of: datetime
    reason: str
    symbols: tuple[str, ...]


class RunRecord(_Record):
    """One run: what was asked for, what was read, what came of it, and when by the clock.

    Clock times live here and nowhere else, so that rows of a rerun are bit-identical.
    """

    format: int = FORMAT
    run_id: str
    model_id: str
    model: str
    status: Literal["running", "finished"]
    started_at: datetime
    finished_at: datetime | None = None
    forecast_seconds: float = 0.0
    """Time spent with replicas at work, over all attempts at this run that got that far."""
    identity: dict[str, Any]
    """What run_id is the hash of."""
    settings: dict[str, Any]
    """What the user asked for, as given."""
    history: dict[str, str | None]
    """Where the bars came from: root, version, venue, freq."""
    cutoff_unknown: bool = False
    """Nobody states up to which date the model was trained."""
    versions: dict[str, str] = {}
    """Library builds the numbers were computed with."""
    dates: tuple[DateRecord, ...]
    skipped: tuple[SymbolNote, ...] = ()
    """Symbols that were not eligible."""
    failed: tuple[SymbolNote, ...] = ()
    """Eligible symbols whose forecast raised an error."""
    trimmed: int = 0
    """Series whose lookback was shortened to fit the model's context."""
    repaired_bars: int = 0
    """Sampled bars that broke a bar rule and were repaired."""
    replaced_runs: tuple[str, ...] = ()
    """Runs whose rows this one replaced; they stay readable through time travel."""

    @property
    def n_forecasts(self) -> int:
        return sum(d.forecast for d in self.dates)


class Published(_Record):
    """What `latest` points to: the newest as_of of one model, venue and frequency."""

    format: int = FORMAT
    model_id: str
    model: str
    venue: str | None
    freq: str
    run_id: str
    as_of: datetime
    as_of_date: date
    forecasts: int
    """Symbols that have a forecast."""
    versions: dict[Kind, int]
    """Table versions in which that night is whole: a reader that pins them sees one moment."""
