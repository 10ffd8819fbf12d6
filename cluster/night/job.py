"""One night: new bars in, a look at their quality, forecast, commit, publish, report.

Knows the order of things; prints nothing. Twice in a row does the work once; two at once do it once
and both say so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cluster.forecasting.job import run_forecast
from cluster.night.drop import Drop
from cluster.night.page import night_page
from cluster.night.report import NightReport, Status
from cluster.night.settings import NightlySettings
from cluster.night.telemetry import told
from cluster.night.trust import earlier_nights
from market.errors import StoreError
from market.importing.discover import find_files
from market.importing.files import import_files
from market.lake.history import MarketHistory
from market.lake.quality import quality
from market.lake.versions import current_version
from market.leases import LeaseHeldError, LeaseLostError, hold
from market.storage import Folder
from market.table.forecasts import ForecastTable

Report = Callable[[str, int, int], None]

_LEASE = "nightly"
_IMPORTED = "nightly/imported.json"


def run_nightly(
    settings: NightlySettings, report: Report = lambda stage, done, total: None
) -> NightReport:
    """One night, safe to repeat and to race.

    Another one at work on the same table is waited for (forecast: wait_for_other_s). Raises
    CandlecastError for input that cannot be read; bars that fail the gate end as "stopped".
    """
    with told(settings.metrics_file, settings.events_file, report) as (reporting, ended):
        night = _held(settings, reporting)
        ended(night.summary())
        return night


def _held(settings: NightlySettings, report: Report) -> NightReport:
    """The night under its lease."""
    started, begun = datetime.now(UTC), time.monotonic()
    table = ForecastTable(settings.out)
    wait_s = settings.forecast.wait_for_other_s
    try:
        with hold(
            table.leases, _LEASE, wait_s=wait_s, waiting=lambda: report("wait", 0, 0)
        ) as lease:
            night = _night(settings, table, started, begun, report, lease.require)
            lease.require()
            return _reported(settings, night)
    except (LeaseHeldError, LeaseLostError) as other:
        seconds = time.monotonic() - begun
        who = str(other.holder) if isinstance(other, LeaseHeldError) else str(other)
        return NightReport("running elsewhere", started, seconds, who)


def _night(
    settings: NightlySettings,
    table: ForecastTable,
    started: datetime,
    begun: float,
    report: Report,
    require: Callable[[], object],
) -> NightReport:
    report("import", 0, 0)
    files, bars, rejected, unread = _import(settings, table.folder)
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
            unread=unread,
            store_version=history.version,
            **more,
        )

    if objections:
        return night("stopped", stop="; ".join(objections))
    try:
        made = run_forecast(forecast, report, require)
    except LeaseHeldError as held:
        return night("running elsewhere", stop=str(held.holder))
    trust = earlier_nights(table, history, made.record.model_id, as_of)
    return night("already done" if made.already_done else "done", forecast=made, trust=trust)


def _import(settings: NightlySettings, out: Folder) -> tuple[int, int, int, tuple[str, ...]]:
    """Files of the drop folder that were not imported yet: how many, new bars, rejected rows; and
    the names of files that hold no bars as far as their name tells."""
    drop = Drop.look(settings.drop)
    try:
        known: dict[str, Any] = json.loads(out.read(_IMPORTED))
    except (FileNotFoundError, ValueError):
        known = {}
    if current_version(settings.store) is None:
        known = {}  # the store was lost or is new: everything counts again
    fresh = [name for name, mark in drop.files.items() if known.get(name) != mark]
    if not fresh:
        return 0, 0, 0, drop.unread
    given = settings.bars
    with drop.at_hand(fresh) as paths:
        done = import_files(
            find_files(paths), settings.store, given.options(), on_conflict=given.on_conflict
        )
    out.write(_IMPORTED, json.dumps(dict(drop.files), indent=1).encode())
    return len(fresh), done.new_bars, sum(done.quarantined.values()), drop.unread


def _reported(settings: NightlySettings, night: NightReport) -> NightReport:
    """Write the summary, and the page of a night that did or stopped something."""

    folder = Folder(settings.reports)
    content = json.dumps(night.summary(), indent=1).encode()
    folder.write("last.json", content)
    if night.quality is None:
        return night
    name = str(night.quality.as_of.session)
    if night.status in ("done", "stopped") or not folder.exists(f"{name}.html"):
        shown = _with_earlier(folder, name, night)
        folder.write(f"{name}.html", night_page(settings, shown).encode())
        folder.write(f"{name}.json", json.dumps(shown.summary(), indent=1).encode())
    return replace(night, page=folder.at(f"{name}.html"))


def _with_earlier(folder: Folder, name: str, night: NightReport) -> NightReport:
    """The night with what earlier runs of the same session brought in: a page tells the session,
    whichever run wrote it last."""
    try:
        earlier: dict[str, Any] = json.loads(folder.read(f"{name}.json"))
        return replace(
            night,
            files=night.files + int(earlier["files_imported"]),
            new_bars=night.new_bars + int(earlier["new_bars"]),
            new_quarantine=night.new_quarantine + int(earlier["new_quarantined_rows"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return night
