"""A command that is told to stop: what it says, how it ends, and that nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.exit_codes import ExitCode

Process = tuple[int, str]
"""Its number and the moment it started, which together no other process has."""


def facts(process: int) -> list[str] | None:
    """State, parent, … of /proc/PID/stat after the name; None where it is gone."""
    try:
        text = (Path("/proc") / str(process) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def family(ancestor: int) -> dict[Process, bytes]:
    """Everything a process started, with the command lines."""
    parents: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (told := facts(int(entry.name))) is not None:
            parents[int(entry.name)] = (int(told[1]), told[19])
    found: dict[Process, bytes] = {}
    for process, (parent, started) in parents.items():
        while parent in parents and parent != ancestor:
            parent = parents[parent][0]
        if parent == ancestor:
            try:
                name = (Path("/proc") / str(process) / "cmdline").read_bytes()
            except OSError:
                continue
            found[process, started] = name
    return found


def alive(process: Process) -> bool:
    told = facts(process[0])
    return told is not None and told[19] == process[1] and told[0] != "Z"


def within(seconds: float, what: str, holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, f"not within {seconds} s: {what}"
        time.sleep(0.2)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_a_forecast_told_to_stop_cleans_up(
    store: Path, dates: list[str], model: str, tmp_path: Path
) -> None:
    command = subprocess.Popen(
        [
            *(sys.executable, "-c", "from cluster.cli import main; main()", "forecast"),
            *("--store", str(store), "--as-of", dates[0], "--out", str(tmp_path / "table")),
            *("--model", model, "--lookback", "48", "--horizon", "100", "--paths", "4000"),
            *("--replicas", "1"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started: dict[Process, bytes] = {}

    def pipeline_at_work() -> bool:
        started.update(family(command.pid))
        return command.poll() is not None or any(
            b"ray::MapWorker" in name for name in started.values()
        )

    try:
        within(300, "a running pipeline", pipeline_at_work)
        assert command.poll() is None, command.communicate()
        command.send_signal(signal.SIGTERM)
        said, failed = command.communicate(timeout=120)
        assert command.returncode == ExitCode.TERMINATED, (said, failed)
        assert "what was finished is kept" in said
        assert failed == "stopped by SIGTERM\n"
        within(60, "everything gone", lambda: not any(map(alive, started)))
    finally:
        command.kill()
        command.communicate()
        for process in filter(alive, started):
            os.kill(process[0], signal.SIGKILL)
