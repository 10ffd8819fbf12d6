"""A history on disk, from a notebook. Knows the lake and the jobs; the work is theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from backtest.fills.costs import Costs
from backtest.weights.settings import StrategySettings
from candlecast.backtests import Backtest, backtest
from candlecast.errors import speaks_python
from candlecast.forecasts import MISSING_SCHEMA, Forecasts
from candlecast.frames import Kind, as_kind, as_polars, import_options, names
from market.errors import ConfigError, ForecastInputError
from market.importing.files import import_files
from market.importing.frames import read_frame
from market.lake.appending import ImportReport, OnConflict, import_bars
from market.lake.history import MarketHistory
from market.lake.versions import current_version, lake_folder
from market.storage import Folder


def _policy(text: str) -> OnConflict:
    if text not in set(OnConflict):
        raise ConfigError(f"on_conflict={text!r}: must be {', '.join(OnConflict)}")
    return OnConflict(text)


class Store:
    """A versioned history of one market's bars in a folder or bucket, made at the first import.

    >>> store = cc.Store("store")
    >>> store.import_files("bars/*.csv", venue="XNYS")
    >>> forecasts = store.forecast(as_of="2016-01-04:2016-12-30:weekly", out="forecasts")
    >>> store.backtest(forecasts, k=20).to_html("tearsheet.html")
    """

    def __init__(self, place: str | Path, *, frames: Kind = "polars") -> None:
        """place: the folder, or a URL. frames: kind of the frames handed out, polars or pandas.

        Raises ConfigError for another kind of frame.
        """
        if frames not in ("polars", "pandas"):
            raise ConfigError(f"frames={frames!r}: must be polars or pandas")
        self.folder = Folder(place)
        self.path: str | Path = self.folder.path or self.folder.url
        self.kind: Kind = frames

    def __repr__(self) -> str:
        if current_version(self.path) is None:
            return f"Store({str(self.path)!r}): empty"
        history = self.history
        symbols, sessions = history.symbols(), history.sessions()
        span = f"{sessions[0]} to {sessions[-1]}" if sessions else "no bars"
        return (
            f"Store({str(self.path)!r}): {int(symbols['n_bars'].sum()):,} bars of "
            f"{symbols.height:,} symbols, {span}; {history.spec}; version {history.version}"
        )

    @property
    def history(self) -> MarketHistory:
        """The newest version. Raises StoreError where nothing was imported yet."""
        return MarketHistory.open(self.path)

    @speaks_python
    def import_frame(
        self,
        frame: Any,
        *,
        venue: str | None = None,
        freq: str | None = None,
        tz: str | None = None,
        label: str | None = None,
        symbol: str | None = None,
        columns: dict[str, str] | None = None,
        on_conflict: str = "error",
    ) -> ImportReport:
        """Check a frame's bars and keep them as a new version; bad rows go to quarantine.

        frame and keywords: as in `cc.forecast`; a store that holds bars already says venue, freq
        and tz itself. on_conflict: what happens where a bar differs from the stored one: error,
        keep or replace. Raises CandlecastError in one line, with nothing written.

        >>> store.import_frame(bars, venue="XNYS")
        """
        told = import_options(venue, freq, tz, label, symbol, columns)
        existing = self.history.spec if current_version(self.path) is not None else None
        read = read_frame(as_polars(frame, "the frame"), told, existing)
        report = import_bars(
            lake_folder(self.path), read.spec, read.good, read.quarantine,
            on_conflict=_policy(on_conflict), sources=["frame"],
        )  # fmt: skip
        return replace(report, notes=read.notes)

    @speaks_python
    def import_files(
        self,
        files: str | Path | Sequence[str | Path],
        *,
        venue: str | None = None,
        freq: str | None = None,
        tz: str | None = None,
        label: str | None = None,
        symbol: str | None = None,
        columns: dict[str, str] | None = None,
        on_conflict: str = "error",
    ) -> ImportReport:
        """Import CSV and Parquet files, folders and globs, one or several.

        Keywords as in `import_frame`. Raises CandlecastError in one line, with nothing written.

        >>> store.import_files("bars/*.csv", venue="XNYS")
        """
        told = import_options(venue, freq, tz, label, symbol, columns)
        return import_files(files, self.path, told, on_conflict=_policy(on_conflict))

    @speaks_python
    def symbols(self) -> list[str]:
        """Names of all symbols, sorted. Raises StoreError where nothing was imported yet.

        >>> store.symbols()
        """
        return self.history.symbols()["symbol"].to_list()

    @speaks_python
    def bars(
        self,
        symbols: str | Iterable[str] | None = None,
        *,
        start: str | date | None = None,
        as_of: str | date | datetime | None = None,
    ) -> Any:
        """Bars of some symbols or all, sorted by symbol and time.

        start: first session. as_of: last moment known, inclusive; a date is its session's close.
        Columns as market.bars.BAR_SCHEMA says. Raises StoreError for an empty store, AsOfError for
        an as_of outside it, ForecastInputError for an unknown symbol.

        >>> store.bars("AAPL", start="2024-01-02")
        """
        history, wanted = self.history, names(symbols)
        unknown = set(wanted or ()) - set(history.symbols()["symbol"])
        if unknown:
            some = ", ".join(self.symbols()[:5])
            raise ForecastInputError(f"{min(unknown)}: not in {self.path}; it holds {some} …")
        try:
            first = date.fromisoformat(start) if isinstance(start, str) else start
        except ValueError:
            raise ConfigError(f"start={start!r} is not a date; write 2024-01-02") from None
        moment = None if as_of is None else history.resolve_as_of(as_of).close_utc
        found = history.scan(symbols=wanted, start=first, as_of=moment)
        return as_kind(found.sort("symbol", "timestamp").collect(), self.kind)

    @speaks_python
    def forecast(self, as_of: str, out: str | Path, **settings: Any) -> Forecasts:
        """Forecast on Ray into a table, exactly once, as `candlecast forecast` does.

        as_of: a date, or "FROM:TO:STEP" with STEP daily, weekly, monthly or a number of sessions.
        out: folder or URL of the table. settings: lookback, horizon, paths, model, universe, seed,
        replicas … as `candlecast forecast --help` lists them. Calling it again redoes nothing.
        Raises CandlecastError in one line for what cannot be forecast.

        >>> store.forecast(as_of="2016-01-04:2016-12-30:weekly", out="forecasts", paths=64)
        """
        from cluster.forecasting.job import run_forecast
        from cluster.settings import ForecastSettings
        from market.table.forecasts import ForecastTable

        if "universe" in settings:
            settings["universe"] = ",".join(names(settings["universe"]) or ())
        asked = ForecastSettings(**settings, store=self.path, out=out, as_of=as_of)
        record = run_forecast(asked).record
        table, history = ForecastTable(asked.out), self.history
        key = {"model_id": record.model_id, "run_id": record.run_id}
        missing = [
            (symbol, note.as_of, note.reason)
            for note in (*record.skipped, *record.failed)
            for symbol in note.symbols
        ]
        return Forecasts(
            steps=table.scan(**key),
            path_stats=table.path_stats(**key),
            sampled=table.paths(**key) if asked.keep_paths else None,
            bars=history.scan(),
            model=record.model,
            spec=history.spec,
            missing=pl.DataFrame(missing, schema=MISSING_SCHEMA, orient="row"),
            notes=(f"run {record.run_id} in {asked.out}",),
            kind=self.kind,
        )

    @speaks_python
    def backtest(
        self,
        scores: Any = None,
        *,
        strategy: str | Mapping[str, Any] | StrategySettings = "topk",
        costs: Mapping[str, float] | Costs | None = None,
        **settings: Any,
    ) -> Backtest:
        """Backtest on this store's bars; arguments as in `cc.backtest`.

        Raises CandlecastError in one line, as `cc.backtest` does.

        >>> store.backtest(momentum=60, k=20).metrics["sharpe"]
        """
        return backtest(self, scores, strategy=strategy, costs=costs, **settings)
