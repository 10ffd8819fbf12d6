"""The engine answers what the plain generation answers, whatever it is batched with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forecaster import Kronos, KronosForecaster, KronosTokenizer, SamplePaths, SamplingParams
from forecaster.kronos import engine, reference
from forecaster.kronos.sampling import uniforms
from forecaster.normalize import normalise
from market.errors import CheckpointError, ForecastInputError
from market.flags import Flag
from market.windows import time_features

from .conftest import random_windows, small_predictor, small_tokenizer

Networks = tuple[KronosTokenizer, Kronos]


def inputs(
    series: int, lookback: int, horizon: int, paths: int, seed: int = 3
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    windows = random_windows(series, lookback, horizon, seed)
    x, _, _ = normalise(windows.values_BLF)
    times = np.concatenate((windows.timestamps_BL, windows.future_BH), axis=1)
    u = uniforms(seed, windows.symbols, windows.as_of_B, paths, horizon)
    return torch.from_numpy(x), torch.from_numpy(time_features(times)), torch.from_numpy(u)


@settings(max_examples=8)
@given(
    series=st.integers(1, 3),
    lookback=st.integers(2, 40),
    horizon=st.integers(1, 12),
    paths=st.integers(1, 4),
    context=st.integers(12, 48),
    sampling=st.sampled_from(
        [SamplingParams(), SamplingParams(0.7, 5, 0.8), SamplingParams(1.3, 0, 1.0)]
    ),
    heads=st.sampled_from([1, 2, 4]),
    bits=st.sampled_from([4, 6]),
)
def test_engine_equals_reference(
    series: int,
    lookback: int,
    horizon: int,
    paths: int,
    context: int,
    sampling: SamplingParams,
    heads: int,
    bits: int,
) -> None:
    torch.manual_seed(bits)
    networks = small_tokenizer(bits), small_predictor(bits, n_heads=heads)
    given_ = inputs(series, lookback, horizon, paths)
    bars, s1, s2 = engine.generate(*networks, *given_, sampling, context)
    bars_, s1_, s2_ = reference.generate(*networks, *given_, sampling, context)
    # Random networks at these sizes have no near-ties within float32 rounding of a uniform.
    assert torch.equal(s1, s1_)
    assert torch.equal(s2, s2_)
    torch.testing.assert_close(bars, bars_, rtol=2e-5, atol=2e-5)


def sample(networks: Networks, windows, paths: int = 5, **options) -> SamplePaths:  # type: ignore[no-untyped-def]
    forecaster = KronosForecaster(*networks, max_context=64, device="cpu", **options)
    return forecaster.sample_paths(windows, n_paths=paths, sampling=SamplingParams(), seed=11)


@pytest.mark.parametrize("batch", [1, 5, 12])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_forecast_does_not_depend_on_its_batch(
    networks: Networks, batch: int, threads: int
) -> None:
    """The same 12 series, shuffled and cut into batches, give the same bits."""
    windows = random_windows(12, 30, 6)
    expected = sample(networks, windows, threads=1).values_BSHF
    order = np.random.default_rng(batch).permutation(12)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for start in range(0, 12, batch):
            rows = order[start : start + batch]
            actual = sample(networks, windows.rows(rows), threads=1).values_BSHF
            assert np.array_equal(actual, expected[rows])
    finally:
        torch.set_num_threads(before)


def test_the_callers_thread_setting_is_restored(networks: Networks) -> None:
    before = torch.get_num_threads()
    sample(networks, random_windows(1, 10, 2), threads=1)
    assert torch.get_num_threads() == before


def test_more_paths_extend_fewer(networks: Networks) -> None:
    windows = random_windows(2, 20, 4)
    few, many = (sample(networks, windows, paths).values_BSHF for paths in (3, 21))
    assert np.array_equal(many[:, :3], few)


def test_only_the_window_matters(networks: Networks) -> None:
    """A neighbour with other bars, or another seed's noise, changes nothing of a series."""
    windows = random_windows(4, 20, 4)
    poisoned = windows.values_BLF.copy()
    poisoned[1:] *= 3.0
    changed = type(windows)(
        windows.symbols, windows.as_of_B, poisoned, windows.timestamps_BL, windows.future_BH
    )
    assert np.array_equal(
        sample(networks, windows).values_BSHF[0], sample(networks, changed).values_BSHF[0]
    )


@pytest.mark.parametrize("power", [-9, -5, -2])
def test_tiny_prices_keep_their_shape(networks: Networks, power: int) -> None:
    """A coin priced near 1e-5 is forecast as the same series in larger units."""
    base = random_windows(2, 30, 5, scale=30.0)
    factor = np.array([10.0**power] * 4 + [1, 10.0**power])
    scaled = type(base)(
        base.symbols, base.as_of_B, base.values_BLF * factor, base.timestamps_BL, base.future_BH
    )
    expected = sample(networks, base).values_BSHF[..., :4]
    actual = sample(networks, scaled).values_BSHF[..., :4] / 10.0**power
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_a_long_lookback_is_trimmed_and_flagged(networks: Networks) -> None:
    windows = random_windows(2, 70, 10)
    paths = sample(networks, windows)
    assert (paths.flags_B & Flag.LOOKBACK_TRIMMED).all()
    assert np.array_equal(paths.values_BSHF, sample(networks, windows.last_bars(54)).values_BSHF)
    assert not (sample(networks, windows.last_bars(54)).flags_B & Flag.LOOKBACK_TRIMMED).any()


def test_a_horizon_beyond_the_context_is_an_error(networks: Networks) -> None:
    with pytest.raises(ForecastInputError, match="at most 62 steps"):
        sample(networks, random_windows(1, 10, 64))
    with pytest.raises(ForecastInputError, match="context of 5 tokens"):
        engine.generate(*networks, *inputs(1, 8, 6, 1), SamplingParams(), 5)


def test_repair_is_counted_and_can_be_switched_off(networks: Networks) -> None:
    windows = random_windows(3, 30, 6)
    raw, fixed = (sample(networks, windows, repair_bars=on) for on in (False, True))
    broken = (raw.values_BSHF != fixed.values_BSHF).any(axis=-1)
    assert broken.any()
    assert np.array_equal(fixed.repaired_B, broken.sum(axis=(1, 2)))
    assert not raw.repaired_B.any()
    assert np.array_equal((fixed.flags_B & Flag.REPAIRED) > 0, fixed.repaired_B > 0)
    open_, high, low, close, volume, amount = np.moveaxis(fixed.values_BSHF, -1, 0)
    assert (high >= np.maximum(open_, close)).all()
    assert (low <= np.minimum(open_, close)).all()
    assert (low > 0).all()
    assert (volume >= 0).all()
    assert (amount >= 0).all()


def test_bits_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(CheckpointError, match="do not belong together"):
        KronosForecaster(small_tokenizer(6), small_predictor(4))
    uneven = small_tokenizer(6, s1_bits=8, s2_bits=4), small_predictor(6, s1_bits=8, s2_bits=4)
    with pytest.raises(CheckpointError, match="s1_bits=8 and s2_bits=4"):
        KronosForecaster(*uneven)
    with pytest.raises(CheckpointError, match="half mode"):
        uneven[0].decode([torch.zeros(1, 2).long()] * 2, half=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_follows_the_reference(networks: Networks) -> None:
    given_ = [t.cuda() for t in inputs(2, 20, 6, 3)]
    tokenizer, predictor = (n.to("cuda") for n in networks)
    try:
        greedy = SamplingParams(1.0, 1, 1.0)
        bars, _, _ = engine.generate(tokenizer, predictor, *given_, greedy, 64)
        expected, _, _ = reference.generate(tokenizer, predictor, *given_, greedy, 64)
        torch.testing.assert_close(bars, expected, rtol=1e-3, atol=1e-3)
    finally:
        for network in networks:
            network.cpu()
