"""A small market as frames, and folders full of other people's files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from market.synthetic import SimulatorParams, simulate_market

CLASHING = ("market", "forecaster", "backtest", "cluster")


@pytest.fixture(scope="session")
def bars() -> pl.DataFrame:
    """Some symbols over 160 sessions, one of them too young for a lookback of 64."""
    made = simulate_market(SimulatorParams(seed=11, n_symbols=8, n_sessions=160))
    symbols = made["symbol"].unique().sort()
    whole = [name for (name,), part in made.group_by("symbol") if part.height == 160]
    young = sorted(whole)[-1]
    late = made["timestamp"].unique().sort()[120]
    assert len(symbols) > 4
    return made.filter(
        pl.col("symbol").is_in(whole) & ((pl.col("symbol") != young) | (pl.col("timestamp") > late))
    ).sort("symbol", "timestamp")


@pytest.fixture(scope="session")
def scores(bars: pl.DataFrame) -> pl.DataFrame:
    """Twenty-bar returns on Fridays."""
    return (
        bars.with_columns(score=pl.col("close").pct_change(20).over("symbol"))
        .drop_nulls("score")
        .filter(pl.col("timestamp").dt.weekday() == 5)
        .select("symbol", pl.col("timestamp").dt.date().alias("date"), "score")
        .sort("date", "symbol")
    )


@pytest.fixture
def clashing(tmp_path: Path) -> Path:
    """A folder whose files have the names of our packages, and break whoever imports them."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in CLASHING:
        (folder / f"{name}.py").write_text(f"raise RuntimeError('the wrong {name}')\n")
    (folder / "candlecast").mkdir()
    return folder


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def python() -> Run:
    """Run this Python with arguments in a folder, as a user would."""

    def run(folder: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | more
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run
