"""A short soak: something is killed in each round, and the table must not show it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("replica", "reader", "driver", "commit")


@pytest.mark.skipif(sys.platform != "linux", reason="the soak finds its victims in /proc")
def test_four_kinds_of_kill_leave_the_undisturbed_table() -> None:
    done = subprocess.run(
        [
            sys.executable, "benchmarks/soak_faults.py", "--symbols", "12", "--paths", "4",
            "--replicas", "1", "--rounds", str(len(KINDS)), "--kinds", ",".join(KINDS),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    *rounds, summary = map(json.loads, done.stdout.splitlines())
    rounds = [each for each in rounds if each["hit"]]
    assert [each["kind"] for each in rounds] == list(KINDS)
    assert all(each["polls"] for each in rounds), "a reader looked on in every round"
    assert rounds[KINDS.index("driver")]["reruns"] == 1
    assert summary["wrong"] == 0
