"""Forecasts in this process: a frame in, sampled futures out, with neither files nor Ray.

Windows, noise, batches and rows are those of a run on Ray, so that the numbers are the same for the
same bars, settings and seed, and so is the run's id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl

from candlecast.errors import speaks_python
from candlecast.forecasts import MISSING_SCHEMA, Forecasts
from candlecast.frames import Kind, as_polars, import_options, kind_of, names
from cluster.forecasting.batches import SERIES_PER_CALL, forecast_batch
from cluster.forecasting.identity import bars_digest, bars_read, digest, identity_of
from cluster.forecasting.work import Task, WindowJob
from cluster.settings import ModelForecast
from forecaster import LoadedModel, SamplingParams, load_forecaster
from market.calendars import local_to_utc
from market.errors import AsOfError, ConfigError, ForecastInputError
from market.fields import FEATURES
from market.importing.frames import FrameBars, read_frame
from market.lake.asof import as_of_row, is_range, parse_moment, range_closes, session_close
from market.lake.history import series_of
from market.spec import AsOf, StoreSpec
from market.table.schema import Kind as Rows
from market.windows import eligibility, known_bars, window_at

Moment = str | date | datetime
_WHERE = "these bars"
_OF_A_RUN = (
    *("universe", "keep_paths", "replicas", "gpus_per_replica", "shard_size", "address"),
    *("no_progress_timeout_s", "wait_for_other_s"),
)
"""Settings of a forecast that mean nothing in this process."""


@speaks_python
def forecast(
    bars: Any,
    horizon: int = 20,
    *,
    model: str = "nano",
    paths: int = 64,
    lookback: int = 256,
    venue: str | None = None,
    freq: str | None = None,
    as_of: Moment | Sequence[Moment] | None = None,
    symbols: str | Iterable[str] | None = None,
    seed: int = 0,
    tz: str | None = None,
    label: str | None = None,
    symbol: str | None = None,
    columns: dict[str, str] | None = None,
    gpu: bool = False,
    **settings: Any,
) -> Forecasts:
    """Sampled futures of every symbol of a frame of bars.

    bars: pandas or polars, one row per symbol and bar, in time order: symbol, date or timestamp
    (exchange-local labels), open, high, low, close, and volume and amount where there are any;
    usual names in any case are found, `columns` maps others (`{"close": "Schlusskurs"}`). The index
    may hold the time, the symbol, or both. symbol: names a frame of one symbol without a column.

    horizon: bars ahead. model: nano, mini, small, base, random-walk, bootstrap, timellm:FOLDER, or
    a folder or hub id. paths: sampled futures per symbol. lookback: bars the model sees. venue:
    calendar such as XNYS, or "24/7"; without one, days end at midnight UTC and future sessions
    follow the weekdays seen. freq: 1d, 1h, 5min …; inferred from the labels. as_of: last moment
    known: a date, a time, "2024-01-01:2024-06-30:weekly", or several; the last close of the frame
    without. symbols: only these. seed: keys all sampling noise. tz, label: time zone of the labels
    and the side of an intraday bar they name (start or end), where the venue and the labels do not
    show them. gpu: compute on the first CUDA device. settings: temperature, top_k, top_p,
    precision, overflow, repair, max_gap_sessions, tokenizer, memory_mb, as `candlecast forecast
    --help` explains them.

    All symbols are batched through the engine; the result depends neither on their order nor on
    their company, and is bit for bit what `candlecast forecast` writes for the same bars, settings
    and seed. A symbol that cannot be forecast is listed in `missing`. Raises CandlecastError in one
    line for frames that are not bars, unknown settings, and where nothing can be forecast.

    >>> forecasts = cc.forecast(bars, horizon=20, venue="XNYS", symbols=["AAPL", "MSFT"])
    >>> forecasts.to_frame()
    """
    for name in _OF_A_RUN:
        if name in settings:
            raise ConfigError(f"{name}: read by Store.forecast alone; leave it out here")
    told = import_options(venue, freq, tz, label, symbol, columns)
    read = read_frame(as_polars(bars, "bars"), told, source="bars")
    asked = ModelForecast(
        model=model,
        horizon=horizon,
        paths=paths,
        lookback=lookback,
        seed=seed,
        gpus_per_replica=float(gpu),
        **settings,
    )
    loaded = load_forecaster(
        asked.model,
        asked.tokenizer,
        asked.device,
        memory=None if asked.memory_mb is None else asked.memory_mb * 2**20,
        precision=asked.precision,
        overflow=asked.overflow,
        repair_bars=asked.repair,
        anchor=asked.anchor,
    )
    as_ofs = _as_ofs(as_of, read.bars, read.spec)
    work = _plan(read, as_ofs, names(symbols), asked)
    return _run(read, loaded, asked, work, kind_of(bars) or "polars")


@dataclass(frozen=True)
class _Work:
    """What is to be forecast, and what cannot be."""

    tasks: list[Task]
    """In the order of (as_of, symbol)."""
    as_ofs: list[AsOf]
    bars_hash: str
    missing: list[tuple[str, datetime, str]]


def _as_ofs(
    wanted: Moment | Sequence[Moment] | None, bars: pl.DataFrame, spec: StoreSpec
) -> list[AsOf]:
    """The moments asked for, each once, in order."""
    closes = bars.group_by("session").agg(pl.col("close_utc").max()).sort("session")
    if wanted is None:
        return [as_of_row(closes.row(-1))]
    if isinstance(wanted, str) and is_range(wanted):
        return range_closes(wanted, closes, spec, _WHERE)
    single = isinstance(wanted, str | date)
    moments: Sequence[Moment] = [wanted] if single else wanted  # type: ignore[list-item,assignment]
    found = {_as_of(moment, bars, closes, spec) for moment in moments}
    return sorted(found, key=lambda each: each.close_utc)


def _as_of(value: Moment, bars: pl.DataFrame, closes: pl.DataFrame, spec: StoreSpec) -> AsOf:
    moment = parse_moment(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime):
        return session_close(moment, closes, _WHERE)
    if spec.daily and moment.tzinfo is None and moment.time() == datetime.min.time():
        return session_close(moment.date(), closes, _WHERE)  # how pandas writes a date
    known = bars.filter(pl.col("close_utc") <= local_to_utc(moment, spec.tz))
    if not known.height:
        raise AsOfError(
            f"as_of {value}: no bar has closed by then; the first is of {closes['session'][0]}"
        )
    return as_of_row(known.sort("close_utc", "session").select("session", "close_utc").row(-1))


def _plan(
    read: FrameBars, as_ofs: list[AsOf], wanted: list[str] | None, asked: ModelForecast
) -> _Work:
    symbols: list[str] = read.bars["symbol"].unique().sort().to_list()
    unknown = sorted(set(wanted or ()) - set(symbols))
    if unknown:
        raise ForecastInputError(
            f"{unknown[0]}: no bars of this symbol; there are {', '.join(symbols[:5])} …"
        )
    last = as_ofs[-1]
    known = {
        s.symbol: s
        for s in series_of(read.bars.filter(pl.col("close_utc") <= last.close_utc), spec=read.spec)
    }
    sessions = read.bars.filter(pl.col("session") <= last.session)["session"].unique().sort()
    sessions_S = sessions.to_numpy().astype("datetime64[D]")
    tasks: list[Task] = []
    missing: list[tuple[str, datetime, str]] = []
    hashed = hashlib.blake2b(digest_size=16)
    for symbol in symbols if wanted is None else sorted(set(wanted)):
        series = known.get(symbol)
        eligible: list[AsOf] = []
        for as_of in as_ofs:
            if wanted is None and (series is None or not known_bars(series, as_of)):
                continue  # not there yet: nobody asked for it
            reason = (
                f"too short: no bar up to {as_of.session}"
                if series is None
                else eligibility(
                    series,
                    as_of,
                    asked.lookback,
                    sessions=sessions_S,
                    max_gap_sessions=asked.max_gap_sessions,
                    allow_suspected_splits=asked.allow_suspected_splits,
                )
            )
            if reason is None and series is not None:
                eligible.append(as_of)
                tasks.append(Task(series, window_at(series, as_of, asked.lookback)))
            else:
                missing.append((symbol, as_of.close_utc, str(reason)))
        if series is not None and eligible:
            hashed.update(
                bars_digest(
                    series,
                    bars_read(series, eligible, asked.lookback),
                    eligible,
                    asked.lookback,
                )
            )
    if not tasks:
        first = f"{missing[0][0]}: {missing[0][2]}"
        several = len({symbol for symbol, *_ in missing})
        if several > 1:
            first = f"none of {several:,} symbols can be forecast; {first}"
        raise ForecastInputError(first)
    tasks.sort(key=lambda task: (task.window.as_of, task.window.symbol))
    return _Work(tasks, as_ofs, hashed.hexdigest(), missing)


def _run(
    read: FrameBars, loaded: LoadedModel, asked: ModelForecast, work: _Work, kind: Kind
) -> Forecasts:
    if asked.calibration != "off":
        raise ConfigError(
            f"calibration={asked.calibration!r}: paths are calibrated by the past of a forecast "
            "table; use 'candlecast forecast --calibration on'"
        )
    identity = identity_of(read.spec, loaded, asked, work.as_ofs, work.bars_hash)
    job = WindowJob(
        run_id=digest(json.dumps(identity, sort_keys=True).encode()),
        model_id=loaded.forecaster.model_id,
        trained_through=loaded.trained_through,
        cutoff_unknown=loaded.cutoff_unknown,
        spec=read.spec,
        lookback=asked.lookback,
        horizon=asked.horizon,
        paths=asked.paths,
        sampling=SamplingParams(
            temperature=asked.temperature, top_k=asked.top_k, top_p=asked.top_p
        ),
        seed=asked.seed,
        keep_paths=True,
    )
    batch_BLF = np.empty((SERIES_PER_CALL, asked.lookback, len(FEATURES)))
    parts: dict[Rows, list[pl.DataFrame]] = {"steps": [], "path_stats": [], "paths": []}
    missing = list(work.missing)
    for first in range(0, len(work.tasks), SERIES_PER_CALL):
        notes, frames = forecast_batch(
            loaded.forecaster, job, work.tasks[first : first + SERIES_PER_CALL], batch_BLF
        )
        missing += [(n.symbol, n.as_of, n.error) for n in notes if n.error is not None]
        for rows, frame in frames.items():
            parts[rows].append(frame)
    if not parts["steps"]:
        symbol, _, error = missing[-1]
        raise ForecastInputError(f"every forecast failed; {symbol}: {error}")
    return Forecasts(
        steps=pl.concat(parts["steps"]).lazy(),
        path_stats=pl.concat(parts["path_stats"]).lazy(),
        sampled=pl.concat(parts["paths"]).lazy(),
        bars=read.bars.lazy(),
        model=loaded.name,
        spec=read.spec,
        missing=pl.DataFrame(missing, schema=MISSING_SCHEMA, orient="row").sort("as_of", "symbol"),
        notes=read.notes,
        kind=kind,
    )
