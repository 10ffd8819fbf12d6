"""The demo, run as a newcomer runs it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

from market.flags import Flag
from market.table.forecasts import ForecastTable


def run_demo(out: Path) -> str:
    command = [Path(sys.executable).with_name("candlecast"), "demo", "--symbols", "12"]
    done = subprocess.run(
        [*command, "--out", out], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def assert_the_console_opens(command: str) -> None:
    """The command that the demo names last serves what the demo made."""
    program, verb, *rest = shlex.split(command)
    assert verb == "serve"
    started = subprocess.Popen(
        [program, verb, *rest, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert started.stdout is not None
        told = json.loads(started.stdout.readline())
        asked = Request(
            f"{told['address']}/api/health", headers={"Authorization": f"Bearer {told['token']}"}
        )
        with urlopen(asked, timeout=60) as answer:
            health = json.load(answer)
        assert health["status"] == "ok"
        assert health["nights"][0]["model"] == "nano"
    finally:
        started.terminate()
        assert started.wait(30) in (0, -15, 143)
        started.stdout.close()


def test_the_demo_goes_the_whole_way_and_repeats_nothing(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    first = run_demo(out)
    sheet = Path(re.findall(r"tear sheet: (.+)", first)[0])
    assert sheet == out / "tearsheet.html"
    page = sheet.read_text()
    assert "<title>candlecast demo" in page
    assert "Do the intervals know how much will move?" in page
    assert re.search(r"mean rank IC [+-]0\.\d{3} \(HAC t .+, 26 dates\)", first)
    assert "IN-SAMPLE" not in first

    steps = ForecastTable(out / "forecasts").scan().collect()
    assert steps["as_of_date"].n_unique() == 26
    assert steps["step"].max() == 20
    assert steps["n_paths"].unique().to_list() == [16]
    assert not ((steps["flags"] & int(Flag.IN_SAMPLE)) != 0).any()

    again = run_demo(out)
    assert "already done" in again
    assert_the_console_opens(again.splitlines()[-1].partition(": ")[2])
    assert ForecastTable(out / "forecasts").scan().collect().equals(steps)
