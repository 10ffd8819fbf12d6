"""Our own pipeline for the audit: bars to windows, forecasts, calibration, scores, orders, equity.

The same functions that a run uses, in this process and on a few symbols. Knows no poison.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from backtest import run_backtest
from backtest.settings import BacktestSettings
from cluster.audit.harness import KNOWN_AT
from cluster.audit.memory import Memory
from cluster.audit.poison import AT_OPEN, World
from cluster.forecasting.publication import Publication, publication
from cluster.forecasting.rows import table_rows
from cluster.forecasting.work import Task, WindowJob
from cluster.outcomes import outcomes
from cluster.settings import USUAL_BASELINES
from forecaster import LoadedModel, SamplePaths, SamplingParams, WindowBatch
from forecaster.baselines import load_baseline
from forecaster.calibration import MODEL, Fitted, PastForecasts, calibrate
from forecaster.calibration.past import ALWAYS
from forecaster.calibration.paths import bar_volatility, log_closes
from market.bars import BAR_SCHEMA, QUARANTINE_SCHEMA
from market.calendars import future_timestamps
from market.lake.history import MarketHistory
from market.spec import AsOf, StoreSpec
from market.windows import SymbolSeries, eligibility, view, window_at

_ROWS_GIVEN = ("symbol", "timestamp", "open", "high", "low", "close", "volume", "amount", "flags")


@dataclass(frozen=True)
class ProductPipeline:
    """One model over some symbols and dates."""

    loaded: LoadedModel
    spec: StoreSpec
    symbols: tuple[str, ...]
    as_ofs: tuple[AsOf, ...]
    """Forecast, scored and traded."""
    past: tuple[AsOf, ...]
    """Forecast to calibrate by."""
    lookback: int
    horizon: int
    memory: Memory

    def __call__(self, world: World) -> Mapping[str, pl.DataFrame]:
        """Rows per stage; see `cluster.audit.harness.Pipeline`."""
        with TemporaryDirectory() as folder:
            history = MarketHistory.create(Path(folder) / "store", self.spec)
            history.append(world.bars.select(_ROWS_GIVEN), pl.DataFrame(schema=QUARANTINE_SCHEMA))
            return self._stages(MarketHistory.open(Path(folder) / "store"))

    def _stages(self, history: MarketHistory) -> dict[str, pl.DataFrame]:
        series = {each.symbol: each for each in history.series()}
        out: dict[str, list[pl.DataFrame]] = {"windows": [], "forecasts": [], "calibration": []}
        past = self._past(history, series)
        for as_of in self.as_ofs:
            fitted = calibrate(past.known_by(as_of.close_us))
            out["calibration"].append(_fit_row(as_of, fitted))
            tasks = self._tasks(history, series, as_of)
            if not tasks:
                continue
            windows = self._windows(tasks)
            out["windows"].append(_window_rows(as_of, windows))
            made = publication(self._job(as_of, fitted), windows, self._sampled(windows))
            out["forecasts"].append(self._rows(tasks, made, as_of, fitted))
        stages = {name: pl.concat(parts) for name, parts in out.items() if parts}
        if "forecasts" in stages:
            stages |= self._traded(history, stages["forecasts"].drop(KNOWN_AT))
        return stages

    def _past(self, history: MarketHistory, series: dict[str, SymbolSeries]) -> PastForecasts:
        tasks = [task for as_of in self.past for task in self._tasks(history, series, as_of)]
        windows = self._windows(tasks)
        sources = {MODEL: self._sampled(windows)} | {
            name: self.memory.sampled(load_baseline(name), windows)
            for name in dict.fromkeys((*ALWAYS, *USUAL_BASELINES))
        }
        made = outcomes(history, list(windows.symbols), windows.as_of_B, self.horizon)
        return PastForecasts(
            symbols=windows.symbols,
            as_of_N=windows.as_of_B,
            members={name: log_closes(paths) for name, paths in sources.items()},
            sigma_N=bar_volatility(windows.values_BLF),
            actual_NH=made.log_return_NH,
            ended_NH=made.ended_NH,
        )

    def _tasks(
        self, history: MarketHistory, series: dict[str, SymbolSeries], as_of: AsOf
    ) -> list[Task]:
        sessions = np.array(history.sessions(end=as_of.session), dtype="datetime64[D]")
        return [
            Task(series[name], window_at(series[name], as_of, self.lookback))
            for name in self.symbols
            if name in series
            and eligibility(series[name], as_of, self.lookback, sessions=sessions) is None
        ]

    def _windows(self, tasks: Sequence[Task]) -> WindowBatch:
        labels = np.stack([t.series.timestamps_N[t.window.first : t.window.last] for t in tasks])
        return WindowBatch(
            symbols=tuple(t.window.symbol for t in tasks),
            as_of_B=np.array([t.window.as_of for t in tasks], dtype="datetime64[us]"),
            values_BLF=np.stack([view(t.series, t.window) for t in tasks]),
            timestamps_BL=labels,
            future_BH=np.stack([future_timestamps(self.spec, row, self.horizon) for row in labels]),
        )

    def _sampled(self, windows: WindowBatch) -> SamplePaths:
        return self.memory.sampled(self.loaded.forecaster, windows)

    def _job(self, as_of: AsOf, fitted: Fitted) -> WindowJob:
        return WindowJob(
            run_id="audit",
            model_id=self.loaded.forecaster.model_id,
            trained_through=None,
            cutoff_unknown=False,
            spec=self.spec,
            lookback=self.lookback,
            horizon=self.horizon,
            paths=self.memory.paths,
            sampling=SamplingParams(),
            seed=0,
            keep_paths=False,
            recipe="audit",
            fitted={as_of.close_us: fitted},
        )

    def _rows(
        self, tasks: Sequence[Task], made: Publication, as_of: AsOf, fitted: Fitted
    ) -> pl.DataFrame:
        rows = table_rows(self._job(as_of, fitted), tasks, made)["steps"]
        return rows.with_columns(pl.col("as_of").alias(KNOWN_AT))

    def _traded(self, history: MarketHistory, forecasts: pl.DataFrame) -> dict[str, pl.DataFrame]:
        bars = history.scan().sort("symbol", "timestamp").collect()
        k = max(1, len(self.symbols) // 3)
        result = run_backtest(bars, forecasts, BacktestSettings(k=k))  # type: ignore[call-arg]
        closes = bars["close_utc"].unique().sort()
        before = pl.DataFrame({"close_utc": closes, "before": closes.shift(1)})
        orders = (
            result.strategy.orders.with_columns(_zoned("close_utc"))
            .join(before, on="close_utc", how="left", maintain_order="left")
            .with_columns((pl.col("before") + AT_OPEN).alias(KNOWN_AT))
            .drop("before")
        )
        daily = result.strategy.daily.with_columns(_zoned("close_utc"))
        scores = result.scores.select("as_of", "symbol", "score").with_columns(
            _zoned("as_of").alias(KNOWN_AT)
        )
        return {
            "scores": scores,
            "orders": orders,
            "equity": daily.with_columns(pl.col("close_utc").alias(KNOWN_AT)),
        }


def _zoned(name: str) -> pl.Expr:
    return pl.col(name).dt.replace_time_zone("UTC").cast(pl.Datetime("us", "UTC"))


def _fit_row(as_of: AsOf, fitted: Fitted) -> pl.DataFrame:
    return pl.DataFrame(
        {KNOWN_AT: [as_of.close_utc], "fit": [json.dumps(fitted.as_dict())]},
        schema={KNOWN_AT: pl.Datetime("us", "UTC"), "fit": pl.String},
    )


def _window_rows(as_of: AsOf, windows: WindowBatch) -> pl.DataFrame:
    rows = pl.DataFrame(
        {
            "symbol": windows.symbols,
            "bars": list(windows.values_BLF.reshape(len(windows), -1)),
            "coming": list(windows.future_BH.astype("datetime64[us]").astype(np.int64)),
        }
    )
    return rows.with_columns(pl.lit(as_of.close_utc).cast(pl.Datetime("us", "UTC")).alias(KNOWN_AT))


def bars_of(history: MarketHistory, symbols: Sequence[str], start: datetime | None) -> pl.DataFrame:
    """The rows of some symbols, in the lake's columns and order."""
    bars = history.scan(symbols=symbols)
    if start is not None:
        bars = bars.filter(pl.col("close_utc") >= start)
    return bars.sort("symbol", "timestamp").collect().select(BAR_SCHEMA.names())
