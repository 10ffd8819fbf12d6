"""What a night tells other programs: figures for Prometheus, events as lines of JSON."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cluster.night.drop import Drop
from cluster.night.job import run_nightly
from cluster.night.settings import NightlySettings
from cluster.night.telemetry import metrics, told
from market.errors import ConfigError
from market.storage import Folder

SAMPLE = re.compile(r'[a-z_0-9]+(\{[a-z]+="(?:[^"\\\n]|\\["\\n])*"\})? [-+0-9.e]+')


def samples(text: str) -> dict[str, float]:
    """Of Prometheus' text format; fails on a line that is none, or on a name without a type."""
    found, typed = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            typed.add(line.split()[2])
        elif not line.startswith("#"):
            assert SAMPLE.fullmatch(line), line
            name, value = line.rsplit(" ", 1)
            assert name.split("{")[0] in typed
            found[name] = float(value)
    return found


def test_a_summary_becomes_figures() -> None:
    summary: dict[str, Any] = {
        "status": "done", "seconds": 12.5, "forecasts": 490, "utilisation": None,
        "drift_alarm": True, "stage_seconds": {"plan": 1.25, 'odd"\\\n': 2},
    }  # fmt: skip
    text = metrics(summary, datetime(2026, 1, 2, tzinfo=UTC))
    found = samples(text)
    assert text.endswith("\n")
    assert found['candlecast_night_status{status="done"}'] == 1
    assert sum(v for name, v in found.items() if "night_status{" in name) == 1
    assert found["candlecast_night_seconds"] == 12.5
    assert found["candlecast_night_drift_alarm"] == 1
    assert found['candlecast_night_stage_seconds{stage="plan"}'] == 1.25
    assert found["candlecast_night_last_run_timestamp_seconds"] == 1767312000
    assert not any("utilisation" in name for name in found)


def test_a_night_that_fails_is_told_without_its_secrets(tmp_path: Path) -> None:
    figures, events = tmp_path / "m" / "night.prom", tmp_path / "e" / "night.jsonl"
    settings = NightlySettings(
        drop=tmp_path / "nowhere", store=tmp_path / "store", out=tmp_path / "out",
        reports=tmp_path / "reports", metrics_file=figures, events_file=events,
    )  # fmt: skip
    for _ in range(2):
        with pytest.raises(ConfigError, match="no such folder"):
            run_nightly(settings)
    assert samples(figures.read_text())['candlecast_night_status{status="error"}'] == 1
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    assert [each["event"] for each in lines] == ["begin", "stage", "night"] * 2
    assert lines[1]["stage"] == "import"
    assert "no such folder" in lines[2]["error"]

    with (
        pytest.raises(OSError, match="refused"),
        told(None, events, lambda *_: None),
    ):
        raise OSError("refused: s3://me:hunter2@host/x?token=abc")
    assert "hunter2" not in events.read_text()
    assert "token=abc" not in events.read_text()


@pytest.mark.filterwarnings("ignore")  # s3fs's own event loop and deprecations
def test_a_drop_folder_may_be_a_prefix(bucket: str, tmp_path: Path) -> None:
    here = Folder(tmp_path / "drop")
    there = Folder(f"{bucket}/drop")
    for folder in (here, there):
        folder.write("b.csv", b"b")
        folder.write("a.csv.gz", b"a")
        folder.write("notes.md", b"n")
        folder.write(".hidden.csv", b"h")
    local, remote = Drop.look(here.url), Drop.look(there.url)
    assert list(remote.files) == list(local.files) == ["a.csv.gz", "b.csv"]
    assert remote.unread == local.unread == ("notes.md",)
    for drop in (local, remote):
        with drop.at_hand(["b.csv"]) as (path,):
            assert path.name == "b.csv"
            assert path.read_bytes() == b"b"
    before = remote.files["b.csv"]
    there.write("b.csv", b"more")
    assert Drop.look(there.url).files["b.csv"] != before
