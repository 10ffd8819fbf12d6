"""Figures that were once wrong: annualisation, overfitting, unread settings, vectorbt's year."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest

from backtest import BacktestSettings
from backtest.figures.metrics import bars_per_year, returns, sharpe
from backtest.figures.overfitting import block_sums, probability_of_overfitting
from backtest.fills.costs import Costs
from backtest.fills.simulate import simulate
from backtest.sweep import evaluate, plan_sweep
from backtest.sweep_grid import expand
from backtest.sweep_result import SweepResult, collect
from backtest.vectorbt_bridge import to_vectorbt
from backtest.weights.view import View
from market.errors import BacktestInputError, ConfigError
from tests.field.backtest.helper import FREE_FLAT, bars, days, scores, table, targets, walk


def labels(sessions: list[dt.date], step: int, count: int) -> np.ndarray:
    start = [
        dt.datetime(day.year, day.month, day.day, 0 if step * count == 1440 else 9)
        for day in sessions
    ]
    times = [at + dt.timedelta(minutes=step * i) for at in start for i in range(count)]
    return np.array(times, "datetime64[us]")


@pytest.mark.parametrize("sessions", [1, 5, 10, 63])
def test_bars_of_five_minutes(sessions: int) -> None:
    assert bars_per_year(labels(days(sessions, "2024-01-01"), 5, 75)) == 252 * 75


@pytest.mark.parametrize("sessions", [2, 5, 10, 15, 300])
def test_days_of_a_market_with_weekends(sessions: int) -> None:
    assert bars_per_year(np.array(days(sessions, "2024-01-01"), "datetime64[us]")) == 252


def test_markets_that_never_close_weeks_and_months() -> None:
    every = [dt.date(2024, 1, 1) + dt.timedelta(i) for i in range(40)]
    assert bars_per_year(np.array(every, "datetime64[us]")) == 365
    assert bars_per_year(labels(every[:20], 60, 24)) == 365 * 24
    assert bars_per_year(labels(every[:3], 60, 24)) == 365 * 24
    weeks = np.array(
        [dt.date(2024, 1, 5) + dt.timedelta(7 * i) for i in range(3)], "datetime64[us]"
    )
    assert bars_per_year(weeks) == 52
    months = np.array([f"2024-{m:02d}-28" for m in range(1, 8)], "datetime64[us]")
    assert bars_per_year(months) == 12
    assert bars_per_year(labels(days(9), 5, 48), sessions_per_year=243) == 48 * 243


def test_sessions_that_were_cut_or_never_end() -> None:
    clock = [dt.datetime(2024, 1, 2, 17, 5) + dt.timedelta(minutes=5 * i) for i in range(240)]
    assert bars_per_year(np.array(clock, "datetime64[us]")) == 365 * 288, "on through a midnight"
    hours = [dt.datetime(2024, 1, 2, 10) + dt.timedelta(hours=i) for i in range(28)]
    assert bars_per_year(np.array(hours, "datetime64[us]")) == 365 * 24
    before, half, after = days(3, "2023-11-22")
    short = [labels([day], 5, 42 if day == half else 78) for day in (before, half, after)]
    assert bars_per_year(np.concatenate(short)) == 252 * 78, "the middle one closed early"
    sundays = [dt.date(2024, 1, 7) + dt.timedelta(i) for i in range(12)]
    sundays = [day for day in sundays if day.weekday() not in (4, 5)]
    assert bars_per_year(np.array(sundays, "datetime64[us]")) == 252, "Sunday to Thursday"


@pytest.mark.parametrize(("dates", "year"), [((3, 6, 9), 4), ((1, 2), 12)])
def test_few_quarters_and_months(dates: tuple[int, ...], year: int) -> None:
    ends = np.array([f"2024-{month:02d}-28" for month in dates], "datetime64[us]")
    assert bars_per_year(ends) == year


def pbo(return_TC: np.ndarray) -> float:
    return probability_of_overfitting(*block_sums(return_TC, 8)).probability


def test_identical_and_idle_configurations_tell_nothing_of_overfitting() -> None:
    one = np.random.default_rng(3).normal(0, 0.01, (96, 1))
    assert pbo(np.repeat(one, 4, axis=1)) == 0.5
    assert pbo(np.zeros((96, 3))) == 0.5


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_noise_is_overfitted_half_the_time(count: int) -> None:
    rng = np.random.default_rng(0)
    found = [pbo(rng.normal(0, 0.01, (96, count))) for _ in range(120)]
    assert float(np.mean(found)) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("idle", [1, 3])
def test_configurations_in_cash_are_neither_best_nor_worst(idle: int) -> None:
    rng = np.random.default_rng(0)
    cash = np.zeros((96, idle))
    found = [pbo(np.hstack([rng.normal(0, 0.01, (96, 3)), cash])) for _ in range(120)]
    assert float(np.mean(found)) == pytest.approx(0.5, abs=0.08)


def lowest(view: View) -> dict[str, float]:
    closes = view.closes(1)[0]
    return {view.symbols[int(np.nanargmin(closes))]: 1.0}


def run_sweep(grid: dict[str, list[Any]], **base_settings: Any) -> SweepResult:
    n, day = 120, days(120)
    rng = np.random.default_rng(2)
    frame = bars({name: walk(i, n, drift=0.001) for i, name in enumerate("ABCDEFGHIJ")}, day)
    own = scores(
        [(day[i], s, float(rng.normal())) for i in range(60, 110, 5) for s in "ABCDEFGHIJ"]
    )
    base = BacktestSettings(**({"k": 3, **FREE_FLAT} | base_settings))
    plan = plan_sweep(base, expand(grid), frame, scores=own, blocks=4)
    return collect(plan, *evaluate(plan))


@pytest.mark.parametrize(
    ("grid", "key"),
    [
        ({"momentum": [5, 20, 40]}, "momentum"),
        ({"strategy": ["topk"], "n_drop": [1, 2, 3, 4]}, "n_drop"),
        ({"score": ["p_up", "volatility"]}, "score"),
        ({"horizon": [1, 2]}, "horizon"),
        ({"strategy": ["topk", "dropout"], "enter": [0.0, 0.1]}, "enter"),
        ({"maintenance": [0.0, 0.3]}, "maintenance"),
        ({"borrow_bps": [0.0, 30.0]}, "borrow_bps"),
        ({"strategy.n_drop": [1, 2]}, "strategy.n_drop"),
        ({"strategy": ["kelly"], "weighting": ["equal", "score"]}, "weighting"),
        ({"plugin": ["tests.field.backtest.test_figures:lowest"], "k": [2, 3]}, "k"),
    ],
)
def test_a_sweep_refuses_what_nobody_reads(grid: dict[str, list[Any]], key: str) -> None:
    with pytest.raises(ConfigError, match=f"grid: {key}: no combination reads it"):
        run_sweep(grid)


def test_identical_and_idle_points_are_no_trials() -> None:
    found = run_sweep({"strategy": ["topk", "dropout"], "n_drop": [1, 2, 3]})
    assert found.identical >= 2, "topk does not read n_drop"
    assert found.trials + found.identical == found.table.height == 6
    found = run_sweep({"strategy": ["threshold"], "enter": [0.0, 50.0, 60.0]})
    assert (found.idle, found.trials) == (2, 1)
    assert np.isnan(found.overfitting.probability)


def test_another_starting_cash_is_no_other_strategy() -> None:
    assert run_sweep({"cash": [1e4, 1e6, 3e7]}).trials == 1


def test_a_sweep_asks_its_plug_in() -> None:
    plugin = "tests.field.backtest.test_figures:lowest"
    found = run_sweep({"lag": [1, 2]}, plugin=plugin)
    assert found.table["turnover"].min() < run_sweep({"lag": [1, 2]}).table["turnover"].min()
    with pytest.raises(BacktestInputError, match="give --groups"):
        run_sweep({"max_group": [0.1, 0.5]})


@pytest.mark.parametrize("kind", ["daily", "weekly", "monthly", "hourly"])
def test_vectorbts_year_is_ours(kind: str) -> None:
    start = dt.datetime(2020, 1, 3)
    made_up: dict[str, list[Any]] = {
        "daily": days(252),
        "weekly": [start.date() + dt.timedelta(7 * i) for i in range(150)],
        "monthly": [dt.date(2010 + i // 12, i % 12 + 1, 28) for i in range(60)],
        "hourly": [start + dt.timedelta(hours=i) for i in range(960)],
    }
    dates = made_up[kind]
    n = len(dates)
    prices = table(bars({x: walk(i, n, drift=0.001) for i, x in enumerate("AB")}, dates), gap=99)
    plan = targets(prices, [(0, {"A": 0.5, "B": 0.5})])
    costs = Costs(commission_bps=5, min_fee=0, slippage_bps=5)
    made = simulate(plan, prices, costs, cash=10000, first_row=0, last_row=n - 1)
    ours = sharpe(returns(made.daily["equity"].to_numpy()), bars_per_year(prices.labels_T))
    portfolio = to_vectorbt(made, prices)
    assert float(portfolio.sharpe_ratio()) == pytest.approx(ours, rel=1 / n**0.5)
    spanned = (portfolio.wrapper.freq * n).days
    assert spanned == pytest.approx((dates[-1] - dates[0]).days, rel=0.05)
