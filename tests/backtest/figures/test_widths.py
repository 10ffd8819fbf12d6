"""Whether wide intervals are followed by large moves."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from backtest.figures.widths import GROUPS, LEAST_FORECASTS, interval_widths


def forecasts(n: int, told: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Normal returns of volatilities from 1 to 5 %; told: the intervals are of the right ones."""
    rng = np.random.default_rng(5)
    volatility = np.linspace(0.01, 0.05, n)
    known = volatility if told else rng.permutation(volatility)
    as_of = [datetime(2020, 1, 1) + timedelta(days=k) for k in range(n)]
    keys = {"as_of": as_of, "symbol": ["A"] * n}
    rows = pl.DataFrame(
        keys
        | {
            "step": [2] * n,
            "last_close": [50.0] * n,
            "close_q05": 50.0 * np.exp(-1.645 * known),
            "close_q95": 50.0 * np.exp(1.645 * known),
        }
    )
    happened = np.expm1(rng.standard_normal(n) * volatility)
    return rows, pl.DataFrame(keys | {"realised": happened})


def test_intervals_that_know_the_volatility_say_so() -> None:
    groups = interval_widths(*forecasts(5000, told=True), horizon=2)
    assert [group.forecasts for group in groups] == [1000] * GROUPS
    for group in groups:
        assert group.realised == pytest.approx(group.expected, rel=0.1)
        assert group.inside == pytest.approx(0.9, abs=0.03)


def test_intervals_that_do_not_know_it_say_so_too() -> None:
    groups = interval_widths(*forecasts(5000, told=False), horizon=2)
    assert groups[-1].expected > 2 * groups[0].expected
    assert groups[-1].realised < 1.2 * groups[0].realised


def test_few_forecasts_say_nothing() -> None:
    assert interval_widths(*forecasts(LEAST_FORECASTS - 1, told=True), horizon=2) == ()
    assert interval_widths(*forecasts(500, told=True), horizon=3) == ()
