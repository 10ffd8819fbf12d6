"""`candlecast sweep` from a store to its pages, and a sweep on Ray."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backtest import BacktestSettings
from backtest.sweep import SweepPlan, evaluate, expand, plan_sweep
from cluster.settings import load_settings
from cluster.sweep import on_ray
from cluster.sweep_settings import SweepRequest
from market.errors import ConfigError
from market.lake.history import MarketHistory
from tests.cluster.conftest import Outcome


def test_a_sweep_on_ray_gives_the_same_bits(store: Path, local_ray: None) -> None:
    bars = MarketHistory.open(store).scan().collect()
    points = expand({"k": [2, 3, 4], "slippage_bps": [0, 5], "fill": ["open", "close"]})
    plan: SweepPlan = plan_sweep(BacktestSettings(momentum=20), points, bars, blocks=4)
    here = [evaluate(plan, part) for part in plan.parts]
    there = on_ray(plan, chunk=4)
    for ours, theirs in zip(here, there, strict=True):
        assert [a.tobytes() for a in ours] == [np.ascontiguousarray(b).tobytes() for b in theirs]


def test_the_command_writes_table_page_and_tear_sheet(
    candlecast: Callable[..., Outcome], store: Path, tmp_path: Path
) -> None:
    config = tmp_path / "sweep.yaml"
    config.write_text(
        f"store: {store}\nmomentum: 20\ntrials: 11\nblocks: 4\n"
        "grid:\n  k: [2, 3]\n  momentum: [10, 30]\n  rebalance: [weekly, 3]\n"
    )
    made = candlecast(
        "sweep", "--config", config, "--page", tmp_path / "s.html",
        "--table", tmp_path / "s.csv", "--report", tmp_path / "t.html", "--set", "cash=50000",
    )  # fmt: skip
    assert made.code == 0, made.err
    for words in ("best of 18 trials", "deflated Sharpe of the best", "overfitting", "8 combinat"):
        assert words in made.out
    table = pl.read_csv(tmp_path / "s.csv")
    assert table.height == 8
    assert {"k", "momentum", "rebalance", "sharpe", "turnover"} <= set(table.columns)
    assert "18 trials" in (tmp_path / "s.html").read_text()
    sheet = (tmp_path / "t.html").read_text()
    assert "the best of 18" in sheet
    assert "Trials: 18 stated" in sheet


def test_bad_sweeps_are_one_line(
    candlecast: Callable[..., Outcome], store: Path, tmp_path: Path
) -> None:
    given = ("sweep", "--store", store, "--momentum", 20)
    for extra, message in (
        ((), "--set grid is missing"),
        (("--set", "grid={k: [1, 2]}", "--set", "compat=vectorbt"), "compat: a sweep runs by our"),
        (("--set", "grid={colour: [1, 2]}"), "grid: colour: a sweep cannot vary it"),
        (("--set", "grid"), "--set grid: expected key=value"),
        (
            ("--set", "grid={k: [1, 2]}", "--set", "bloks=4"),
            "--set bloks: unknown key; did you mean blocks?",
        ),
    ):
        made = candlecast(*given, *extra)
        assert made.code == 2
        assert message in made.err
        assert made.err.count("\n") == 1


def test_the_shipped_config_is_valid() -> None:
    shipped = Path(__file__).parents[2] / "configs" / "sweep.yaml"
    request = load_settings(shipped, SweepRequest, {"store": "s", "momentum": 126})
    assert len(expand(request.grid)) == 24, "costs are assumptions and not in the grid"
    with pytest.raises(ConfigError, match="--store is missing"):
        load_settings(shipped, SweepRequest, {"momentum": 126})
