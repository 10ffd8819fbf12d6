"""Bars as returns: the transform, its inverse, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecaster.features import code_windows
from forecaster.repair import repair
from forecaster.returns import START, Returns, mirrored
from market.fields import FEATURES
from market.processes import DAILY, SESSIONS, Session, simulate_processes

Array = npt.NDArray[np.float64]
OPEN, HIGH, LOW, CLOSE, VOLUME, AMOUNT = range(len(FEATURES))
LOOKBACK, HORIZON = 60, 16
LENGTH = LOOKBACK + HORIZON


def windows(seed: int = 7, count: int = 6, session: Session = DAILY) -> Array:
    """(count, LENGTH, 6) bars of processes of every kind."""
    return np.stack([s.values_TF for s in simulate_processes(seed, count, LENGTH, session)])


def there_and_back(values_BTF: Array, lookback: int = LOOKBACK) -> npt.NDArray[np.float32]:
    """The horizon coded in units known at the lookback's end, and decoded."""
    coded = Returns(values_BTF, lookback)
    return coded.bars(coded.x_BLF[:, None, lookback:])[:, 0].astype(np.float32)


@pytest.mark.parametrize("session", [DAILY, *SESSIONS])
def test_what_is_coded_comes_back(session: Session) -> None:
    values = windows(session=session)
    found = there_and_back(values)
    assert np.allclose(found, values[:, LOOKBACK:], rtol=3e-6, atol=0)


def test_the_first_decoded_bar_follows_the_last_known_close() -> None:
    values = windows()
    coded = Returns(values[:, :LOOKBACK])
    flat = coded.bars(np.zeros((len(values), 2, 3, 6))).astype(np.float32)
    prices = values[:, LOOKBACK - 1, CLOSE].astype(np.float32)
    assert (flat[..., :VOLUME] == prices[:, None, None, None]).all()


@given(st.integers(-12, 12), st.integers(-12, 12))
def test_neither_currency_nor_share_count_is_seen(price_power: int, volume_power: int) -> None:
    """Powers of two: multiplying by them rounds nothing."""
    values = windows()
    moved = values.copy()
    moved[..., :VOLUME] *= 2.0**price_power
    moved[..., VOLUME] *= 2.0**volume_power
    moved[..., AMOUNT] *= 2.0 ** (price_power + volume_power)
    one, other = Returns(values), Returns(moved)
    assert np.allclose(one.x_BLF, other.x_BLF, atol=1e-6)
    assert np.allclose(other.scale_BF[:, CLOSE], one.scale_BF[:, CLOSE] * 2.0**price_power)


def test_a_split_of_the_whole_history_changes_nothing() -> None:
    values = windows()
    split = values.copy()
    split[..., :VOLUME] /= 7.0
    split[..., VOLUME] *= 7.0
    assert np.allclose(Returns(values).x_BLF, Returns(split).x_BLF, atol=1e-6)
    assert np.allclose(there_and_back(split)[..., CLOSE] * 7, there_and_back(values)[..., CLOSE])


@given(st.integers(START, LENGTH - 1))
def test_later_bars_change_no_earlier_one(changed: int) -> None:
    values = windows()
    poisoned = values.copy()
    poisoned[:, changed:] = poisoned[:, changed:] * 3.0 + 1.0
    one, other = Returns(values).x_BLF, Returns(poisoned).x_BLF
    assert np.array_equal(one[:, :changed], other[:, :changed])
    assert not np.array_equal(one[:, changed], other[:, changed])


def test_a_horizon_shapes_nothing_it_is_measured_by() -> None:
    values = windows()
    poisoned = values.copy()
    poisoned[:, LOOKBACK:] *= 5.0
    one, other = Returns(values, LOOKBACK), Returns(poisoned, LOOKBACK)
    assert np.array_equal(one.x_BLF[:, :LOOKBACK], other.x_BLF[:, :LOOKBACK])
    assert np.array_equal(one.loc_BF, other.loc_BF)
    assert np.array_equal(one.scale_BF, other.scale_BF)
    short = Returns(values[:, :LOOKBACK])
    assert np.array_equal(one.x_BLF[:, :LOOKBACK], short.x_BLF)
    assert np.array_equal(one.scale_BF, short.scale_BF)


def test_windows_shorter_than_the_start_look_at_themselves_alone() -> None:
    values = windows()
    poisoned = values.copy()
    poisoned[:, 5:] *= 5.0
    assert np.array_equal(Returns(values, 5).x_BLF[:, :5], Returns(poisoned, 5).x_BLF[:, :5])


def test_the_first_bar_has_no_gap() -> None:
    assert (Returns(windows()).x_BLF[:, 0, OPEN] == 0).all()


def test_a_gap_is_a_gap_and_not_a_body() -> None:
    values = np.tile(np.array([100.0, 101.0, 99.0, 100.0, 1e6, 1e8]), (1, LENGTH, 1))
    values[:, LOOKBACK:, :VOLUME] *= 1.05
    x = Returns(values, LOOKBACK).x_BLF[0, LOOKBACK]
    assert x[OPEN] > 1.5
    assert x[CLOSE] == 0
    assert there_and_back(values)[0, 0, OPEN] == pytest.approx(105.0, rel=1e-6)


def test_bars_without_trades_stay_bars_without_trades() -> None:
    values = windows()
    values[:, 10::3, VOLUME:] = 0.0
    found = there_and_back(values)
    assert np.isfinite(Returns(values).x_BLF).all()
    silent = values[:, LOOKBACK:, VOLUME] == 0
    assert silent.any()
    assert (found[..., VOLUME:][silent] == 0).all()
    assert np.allclose(found[~silent], values[:, LOOKBACK:][~silent], rtol=3e-6)


def test_a_series_without_volume_is_forecast_without_volume() -> None:
    values = windows()
    values[..., VOLUME:] = 0.0
    coded = Returns(values[:, :LOOKBACK])
    assert (coded.x_BLF[..., VOLUME:] == 0).all()
    noise = np.random.default_rng(0).normal(0, 0.05, (len(values), 3, HORIZON, 6))
    assert (coded.bars(noise)[..., VOLUME:] == 0).all()


def test_flat_bars_stay_finite_and_wake_up() -> None:
    values = np.tile(np.array([50.0, 50.0, 50.0, 50.0, 0.0, 0.0]), (1, LENGTH, 1))
    values[:, LOOKBACK + 3 :, :VOLUME] *= 1.1
    assert np.isfinite(Returns(values, LOOKBACK).x_BLF).all()
    assert np.allclose(there_and_back(values), values[:, LOOKBACK:], rtol=3e-6)


@given(st.integers(0, 10**6), st.floats(0.1, 30.0))
def test_any_numbers_decode_to_legal_bars(seed: int, spread: float) -> None:
    values = windows(session=SESSIONS[seed % len(SESSIONS)])[:, :LOOKBACK]
    noise = np.random.default_rng(seed).normal(0, spread, (len(values), 4, HORIZON, 6))
    found = Returns(values).bars(noise).astype(np.float32)
    assert np.isfinite(found).all()
    assert (found[..., :VOLUME] > 0).all()
    assert (found[..., VOLUME:] >= 0).all()
    assert (found[..., HIGH] >= found[..., [OPEN, LOW, CLOSE]].max(axis=-1)).all()
    assert (found[..., LOW] <= found[..., [OPEN, CLOSE]].min(axis=-1)).all()
    if spread < 1.0:
        _, changed = repair(found, values[:, -1, CLOSE])
        assert changed.sum() == 0


def test_a_mirrored_window_has_the_opposite_returns() -> None:
    values = windows()
    x, m = Returns(values).x_BLF, Returns(mirrored(values)).x_BLF
    assert np.allclose(m[..., [OPEN, CLOSE]], -x[..., [OPEN, CLOSE]], atol=1e-5)
    assert np.allclose(m[..., [HIGH, LOW]], x[..., [LOW, HIGH]], atol=1e-5)
    assert np.allclose(m[..., VOLUME:], x[..., VOLUME:], atol=1e-5)
    assert np.allclose(mirrored(mirrored(values)), values)


def test_rows_are_the_series_they_name() -> None:
    values = windows()[:, :LOOKBACK]
    coded = code_windows("returns", values, clip=5.0)
    x = np.random.default_rng(1).normal(0, 0.5, (len(values), 3, HORIZON, 6))
    whole = coded.bars(x)
    assert np.array_equal(coded.bars(x[2:4], slice(2, 4)), whole[2:4])
