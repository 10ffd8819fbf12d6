"""Benchmarks and risk-free rates from outside: known when they are, and what is made of them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import polars as pl
import pytest

from backtest import BacktestResult, BacktestSettings, run_backtest
from backtest.currency import with_currency
from backtest.figures.outside import Axis, Series, benchmark_on, rates_on, symbol_series
from backtest.sweep import evaluate, plan_sweep
from backtest.sweep_grid import expand
from backtest.sweep_result import collect
from market.errors import BacktestInputError
from tests.field.backtest.helper import FREE_FLAT, bars, days, scores, walk

DAYS = days(120)
SCORES = scores(
    [(DAYS[i], s, float((i + j) % 4)) for i in range(20, 110, 5) for j, s in enumerate("ABCD")]
)
MARKET = bars({name: walk(i, 120) for i, name in enumerate("ABCD")}, DAYS)


def axis_of(labels: list[dt.datetime], days: list[dt.date]) -> Axis:
    labels_T = np.array(labels, "datetime64[us]")
    close_T = labels_T + np.timedelta64(5, "m")
    return Axis(close_T, labels_T, np.array(days, "datetime64[D]"))


def levels(dates: list[Any], values: list[float], name: str = "INDEX") -> Series:
    return Series(name, pl.DataFrame({"Date": dates, "Close": values}))


def run(**given: Any) -> BacktestResult:
    series = {name: given.pop(name) for name in ("benchmark", "rates") if name in given}
    settings = BacktestSettings(k=2, **FREE_FLAT, **given)
    return run_backtest(MARKET, None, settings, scores=SCORES, **series)


def test_a_days_level_is_known_at_its_last_bar_and_not_before() -> None:
    clock = [dt.datetime(2024, 1, day, 9, 15 + 5 * i) for day in (2, 3) for i in range(3)]
    axis = axis_of(clock, [at.date() for at in clock])
    daily = levels(["2024-01-01", "2024-01-02", "2024-01-03"], [1.0, 2.0, 3.0])
    found = benchmark_on(daily, axis)
    assert found.level_T.tolist() == [1, 1, 2, 2, 2, 3]
    assert found.own_T.tolist() == [True, False, True, False, False, True]
    instants = levels([clock[0].isoformat() + "Z", "2024-01-02T09:26:00Z"], [1.0, 2.0])
    late = Axis(axis.close_utc_T[1:], axis.labels_T[1:], axis.sessions_T[1:])
    assert benchmark_on(instants, late).level_T.tolist() == [1, 2, 2, 2, 2]


def test_later_values_change_nothing_before() -> None:
    axis = axis_of([dt.datetime(d.year, d.month, d.day) for d in DAYS], DAYS)
    rng = np.random.default_rng(0)
    at = np.sort(rng.choice(120, 70, replace=False))
    at[0] = 0
    value = 100 + rng.random(70)
    dates = [DAYS[i] for i in at]
    for cut in (1, 20, 69):
        poisoned = value.copy()
        poisoned[cut:] *= 7
        before = int(at[cut])
        for made in (
            [
                benchmark_on(levels(dates, list(v)), axis).level_T[:before]
                for v in (value, poisoned)
            ],
            [rates_on(levels(dates, list(v / 1e4)), axis)[:before] for v in (value, poisoned)],
        ):
            assert made[0].tobytes() == made[1].tobytes()


def test_figures_against_a_benchmark_with_missing_days_are_of_the_days_it_has() -> None:
    there = [i for i in range(120) if i % 7 != 3]
    level = walk(9, 120)
    given = levels([DAYS[i] for i in there], [level[i] for i in there])
    found = run(benchmark=given, risk_free=0.03)
    daily = found.strategy.daily
    first = DAYS.index(daily["timestamp"][0].date())
    kept = [i for i in there if i >= first]
    kept = kept if kept[0] == first else [first, *kept]
    equity = daily["equity"].to_numpy()[[i - first for i in kept]]
    index = np.array([level[i if i in there else i - 1] for i in kept])
    free = np.diff(kept) * 0.03 / 252
    mine, theirs = np.diff(equity) / equity[:-1], np.diff(index) / index[:-1]
    slope = np.cov(mine - free, theirs - free)[0, 1] / np.var(theirs - free, ddof=1)
    per_year = 252 * len(mine) / (kept[-1] - first)
    metrics = found.strategy.metrics
    assert metrics.beta == pytest.approx(slope)
    alpha = ((mine - free).mean() - slope * (theirs - free).mean()) * per_year
    assert metrics.alpha == pytest.approx(alpha, rel=0.02)
    assert metrics.tracking_error == pytest.approx(
        np.std(mine - theirs, ddof=1) * per_year**0.5, rel=0.02
    )
    assert [book.name for book in found.books][1] == "INDEX"
    assert any("Benchmark INDEX: no new value on" in caveat for caveat in found.caveats)
    outside = found.benchmark
    assert outside.metrics.total_return == pytest.approx(index[-1] / index[0] - 1)
    assert outside.metrics.beta == pytest.approx(1)
    assert outside.metrics.cost_drag == 0


def test_ratios_are_beyond_the_risk_free_rate() -> None:
    plain, constant = run(), run(risk_free=0.04)
    rates = Series("bills", pl.DataFrame({"date": [DAYS[0]], "rate": ["4%"]}))
    told = run(rates=rates)
    assert repr(told.strategy.metrics) == repr(constant.strategy.metrics)
    equity = plain.strategy.daily["equity"].to_numpy()
    change = np.diff(equity) / equity[:-1] - 0.04 / 252
    assert constant.strategy.metrics.sharpe == pytest.approx(
        change.mean() / change.std(ddof=1) * 252**0.5
    )
    assert plain.strategy.metrics.volatility == constant.strategy.metrics.volatility


def test_a_sweep_ranks_by_what_is_beyond_it() -> None:
    base = BacktestSettings(**FREE_FLAT, risk_free=0.04)
    plan = plan_sweep(base, expand({"k": [1, 2]}), MARKET, scores=SCORES, blocks=4)
    found = collect(plan, *evaluate(plan))
    alone = run_backtest(MARKET, None, plan.settings_at(1), scores=SCORES).strategy.metrics
    assert found.table["sharpe"][1] == pytest.approx(alone.sharpe)
    assert found.table["sortino"][1] == pytest.approx(alone.sortino)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"benchmark": levels([DAYS[40]], [1.0])}, "no level up to the first decision"),
        ({"benchmark": levels([DAYS[0]], [1.0])}, "no level after the first decision"),
        ({"benchmark": levels(DAYS[:2], [1.0, -1.0])}, "rule: above 0"),
        ({"benchmark": levels([DAYS[0]] * 2, [1.0, 2.0])}, "two values of"),
        ({"benchmark": Series("X", pl.DataFrame({"day": DAYS[:2], "a": [1, 2], "b": [1, 2]}))},
         "no column of values"),
        ({"rates": Series("X", pl.DataFrame({"date": DAYS[:1], "rate": [5.25]}))}, "a fraction"),
        ({"rates": Series("X", pl.DataFrame({"date": DAYS[60:61], "rate": [0.05]}))}, "no rate up"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(given: dict[str, Any], words: str) -> None:
    with pytest.raises(BacktestInputError, match=words) as caught:
        run(**given)
    assert "\n" not in str(caught.value)


def test_a_symbol_of_the_bars_with_its_dividends() -> None:
    price = [100.0] * 60 + [90.0] * 60
    frame = bars({"F": price}, DAYS)
    paid = pl.DataFrame(
        {"symbol": ["F"], "session": [DAYS[60]], "split": [1.0], "dividend": [10.0]}
    )
    assert np.ptp(symbol_series(frame, "F", paid).frame["close"].to_numpy()) == pytest.approx(0)
    with pytest.raises(BacktestInputError, match="neither a file nor a symbol"):
        symbol_series(frame, "G")


def test_fees_know_their_currency() -> None:
    made, said = with_currency(BacktestSettings(), "24/7", ["ETHBTC", "LTC/BTC"])
    assert (made.currency, made.costs.min_fee) == ("BTC", 0.0)
    assert "BTC" in said["fees"]
    told = with_currency(BacktestSettings(min_fee=0.001), None, ["ETHBTC"])[0]
    assert told.costs.min_fee == 0.001
    for venue, symbols, currency in (
        ("XSHG", ["600519.SH"], "CNY"),
        ("24/7", ["ETHBTC", "ETHUSDT"], None),
        (None, ["AAPL"], None),
    ):
        kept, said = with_currency(BacktestSettings(), venue, symbols)
        assert (kept.currency, kept.costs.min_fee, said) == (currency, 1.0, {})
