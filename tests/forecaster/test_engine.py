"""The engine answers what the plain generation answers, whatever it is batched with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forecaster import Kronos, KronosForecaster, KronosTokenizer, SamplePaths, SamplingParams
from forecaster.interface import Precision
from forecaster.kronos import reference, tiles
from forecaster.kronos.engine import Engine, Tokens
from forecaster.kronos.sampling import filtered_probs
from forecaster.noise import uniforms
from forecaster.normalize import normalise
from forecaster.registry import load_forecaster, resolve_model
from forecaster.summary import summarise
from market.errors import CheckpointError, ConfigError, ForecastInputError
from market.flags import Flag
from market.windows import time_features

from .conftest import engine_generate, random_windows, small_predictor, small_tokenizer

Networks = tuple[KronosTokenizer, Kronos]
PRECISIONS: tuple[Precision, Precision] = ("float32", "bfloat16")


def inputs(
    series: int, lookback: int, horizon: int, paths: int, seed: int = 3
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    windows = random_windows(series, lookback, horizon, seed)
    x, _, _ = normalise(windows.values_BLF)
    times = np.concatenate((windows.timestamps_BL, windows.future_BH), axis=1)
    u = uniforms(seed, windows.symbols, windows.as_of_B, paths, horizon)
    return torch.from_numpy(x), torch.from_numpy(time_features(times)), torch.from_numpy(u)


SAMPLINGS = [
    SamplingParams(),
    SamplingParams(0.7, 5, 0.8),
    SamplingParams(1.3, 0, 1.0),
    SamplingParams(1.0, 1, 1.0),
]


@torch.no_grad()
def plain_logits(
    networks: Networks,
    x: torch.Tensor,
    stamp: torch.Tensor,
    tokens: tuple[torch.Tensor, torch.Tensor],
    context: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the networks themselves answer before each given token, each (B, S, H, V)."""
    tokenizer, predictor = networks
    (b, paths, horizon), lookback = tokens[0].shape, x.shape[1]
    past = tokenizer.encode_pair(x)
    s1, s2 = (
        torch.cat((old.repeat_interleave(paths, 0), new.flatten(0, 1)), 1)
        for old, new in zip(past, tokens, strict=True)
    )
    stamp = stamp.repeat_interleave(paths, 0)
    both: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for end in range(lookback, lookback + horizon):
        seen = slice(max(0, end - context), end)
        known = predictor.context(s1[:, seen], s2[:, seen], stamp[:, seen])
        both[0].append(predictor.head(known[:, -1]))
        both[1].append(predictor.decode_s2(known, s1[:, end : end + 1], last_only=True)[:, -1])
    s1_logits, s2_logits = (torch.stack(half, 1).view(b, paths, horizon, -1) for half in both)
    return s1_logits, s2_logits


def near_tie(logits: torch.Tensor, u: torch.Tensor, sampling: SamplingParams) -> torch.Tensor:
    """Where rounding may decide the token: u near an edge of the CDF, or a cut near a token."""
    logits = logits.double()
    ranked = logits.sort(-1, descending=True).values
    close = torch.zeros(u.shape, dtype=torch.bool)
    if 0 < sampling.top_k < logits.shape[-1]:
        close |= ranked[..., sampling.top_k - 1] - ranked[..., sampling.top_k] < 1e-4
    if sampling.top_p < 1:
        kept = filtered_probs(logits, SamplingParams(sampling.temperature, sampling.top_k, 1.0))
        mass = kept.sort(-1, descending=True).values.cumsum(-1)
        close |= ((mass - sampling.top_p).abs() < 1e-5).any(-1)
    cdf = filtered_probs(logits, sampling).cumsum(-1)
    return close | ((cdf / cdf[..., -1:] - u[..., None]).abs() < 1e-5).any(-1)


def assert_equal_to_reference(
    networks: Networks,
    given_: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    sampling: SamplingParams,
    context: int,
    tile: tiles.Tile,
) -> int:
    """Replayed logits agree everywhere; tokens and bars up to a near-tie. Returns their number."""
    x, stamp, u = given_
    bars, *ids = engine_generate(*networks, *given_, sampling, context, tile=tile)
    bars_, *ids_ = reference.generate(*networks, *given_, sampling, context)
    past = Engine(*networks, context).past(x, stamp, u.shape[2])
    for ours, theirs in zip((past.s1_BL, past.s2_BL), networks[0].encode_pair(x), strict=True):
        assert torch.equal(ours, theirs)
    plain = plain_logits(networks, x, stamp, (ids[0], ids[1]), context)
    for ours, theirs in zip(past.replay(Tokens(*ids)), plain, strict=True):
        assert ((ours - theirs).abs() / theirs.abs().clamp(min=1)).max() <= 2e-5
    ties = torch.stack([near_tie(plain[half], u[..., half], sampling) for half in (0, 1)], -1)
    excused = ties.flatten(2).cumsum(-1) > 0
    same = torch.stack([mine == other for mine, other in zip(ids, ids_, strict=True)], -1)
    assert (same.flatten(2) | excused).all()
    paths = same.flatten(2).all(-1)
    torch.testing.assert_close(bars[paths], bars_[paths], rtol=2e-5, atol=2e-5)
    return int(ties.sum())


@settings(max_examples=10)
@given(
    series=st.integers(1, 3),
    lookback=st.integers(2, 40),
    horizon=st.integers(1, 12),
    paths=st.integers(1, 5),
    context=st.integers(12, 60),
    sampling=st.sampled_from(SAMPLINGS),
    heads=st.sampled_from([1, 2, 4]),
    bits=st.sampled_from([4, 6]),
    tile=st.sampled_from([tiles.Tile(1, 4), tiles.Tile(2, 2), tiles.Tile(4, 8)]),
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
    tile: tiles.Tile,
) -> None:
    torch.manual_seed(bits)
    networks = small_tokenizer(bits), small_predictor(bits, n_heads=heads)
    given_ = inputs(series, lookback, horizon, paths)
    assert_equal_to_reference(networks, given_, sampling, context, tile)


@pytest.mark.parametrize("context", [512, 70])
def test_trained_weights_equal_reference(context: int) -> None:
    """Sharp attention and uneven tokens, which random weights do not have; ties stay rare."""
    nano = resolve_model("nano")
    networks = (
        KronosTokenizer.from_pretrained(nano.tokenizer).eval(),
        Kronos.from_pretrained(nano.predictor).eval(),
    )
    given_ = inputs(3, 64, 10, 6)
    ties = assert_equal_to_reference(networks, given_, SamplingParams(), context, tiles.Tile(2, 8))
    assert ties <= 0.1 * given_[2].numel()


def test_bfloat16_keeps_the_distributions() -> None:
    """Total variation between next-token distributions of both precisions, the same tokens."""
    nano = resolve_model("nano")
    networks = (
        KronosTokenizer.from_pretrained(nano.tokenizer).eval(),
        Kronos.from_pretrained(nano.predictor).eval(),
    )
    x, stamp, u = inputs(4, 64, 8, 8)
    exact, rough = (Engine(*networks, 512, kind).past(x, stamp, 8) for kind in PRECISIONS)
    assert torch.equal(exact.s1_BL, rough.s1_BL)
    tokens = exact.sample(u, SamplingParams(1.0, 0, 1.0))
    for ours, theirs in zip(rough.replay(tokens), exact.replay(tokens), strict=True):
        distance = (ours.softmax(-1) - theirs.softmax(-1)).abs().sum(-1) / 2
        assert 0 < distance.mean() < 0.01
        assert distance.max() < 0.05
    decoded = [past.decode(tokens) for past in (exact, rough)]
    torch.testing.assert_close(decoded[0], decoded[1], rtol=0.05, atol=0.05)


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


def test_trained_forecasts_do_not_depend_on_their_batch() -> None:
    """The same at a real model's sizes, where products are blocked and split."""
    windows = random_windows(12, 100, 6)

    def bars(rows: np.ndarray, threads: int) -> np.ndarray:
        forecaster = load_forecaster("nano", threads=threads).forecaster
        return forecaster.sample_paths(
            windows.rows(rows), n_paths=10, sampling=SamplingParams(), seed=11
        ).values_BSHF

    expected = bars(np.arange(12), 1)
    for batch, threads in ((1, 2), (5, 1), (5, 2), (12, 2)):
        order = np.random.default_rng(batch).permutation(12)
        for start in range(0, 12, batch):
            rows = order[start : start + batch]
            assert np.array_equal(bars(rows, threads), expected[rows])


def test_tiles_in_flight_change_nothing(networks: Networks) -> None:
    windows = random_windows(5, 30, 6)
    expected = sample(networks, windows, paths=70, tile_series=2, threads=1).values_BSHF
    for options in ({"threads": 3}, {"threads": 2, "memory": 10**9}):
        actual = sample(networks, windows, paths=70, tile_series=2, **options).values_BSHF
        assert np.array_equal(actual, expected)


def test_memory_bounds_the_tiles_in_flight(networks: Networks) -> None:
    engine, tile = Engine(*networks, 64), tiles.Tile(2, 8)
    one = 2 * (engine.bytes_per_series(30) + 8 * engine.bytes_per_path(6))
    held = [tiles.tiles_in_flight(engine, tile, 30, 6, 4, memory) for memory in (one, 3 * one)]
    assert held == [1, 3]
    assert tiles.tiles_in_flight(engine, tile, 30, 6, 4, None) == 4
    with pytest.raises(ConfigError, match="do not hold one tile of 4 series x 32 paths"):
        sample(networks, random_windows(1, 30, 6), paths=32, memory=10_000)


@pytest.mark.parametrize("n_paths", [1, 5, 10, 16, 30, 32, 33, 100, 1000])
@pytest.mark.parametrize("width", [64, 256, 512])
def test_tiles_hold_every_path_in_rows_of_sixteen(n_paths: int, width: int) -> None:
    tile = tiles.tile_for(n_paths, width)
    assert tile.series * tile.paths % 16 == 0
    assert tile.paths <= 32
    count = -(-n_paths // tile.paths)
    assert count == -(-n_paths // 32)
    assert count * tile.paths < n_paths + 16 * count


def test_numerics_are_those_of_the_device_that_will_compute(networks: Networks) -> None:
    """A driver without a GPU must name the same run as the one that has it."""
    forecaster = KronosForecaster(*networks, max_context=64, device="cpu")
    width = networks[1].d_model
    for device, kind in (("cuda:0", "cuda"), ("cpu", "cpu"), (None, "cpu")):
        named = forecaster.numerics(100, device)
        tile = tiles.tile_for(100, width, kind)
        assert (named["device"], named["tile"]) == (kind, [tile.series, tile.paths])


def test_the_callers_thread_setting_is_restored(networks: Networks) -> None:
    before = torch.get_num_threads()
    sample(networks, random_windows(1, 10, 2), threads=1)
    assert torch.get_num_threads() == before


def test_a_stream_hands_out_what_sampling_joins(networks: Networks) -> None:
    windows = random_windows(9, 20, 4)
    forecaster = KronosForecaster(*networks, max_context=64, device="cpu", tile_series=2)
    options = {"n_paths": 5, "sampling": SamplingParams(), "seed": 11}
    parts = list(forecaster.stream_paths(windows, **options))
    assert [part.symbols for part in parts] == [windows.symbols[i : i + 2] for i in range(0, 9, 2)]
    joined = np.concatenate([part.values_BSHF for part in parts])
    assert np.array_equal(joined, forecaster.sample_paths(windows, **options).values_BSHF)
    whole = summarise(forecaster.sample_paths(windows, **options))
    streamed = summarise(forecaster.stream_paths(windows, **options))
    for name, value in vars(whole).items():
        assert np.array_equal(value, getattr(streamed, name), equal_nan=True), name


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


def test_a_sliding_context_is_flagged_and_sees_the_scale_of_every_bar(networks: Networks) -> None:
    windows = random_windows(2, 70, 10)
    slid = sample(networks, windows, overflow="recompute")
    assert (slid.flags_B & Flag.CONTEXT_SLID).all()
    assert np.array_equal(slid.loc_BF, normalise(windows.values_BLF)[1])
    assert not np.array_equal(slid.values_BSHF, sample(networks, windows).values_BSHF)
    short = sample(networks, windows.last_bars(54), overflow="recompute")
    assert not (short.flags_B & Flag.CONTEXT_SLID).any()


def test_a_horizon_beyond_the_context_is_an_error(networks: Networks) -> None:
    with pytest.raises(ForecastInputError, match="at most 62 steps"):
        sample(networks, random_windows(1, 10, 64))
    with pytest.raises(ForecastInputError, match="context of 5 tokens"):
        engine_generate(*networks, *inputs(1, 8, 6, 1), SamplingParams(), 5)


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
