"""`candlecast sweep` from a store to its pages, and a sweep on Ray."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backtest import BacktestSettings
from backtest.sweep import evaluate, plan_sweep
from backtest.sweep_grid import expand
from cluster.commands.backtest import load
from cluster.settings import load_settings
from cluster.sweep import on_ray, run_sweep
from cluster.sweep_settings import SweepRequest
from market.errors import ConfigError
from market.lake.history import MarketHistory
from tests.cluster.conftest import Outcome


def test_a_sweep_on_ray_gives_the_same_bits(store: Path, local_ray: None) -> None:
    bars = MarketHistory.open(store).scan().collect()
    points = expand({"k": [2, 3, 4], "slippage_bps": [0, 5], "fill": ["open", "close"]})
    plan = plan_sweep(BacktestSettings(momentum=20), points, bars, blocks=4)
    here = evaluate(plan)
    there = dict(on_ray(plan, [0, 5, 10], 5))
    for k in (0, 1):
        pieces = np.concatenate([there[i][k] for i in (0, 5, 10)])
        assert here[k].tobytes() == pieces.tobytes()


def test_an_interrupted_sweep_goes_on_and_says_the_same(store: Path, tmp_path: Path) -> None:
    request = SweepRequest(
        store=store, momentum=20, blocks=4, table=tmp_path / "sweep.parquet",
        grid={"k": list(range(1, 11)), "lag": [1, 2], "weighting": ["equal", "score"]},
    )  # fmt: skip
    loaded = load(request)
    whole = run_sweep(request, loaded)[1]
    assert not list((tmp_path / "sweep.pieces").glob("*.npy")), "a finished sweep keeps no pieces"

    def stop_after(first: int) -> Callable[[int, int], None]:
        def progress(done: int, total: int) -> None:
            if done > first:
                raise KeyboardInterrupt

        return progress

    with pytest.raises(KeyboardInterrupt):
        run_sweep(request, loaded, stop_after(0))
    kept = sorted((tmp_path / "sweep.pieces").glob("*.npy"))
    assert len(kept) == 1
    counts: list[int] = []
    again = run_sweep(request, loaded, lambda done, total: counts.append(done))[1]
    assert counts == [20, 40]
    assert again.table.equals(whole.table)
    assert again.overfitting.probability == whole.overfitting.probability

    with pytest.raises(KeyboardInterrupt):
        run_sweep(request, loaded, stop_after(0))
    kept[0].write_bytes(kept[0].read_bytes()[:-9])
    counts.clear()
    run_sweep(request, loaded, lambda done, total: counts.append(done))
    assert counts == [0, 20, 40], "a damaged piece is made again"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(request, loaded, stop_after(0))
    other = request.model_copy(update={"seed": 1})
    counts.clear()
    run_sweep(other, loaded, lambda done, total: counts.append(done))
    assert counts[0] == 0, "another sweep's pieces are not taken"


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
