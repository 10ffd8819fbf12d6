"""One night: new bars in, a look at their quality, forecast, commit, publish, report.

Knows the order of things; prints nothing. Twice in a row does the work once; two at once do it once
and both say so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cluster.forecast_job import ForecastReport, run_forecast
from cluster.settings import ForecastSettings, Place
from market.errors import ConfigError, StoreError
from market.forecasts import ForecastTable
from market.history import AsOf, MarketHistory
from market.importers import ImportOptions, find_files, import_files
from market.leases import LeaseHeldError, hold
from market.manifest import current_version
from market.quality import GateSettings, Quality, quality
from market.spec import Label
from market.storage import Folder

Status = Literal["done", "already done", "running elsewhere", "stopped"]
Report = Callable[[str, int, int], None]

_LEASE = "nightly"
_IMPORTED = "nightly/imported.json"
_OWN_KEYS = frozenset({"store", "out", "as_of", "store_version"})


class ImportSettings(BaseModel):
    """How files of the drop folder are to be read; what is missing is inferred."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    venue: str | None = None
    freq: str | None = None
    tz: str | None = None
    label: Label | None = None
    columns: dict[str, str] = {}
    """Field to column name, e.g. close: Px."""
    price_basis: str | None = None
    on_conflict: Literal["error", "keep", "replace"] = "error"
    """What happens when a bar differs from the stored one."""


class NightlySettings(BaseModel):
    """A whole night in one file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    drop: Path
    """Folder where new files of bars arrive."""
    store: Path
    """Folder of the history lake; made when missing."""
    out: Place
    """Folder or URL of the forecast table; made when missing."""
    reports: Path
    """Folder for the HTML report and the JSON summary of each night."""
    as_of: str | None = None
    """Date to forecast from; the newest session without."""
    bars: ImportSettings = ImportSettings()
    """How the files are read."""
    gate: GateSettings = GateSettings()
    """When to stop before forecasting."""
    forecast: dict[str, Any] = Field(default_factory=dict)
    """Settings of `candlecast forecast`, except store, out and as_of."""

    def forecast_settings(self, as_of: AsOf, version: str) -> ForecastSettings:
        """Raises ConfigError for keys that a night sets itself or that nobody knows."""
        clash = sorted(_OWN_KEYS & set(self.forecast))
        if clash:
            raise ConfigError(f"forecast: {clash[0]}: set by the night itself; leave it out")
        from cluster.settings import load_settings

        own = {
            "store": self.store,
            "out": self.out,
            "as_of": str(as_of.session),
            "store_version": version,
        }
        return load_settings(None, ForecastSettings, {**self.forecast, **own})


@dataclass(frozen=True)
class NightReport:
    """What one call of nightly found or did."""

    status: Status
    started_at: datetime
    seconds: float
    stop: str | None = None
    """Why nothing was forecast."""
    quality: Quality | None = None
    new_bars: int = 0
    new_quarantine: int = 0
    files: int = 0
    store_version: str | None = None
    forecast: ForecastReport | None = None
    page: Path | None = None

    def summary(self) -> dict[str, Any]:
        """For monitoring: flat, JSON-ready; the same keys whatever happened."""
        seen, made = self.quality, self.forecast
        record = made.record if made else None
        return {
            "status": self.status,
            "stop": self.stop,
            "as_of": None if seen is None else str(seen.as_of.session),
            "started_at": self.started_at.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "run_id": record.run_id if record else None,
            "model": record.model if record else None,
            "forecasts": record.n_forecasts if record else 0,
            "failed": sum(len(note.symbols) for note in record.failed) if record else 0,
            "excluded": sum(len(note.symbols) for note in record.skipped) if record else 0,
            "symbols_present": seen.present if seen else None,
            "symbols_missing": len(seen.missing) if seen else None,
            "rows_quarantined": seen.quarantined if seen else None,
            "files_imported": self.files,
            "new_bars": self.new_bars,
            "new_quarantined_rows": self.new_quarantine,
            "store_version": self.store_version,
            "utilisation": round(made.activity.utilisation(made.replicas), 4)
            if made and made.activity
            else None,
            "stage_seconds": {k: round(v, 3) for k, v in made.seconds.items()} if made else {},
        }


def run_nightly(
    settings: NightlySettings, report: Report = lambda stage, done, total: None
) -> NightReport:
    """One night, safe to repeat and to race.

    Another one at work on the same table is waited for (forecast: wait_for_other_s). Raises
    CandlecastError for input that cannot be read; bars that fail the gate end as "stopped".
    """
    started, begun = datetime.now(UTC), time.monotonic()
    table = ForecastTable(settings.out)
    wait_s = float(settings.forecast.get("wait_for_other_s", 600.0))
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(hold(table.leases, _LEASE))
                break
            except LeaseHeldError as held:
                if time.monotonic() - begun >= wait_s:
                    return NightReport(
                        "running elsewhere", started, time.monotonic() - begun, str(held.holder)
                    )
                report("wait", 0, 0)
                time.sleep(1.0)
        found = _night(settings, table, started, begun, report)
        return _reported(settings, found)


def _night(
    settings: NightlySettings,
    table: ForecastTable,
    started: datetime,
    begun: float,
    report: Report,
) -> NightReport:
    report("import", 0, 0)
    files, bars, rejected = _import(settings, table.folder)
    history = MarketHistory.open(settings.store)
    sessions = history.sessions()
    if not sessions:
        raise StoreError(f"{settings.store}: holds no bars; put files into {settings.drop}")
    as_of = history.resolve_as_of(settings.as_of or sessions[-1])
    forecast = settings.forecast_settings(as_of, history.version)
    seen = quality(history, as_of)
    objections = seen.objections(settings.gate)

    def night(status: Status, **more: Any) -> NightReport:
        return NightReport(
            status,
            started,
            time.monotonic() - begun,
            quality=seen,
            new_bars=bars,
            new_quarantine=rejected,
            files=files,
            store_version=history.version,
            **more,
        )

    if objections:
        return night("stopped", stop="; ".join(objections))
    try:
        made = run_forecast(forecast, report)
    except LeaseHeldError as held:
        return night("running elsewhere", stop=str(held.holder))
    return night("already done" if made.already_done else "done", forecast=made)


def _import(settings: NightlySettings, out: Folder) -> tuple[int, int, int]:
    """Files of the drop folder that were not imported yet: how many, new bars, rejected rows."""
    if not settings.drop.is_dir():
        raise ConfigError(f"drop: {settings.drop}: no such folder; make it, or name another")
    try:
        known: dict[str, Any] = json.loads(out.read(_IMPORTED))
    except (FileNotFoundError, ValueError):
        known = {}
    there = {}
    for path in sorted(settings.drop.iterdir()):
        if path.is_file() and path.suffix.lower() in (".csv", ".parquet", ".pq", ".txt", ".tsv"):
            stat = path.stat()
            there[path.name] = [stat.st_size, stat.st_mtime_ns]
    if current_version(settings.store.resolve()) is None:
        known = {}  # the store was lost or is new: everything counts again
    fresh = [settings.drop / name for name, mark in there.items() if known.get(name) != mark]
    if not fresh:
        return 0, 0, 0
    given = settings.bars
    done = import_files(
        find_files(fresh),
        settings.store,
        ImportOptions(
            venue=given.venue,
            freq=given.freq,
            tz=given.tz,
            label=given.label,
            columns=given.columns,
            price_basis=given.price_basis,
        ),
        on_conflict=given.on_conflict,
    )
    out.write(_IMPORTED, json.dumps(there, indent=1).encode())
    return len(fresh), done.new_bars, sum(done.quarantined.values())


def _reported(settings: NightlySettings, night: NightReport) -> NightReport:
    """Write the summary, and the page of a night that did or stopped something."""
    from dataclasses import replace

    from cluster.night_page import night_page

    folder = Folder(settings.reports)
    content = json.dumps(night.summary(), indent=1).encode()
    folder.write("last.json", content)
    if night.quality is None or folder.path is None:
        return night
    name = str(night.quality.as_of.session)
    page = folder.path / f"{name}.html"
    if night.status in ("done", "stopped") or not page.exists():
        folder.write(f"{name}.html", night_page(settings, night).encode())
        folder.write(f"{name}.json", content)
    return replace(night, page=page)
