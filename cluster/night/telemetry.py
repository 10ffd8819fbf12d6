"""What a night tells other programs: events as lines of JSON, figures as a Prometheus text file.

Knows files and formats; of a night its summary and the names of its stages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from market.secrets import hidden
from market.storage import Folder, writing

Report = Callable[[str, int, int], None]

_FIGURES = {
    "seconds": "Seconds the night took.",
    "forecasts": "Series forecast.",
    "failed": "Eligible series whose forecast failed.",
    "excluded": "Series that were not eligible.",
    "symbols_present": "Symbols with a bar in the night's session.",
    "symbols_missing": "Symbols of the session before without one.",
    "rows_quarantined": "Rows of the session in quarantine.",
    "files_imported": "Files imported from the drop folder.",
    "new_bars": "Bars that were new.",
    "utilisation": "Share of replica seconds spent computing.",
    "coverage_80": "Share of outcomes inside the 80% interval, of earlier nights.",
    "drift_alarm": "1 where that coverage has drifted.",
}
_ENDINGS = ("done", "already done", "running elsewhere", "stopped", "error")


def metrics(summary: Mapping[str, Any], now: datetime) -> str:
    """A night's summary in Prometheus' text format (version 0.0.4); null figures are left out."""
    lines: list[str] = []

    def family(name: str, told: str, samples: Mapping[str, float]) -> None:
        if samples:
            lines.append(f"# HELP candlecast_night_{name} {told}")
            lines.append(f"# TYPE candlecast_night_{name} gauge")
            lines.extend(f"candlecast_night_{name}{label} {v:.17g}" for label, v in samples.items())

    ended = {_label("status", each): float(summary["status"] == each) for each in _ENDINGS}
    family("status", "1 for how the last call ended.", ended)
    family("last_run_timestamp_seconds", "When it ended.", {"": now.timestamp()})
    for name, told in _FIGURES.items():
        value = summary.get(name)
        family(name, told, {} if value is None else {"": float(value)})
    stages = {_label("stage", k): float(v) for k, v in summary.get("stage_seconds", {}).items()}
    family("stage_seconds", "Seconds of each stage of the forecast.", stages)
    return "\n".join(lines) + "\n"


@contextmanager
def told(
    metrics_file: Path | None, events_file: Path | None, report: Report
) -> Iterator[tuple[Report, Callable[[Mapping[str, Any]], None]]]:
    """A progress report that writes an event at every stage, and a call for the night's summary.

    A night that ends in an error is told, too. Raises StoreError where a file cannot be written.
    """
    stage_before: str | None = None

    def event(kind: str, **more: Any) -> None:
        if events_file is None:
            return
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": kind, **more}
        with writing(events_file):
            events_file.parent.mkdir(parents=True, exist_ok=True)
            with events_file.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def reporting(stage: str, done: int, total: int) -> None:
        nonlocal stage_before
        if stage != stage_before:
            event("stage", stage=stage, done=done, total=total)
        stage_before = stage
        report(stage, done, total)

    def ended(summary: Mapping[str, Any]) -> None:
        event("night", **summary)
        if metrics_file is not None:
            content = metrics(summary, datetime.now(UTC)).encode()
            Folder(metrics_file.absolute().parent).write(metrics_file.name, content)

    event("begin")
    try:
        yield reporting, ended
    except Exception as error:
        ended({"status": "error", "error": hidden(" ".join(str(error).split()))[:600]})
        raise


def _label(name: str, value: str) -> str:
    escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'{{{name}="{escaped}"}}'
