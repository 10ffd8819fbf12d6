"""Paths of a point model: drawn from past errors, legal, and a matter of their own series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forecaster import SamplePaths, SamplingParams, load_forecaster
from forecaster.interface import CLOSE, Forecaster
from forecaster.timellm import TimeLLMForecaster, build_model
from forecaster.timellm.bootstrap import centres, drawn, errors_in_units, one_bar_units
from forecaster.timellm.rows import forecast_bars
from market.errors import CheckpointError, ForecastInputError
from market.flags import Flag
from tests.forecaster.conftest import random_windows
from tests.forecaster.timellm.conftest import HORIZON, LOOKBACK, Configure

ARRAYS = ("values_BSHF", "loc_BF", "scale_BF", "flags_B", "repaired_B", "last_close_B")


def errors(n: int = 50) -> np.ndarray:
    rng = np.random.default_rng(2)
    return rng.normal(size=(n, HORIZON, 6)).cumsum(axis=1).astype(np.float32)


@pytest.fixture(params=["none", "gpt2"])
def forecaster(request: pytest.FixtureRequest, configure: Configure) -> TimeLLMForecaster:
    torch.manual_seed(1)
    return TimeLLMForecaster(build_model(configure(request.param)), errors())


def sample(
    forecaster: TimeLLMForecaster, count: int = 5, n_paths: int = 8, **changes: int
) -> SamplePaths:
    windows = random_windows(count, changes.get("lookback", LOOKBACK), HORIZON)
    return forecaster.sample_paths(
        windows, n_paths=n_paths, sampling=SamplingParams(), seed=changes.get("seed", 0)
    )


def test_bars_obey_the_rules(forecaster: TimeLLMForecaster) -> None:
    assert isinstance(forecaster, Forecaster)
    found = sample(forecaster, n_paths=60)
    open_, high, low, close, volume, amount = np.moveaxis(found.values_BSHF, -1, 0)
    assert (low > 0).all()
    assert (low <= np.minimum(open_, close)).all()
    assert (high >= np.maximum(open_, close)).all()
    assert (volume >= 0).all()
    assert (amount >= 0).all()
    assert (found.flags_B & int(Flag.REPAIRED) > 0).tolist() == (found.repaired_B > 0).tolist()


def test_a_series_has_the_same_paths_in_any_company(forecaster: TimeLLMForecaster) -> None:
    windows = random_windows(20, LOOKBACK, HORIZON)
    options = {"n_paths": 6, "sampling": SamplingParams(), "seed": 4}
    whole = forecaster.sample_paths(windows, **options)  # type: ignore[arg-type]
    for i in (0, 7, 19):
        one = forecaster.sample_paths(windows.rows(slice(i, i + 1)), **options)  # type: ignore[arg-type]
        for name in ARRAYS:
            assert np.array_equal(getattr(whole, name)[i : i + 1], getattr(one, name)), name
    streamed = SamplePaths.join(forecaster.stream_paths(windows, **options))  # type: ignore[arg-type]
    assert np.array_equal(streamed.values_BSHF, whole.values_BSHF)


def test_seeds_differ_and_more_paths_keep_the_first(forecaster: TimeLLMForecaster) -> None:
    few, many = sample(forecaster, n_paths=5), sample(forecaster, n_paths=120)
    assert np.array_equal(many.values_BSHF[:, :5], few.values_BSHF)
    assert not np.array_equal(sample(forecaster, n_paths=5, seed=1).values_BSHF, few.values_BSHF)


def test_paths_are_the_point_and_whole_past_errors(configure: Configure) -> None:
    torch.manual_seed(1)
    known = errors()
    forecaster = TimeLLMForecaster(build_model(configure("none")), known, repair_bars=False)
    windows = random_windows(3, LOOKBACK, HORIZON)
    paths = forecaster.sample_paths(windows, n_paths=50, sampling=SamplingParams(), seed=0)
    last_BF = windows.values_BLF[:, -1]
    moves_B = (forecaster.points(windows)[:, -1] - last_BF)[:, :4].mean(axis=1)
    units_B = one_bar_units(windows.values_BLF)[:, CLOSE]
    for b in range(3):  # all fifty errors, each once, in some order
        used = np.sort(paths.values_BSHF[b, :, -1, CLOSE] - last_BF[b, CLOSE] - moves_B[b])
        assert np.allclose(used / units_B[b], np.sort(known[:, -1, CLOSE]), atol=2e-3)


def test_bars_that_were_stay_bars(configure: Configure) -> None:
    """Errors of real bars leave nothing to repair in the prices."""
    torch.manual_seed(1)
    model = build_model(configure("none")).eval()
    past = random_windows(60, LOOKBACK + HORIZON, 1, seed=8).values_BLF
    forecast = forecast_bars(model, past[:, :LOOKBACK])
    known = errors_in_units(past[:, :LOOKBACK], past[:, LOOKBACK:], forecast)
    forecaster = TimeLLMForecaster(model, known, repair_bars=False)
    open_, high, low, close = np.moveaxis(sample(forecaster, n_paths=60).values_BSHF, -1, 0)[:4]
    slack = 1e-5 * close
    assert (low <= np.minimum(open_, close) + slack).all()
    assert (high >= np.maximum(open_, close) - slack).all()


def test_longer_windows_are_cut_and_shorter_ones_refused(forecaster: TimeLLMForecaster) -> None:
    longer = sample(forecaster, lookback=LOOKBACK + 9)
    assert (longer.flags_B & int(Flag.LOOKBACK_TRIMMED) > 0).all()
    with pytest.raises(ForecastInputError, match=f"reads {LOOKBACK} bars.*--lookback {LOOKBACK}"):
        sample(forecaster, lookback=LOOKBACK - 1)
    with pytest.raises(ForecastInputError, match=f"forecasts {HORIZON} steps"):
        forecaster.points(random_windows(2, LOOKBACK, HORIZON + 1))


def test_the_future_of_the_batch_is_not_looked_at(configure: Configure) -> None:
    """Only the lookback counts: what was known before it changes nothing."""
    torch.manual_seed(1)
    forecaster = TimeLLMForecaster(build_model(configure("none")), errors())
    windows = random_windows(4, LOOKBACK + 10, HORIZON)
    points = forecaster.points(windows)
    assert np.array_equal(points, forecaster.points(windows.last_bars(LOOKBACK)))


def test_saved_and_loaded_it_is_the_same_model(
    forecaster: TimeLLMForecaster, tmp_path: Path
) -> None:
    forecaster.save(tmp_path)
    (tmp_path / "training.json").write_text('{"trained_through": "2016-06-30"}')
    loaded = load_forecaster(f"timellm:{tmp_path}")
    assert str(loaded.trained_through) == "2016-06-30"
    again = loaded.forecaster
    assert isinstance(again, TimeLLMForecaster)
    assert again.model_id == forecaster.model_id
    assert np.array_equal(sample(again).values_BSHF, sample(forecaster).values_BSHF)
    again.save(tmp_path / "copy")
    assert (tmp_path / "copy" / "training.json").is_file()
    with pytest.raises(CheckpointError, match="needs none; leave it out"):
        load_forecaster(f"timellm:{tmp_path}", "a-tokenizer")


def test_the_run_states_how_paths_are_drawn(forecaster: TimeLLMForecaster) -> None:
    stated = forecaster.numerics(16)
    assert "bootstrap" in str(stated["paths"])
    assert stated["block"] == HORIZON
    assert stated["errors"] == 50


def test_errors_of_windows_that_stand_still_are_left_out() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, LOOKBACK, 6)).astype(np.float32)
    x[1, :, CLOSE] = 0.0
    actual, forecast = rng.normal(size=(2, 4, HORIZON, 6)).astype(np.float32)
    found = errors_in_units(x, actual, forecast)
    assert found.shape == (3, HORIZON, 6)
    expected = (actual[0] - centres(x, forecast)[0]) / one_bar_units(x)[0]
    assert np.allclose(found[0], expected, atol=1e-5)


@settings(max_examples=40)
@given(n_paths=st.integers(1, 90), n_errors=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_errors_are_dealt_like_cards(n_paths: int, n_errors: int, seed: int) -> None:
    as_of = np.datetime64("2020-01-01T21:00", "us")
    dealt = drawn(seed, "AAA", as_of, n_paths, n_errors)
    counts = np.bincount(dealt, minlength=n_errors)
    assert len(dealt) == n_paths
    assert counts.max() - counts.min() <= 1
    assert np.array_equal(drawn(seed, "AAA", as_of, n_paths + 7, n_errors)[:n_paths], dealt)
