"""Rows of a forecast table with something in every column, and a small store of bars."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from market.importing.files import import_frame
from market.lake.history import MarketHistory
from market.spec import Label, StoreSpec
from market.synthetic import SimulatorParams, simulate_market
from market.table.schema import SCHEMAS, Kind, Published

MODEL = "m" * 16
FIRST = date(2017, 1, 1)
SPEC = StoreSpec(venue="XNYS", freq="1d", tz="America/New_York", label=Label.SESSION)


def rows(kind: Kind, day: date, run: str) -> pl.DataFrame:
    """One row of a run and date."""
    moment = datetime(day.year, day.month, day.day, 21, tzinfo=UTC)
    own: dict[str, object] = {
        "run_id": run, "model_id": MODEL, "symbol": "AAA", "as_of_date": day, "freq": "1d",
        "venue": "XNYS",
    }  # fmt: skip

    def value(name: str, dtype: pl.DataType) -> object:
        if name in own:
            return own[name]
        if isinstance(dtype, pl.Datetime):
            return moment if dtype.time_zone else moment.replace(tzinfo=None)
        if isinstance(dtype, pl.List):
            return [1.0]
        return {pl.String(): "x", pl.Date(): day, pl.Boolean(): False}.get(dtype, 1)

    values = {name: [value(name, dtype)] for name, dtype in SCHEMAS[kind].items()}
    return pl.DataFrame(values, schema=SCHEMAS[kind], strict=False)


def both(day: date, run: str) -> dict[Kind, pl.DataFrame]:
    return {"steps": rows("steps", day, run), "path_stats": rows("path_stats", day, run)}


def night(day: date, run: str = "a" * 16, versions: dict[Kind, int] | None = None) -> Published:
    return Published(
        model_id=MODEL, model="m", venue="XNYS", freq="1d", run_id=run,
        as_of=datetime(day.year, day.month, day.day, 21, tzinfo=UTC), as_of_date=day,
        forecasts=1, versions=versions or {},
    )  # fmt: skip


def small_store(folder: Path, n_symbols: int = 6, n_sessions: int = 120) -> MarketHistory:
    bars = simulate_market(SimulatorParams(seed=5, n_symbols=n_symbols, n_sessions=n_sessions))
    import_frame(bars, folder, SPEC)
    return MarketHistory.open(folder)
