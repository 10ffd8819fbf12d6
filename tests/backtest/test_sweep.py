"""Sweeps: the same figures as single backtests, whatever the chunks and threads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import polars as pl
import pytest

from backtest import BacktestSettings, run_backtest, sweep
from backtest.figures import metrics
from backtest.report.sweep_page import write_sweep_page
from backtest.sweep import SweepPlan, evaluate, plan_sweep
from backtest.sweep_grid import expand
from backtest.sweep_result import collect
from market.errors import ConfigError
from tests.backtest.made_up import Market, random_market, random_scores

GRID = {
    "k": [2, 4],
    "strategy": ["topk", "dropout"],
    "commission_bps": [0.0, 20.0],
    "fill": ["open", "close"],
    "rebalance": ["each", 2],
}


@pytest.fixture(scope="module")
def market() -> Market:
    return random_market(50, n_days=90, n_symbols=12)


@pytest.fixture(scope="module")
def table(market: Market) -> pl.DataFrame:
    return market.forecasts(random_scores(market, 51, range(10, 80, 5)))


@pytest.fixture(scope="module")
def plan(market: Market, table: pl.DataFrame) -> SweepPlan:
    base = BacktestSettings(cash=50_000.0, end=market.days[79], n_drop=1)
    return plan_sweep(base, expand(GRID), market.bars, forecasts=table, blocks=6)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


def test_every_point_is_the_backtest_of_its_settings(
    market: Market, table: pl.DataFrame, plan: SweepPlan
) -> None:
    result = collect(plan, *evaluate(plan))
    assert result.table.height == len(plan.points) == 32
    for i in (0, 5, 13, 31):
        single = run_backtest(market.bars, table, plan.settings_at(i))
        days = single.strategy.daily.filter(
            pl.col("timestamp").is_between(*(pl.lit(label) for label in plan.span))
        )
        row = result.table.row(i, named=True)
        assert row["final_equity"] == days["equity"][-1]
        expected = metrics.sharpe(metrics.returns(days["equity"].to_numpy()), plan.periods)
        assert row["sharpe"] == pytest.approx(expected, rel=1e-9)
        assert {key: row[key] for key in ("k", "strategy", "fill")} == {
            key: plan.points[i][key] for key in ("k", "strategy", "fill")
        }


def test_threads_and_chunks_change_nothing(
    plan: SweepPlan, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    numba.set_num_threads(1)
    alone = evaluate(plan)
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    whole = evaluate(plan)
    pieces = [evaluate(plan, slice(i, i + 3)) for i in range(0, len(plan.points), 3)]
    monkeypatch.setattr(sweep, "MOST_ENTRIES", 50)
    sparing = evaluate(plan)
    for k in (0, 1):
        assert whole[k].tobytes() == alone[k].tobytes() == sparing[k].tobytes()
        assert whole[k].tobytes() == np.concatenate([p[k] for p in pieces]).tobytes()


def test_trials_are_carried_on(market: Market, table: pl.DataFrame, plan: SweepPlan) -> None:
    evaluated = evaluate(plan)
    result = collect(plan, *evaluated, earlier_trials=968)
    assert result.trials == 1000
    few = collect(plan, *evaluated)
    assert few.deflated_sharpe > result.deflated_sharpe
    best = plan.settings_at(result.best).model_copy(
        update={"trials": 1000, "trials_variance": result.sharpe_variance}
    )
    again = run_backtest(market.bars, table, best)
    assert again.strategy.metrics.deflated_sharpe == pytest.approx(result.deflated_sharpe, abs=0.05)
    assert any("Trials: 1000" in caveat for caveat in again.caveats)


def test_random_draws_are_different_and_repeatable() -> None:
    grid = {"k": list(range(1, 51)), "min_fee": [0.0, 1.0, 2.0, 3.0]}
    drawn = expand(grid, samples=40, seed=1)
    assert len({tuple(point.items()) for point in drawn}) == 40
    assert drawn == expand(grid, samples=40, seed=1)
    assert drawn != expand(grid, samples=40, seed=2)
    assert len(expand(grid, samples=10_000)) == 200


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"recovery": [0.0, 1.0]}, "grid: recovery: a sweep cannot vary it; it can vary score"),
        ({"k": []}, "grid: k: no value"),
        ({"k": [3]}, "at least two combinations"),
    ],
)
def test_grids_that_cannot_be_are_named(grid: dict[str, list[object]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        expand(grid)


def test_a_point_out_of_range_is_named(market: Market, table: pl.DataFrame) -> None:
    points = expand({"k": [0, 3], "lag": [1, 2]})
    with pytest.raises(ConfigError, match=r"grid: strategy.k: .* \(at k 0, lag 1\)"):
        plan_sweep(BacktestSettings(), points, market.bars, forecasts=table)


def test_the_page_shows_trials_heat_and_overfitting(plan: SweepPlan, tmp_path: Path) -> None:
    result = collect(plan, *evaluate(plan), earlier_trials=5)
    page = write_sweep_page(
        result, plan, tmp_path / "deep" / "sweep.html", title="<b>T</b>", heat=("k", "fill"),
        caveats=["SUSPECTED SPLITS: <one>"],
    )  # fmt: skip
    text = page.read_text(encoding="utf-8")
    for words in ("37 trials", "Deflated Sharpe", "Overfitting", 'id="plot-heat"', "20 splits",
                  "SUSPECTED SPLITS: &lt;one&gt;"):  # fmt: skip
        assert words in text
    assert "<b>T</b>" not in text
    with pytest.raises(ConfigError, match="heat: lot: the sweep varies k"):
        write_sweep_page(result, plan, page, title="x", heat=("lot", "k"))
    one = dataclasses.replace(result, varied=("k",))
    assert 'id="plot-heat"' not in write_sweep_page(one, plan, page, title="x").read_text()
