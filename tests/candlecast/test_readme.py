"""The README's Python blocks run as they stand."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import polars as pl

from market.synthetic import SimulatorParams, simulate_market
from tests.candlecast.conftest import Run

README = Path(__file__).resolve().parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_bars_to_tear_sheet(tmp_path: Path, python: Run) -> None:
    (code,) = (block for block in blocks("python") if "import candlecast as cc" in block)
    made = simulate_market(
        SimulatorParams(seed=5, n_symbols=10, start=date(2015, 1, 2), n_sessions=420)
    )
    dated = made.with_columns(
        pl.col("timestamp").dt.date(), pl.col("symbol").replace("SIM001", "AAPL")
    ).rename({"timestamp": "date"})
    dated.sort("symbol", "date").write_csv(tmp_path / "bars.csv")
    done = python(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "Sharpe" in done.stdout
    assert "<title>" in (tmp_path / "tearsheet.html").read_text()
