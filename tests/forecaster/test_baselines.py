"""Baselines as a user meets them: legal bars, stated volatility, noise of their own."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

from forecaster import Forecaster, SamplingParams, WindowBatch
from forecaster.baselines import BASELINES
from forecaster.baselines.gaussian import ewma_variance
from forecaster.baselines.volatility import day_pattern
from forecaster.repair import repair
from market.errors import ConfigError, ForecastInputError

from .conftest import random_windows

DRIFTLESS = sorted(set(BASELINES) - {"bootstrap", "drift", "linear"})


def sample(name: str, windows: WindowBatch, n_paths: int = 400) -> np.ndarray:
    """Bars (B, S, H, F), float64."""
    made = BASELINES[name]().sample_paths(
        windows, n_paths=n_paths, sampling=SamplingParams(), seed=2
    )
    return made.values_BSHF.astype(np.float64)


def with_closes(close_BL: np.ndarray, horizon: int, minutes: int = 1440) -> WindowBatch:
    """Windows of given closes, with small bodies and wicks."""
    count, lookback = close_BL.shape
    windows = random_windows(count, lookback, horizon)
    values = windows.values_BLF.copy()
    open_ = np.concatenate((close_BL[:, :1], close_BL[:, :-1]), axis=1)
    values[..., 0], values[..., 3] = open_, close_BL
    values[..., 1] = np.maximum(open_, close_BL) * 1.001
    values[..., 2] = np.minimum(open_, close_BL) / 1.001
    step = np.arange(lookback + horizon) * np.timedelta64(minutes, "m")
    times = np.broadcast_to(np.datetime64("2024-01-01T00:00", "us") + step, (count, len(step)))
    return dataclasses.replace(
        windows, values_BLF=values, timestamps_BL=times[:, :lookback],
        future_BH=times[:, lookback:],
    )  # fmt: skip


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_samples_legal_bars_from_the_last_close(name: str) -> None:
    baseline = BASELINES[name]()
    assert isinstance(baseline, Forecaster)
    windows = random_windows(3, 120, 10)
    paths = baseline.sample_paths(windows, n_paths=400, sampling=SamplingParams(), seed=2)
    assert paths.values_BSHF.shape == (3, 400, 10, 6)
    _, changed = repair(paths.values_BSHF, paths.last_close_B)
    assert not changed.any()
    alone = baseline.sample_paths(
        windows.rows(np.array([1])), n_paths=400, sampling=SamplingParams(), seed=2
    )
    assert np.array_equal(alone.values_BSHF[0], paths.values_BSHF[1])
    log_return = np.log(paths.values_BSHF[..., 3] / paths.last_close_B[:, None, None])
    step = np.diff(np.log(windows.values_BLF[..., 3]), axis=1).std(axis=1)
    np.testing.assert_allclose(log_return[..., 0].std(axis=1), step, rtol=0.4)
    np.testing.assert_allclose(log_return[..., -1].std(axis=1), step * np.sqrt(10), rtol=0.4)
    if name in DRIFTLESS:
        assert (abs(log_return[..., -1].mean(axis=1)) < 5 * step * np.sqrt(10 / 400)).all()


@pytest.mark.parametrize("name", BASELINES)
def test_a_market_that_never_moves_is_forecast_as_one(name: str) -> None:
    windows = with_closes(np.full((1, 60), 7.0), 5)
    assert np.isfinite(sample(name, windows, 20)).all()
    np.testing.assert_allclose(sample(name, windows, 20)[..., 3], 7.0, rtol=1e-6)


@pytest.mark.parametrize("name", ["fhs", "ewma", "garch"])
def test_volatility_follows_the_market(name: str) -> None:
    rng = np.random.default_rng(1)
    calm = rng.normal(0, 0.01, (1, 256))
    wild = calm.copy()
    wild[:, -20:] *= 4
    spread = [
        np.log(sample(name, with_closes(100 * np.exp(r.cumsum(axis=1)), 60))[0, :, :, 3]).std(0)
        for r in (calm, wild)
    ]
    assert spread[1][0] > 1.7 * spread[0][0]
    if name == "fhs":  # and comes back to the long run, where EWMA stays
        last_step = np.sqrt((np.diff(spread[1] ** 2)[-10:]).mean())
        assert last_step < 0.75 * spread[1][0]


def test_ewma_is_known_before_each_return() -> None:
    returns = np.array([0.01, -0.03, 0.02])
    variance = ewma_variance(returns, 0.9)
    changed = ewma_variance(np.array([0.01, -0.03, 9.0]), 0.9)
    assert variance[1] == pytest.approx(0.9 * (returns**2).mean() + 0.1 * 0.01**2)
    assert len(variance) == 4
    assert changed[3] > 100 * variance[3]


def test_the_day_has_its_pattern_and_the_night_its_own_slot() -> None:
    """Six slots a day: the first carries the night, the fourth is calm."""
    rng = np.random.default_rng(3)
    sigma = np.array([5.0, 1, 1, 1, 1, 1])
    returns = (rng.normal(0, 0.001, (40, 6)) * sigma).reshape(-1)
    times = np.datetime64("2024-01-01T10:00", "us") + (
        np.arange(40)[:, None] * np.timedelta64(1, "D") + np.arange(6) * np.timedelta64(5, "m")
    )
    labels = np.concatenate(([times[0, 0] - np.timedelta64(1, "D")], times.reshape(-1)))
    future = times[-1] + np.timedelta64(1, "D")
    _, factor_H = day_pattern(labels, returns, future)
    assert factor_H[0] > 3 * factor_H[1:].max()
    assert np.ptp(factor_H[1:]) < 0.1
    few = labels[:7]
    assert (day_pattern(few, returns[:6], future)[1] == 1).all(), "one day knows no pattern"
    daily = np.datetime64("2024-01-01", "us") + np.arange(30) * np.timedelta64(1, "D")
    past, coming = day_pattern(daily[:20], returns[:19], daily[20:])
    assert (past == 1).all()
    assert (coming == 1).all()


def test_autoregression_finds_what_is_there_and_little_where_there_is_nothing() -> None:
    rng = np.random.default_rng(5)
    returns = np.zeros(600)
    for t in range(1, 600):
        returns[t] = -0.5 * returns[t - 1] + rng.normal(0, 0.01)
    returns[-1] = 0.04
    mean = np.log(sample("linear", with_closes(100 * np.exp(returns.cumsum())[None], 2), 2000))
    first = mean[0, :, 0, 3].mean() - np.log(100) - returns.sum()
    assert first == pytest.approx(-0.02, abs=0.004)


def test_garch_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arch", None)
    with pytest.raises(ConfigError, match=r"candlecast\[garch\]"):
        sample("garch", random_windows(1, 60, 2), 4)


def test_a_lookback_too_short_is_named() -> None:
    with pytest.raises(ForecastInputError, match="needs at least 30 bars, got 20"):
        sample("garch", random_windows(1, 20, 2), 4)
