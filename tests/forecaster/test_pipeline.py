"""The drop-in predictor, baselines, normalisation, repair and summaries as a user meets them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forecaster import (
    Kronos,
    KronosForecaster,
    KronosPredictor,
    KronosTokenizer,
    RandomWalk,
    SamplingParams,
    WindowBatch,
    summarise,
)
from forecaster.interface import CLOSE
from forecaster.normalize import normalise, power_of_ten
from forecaster.quantiles import ensemble_quantiles
from forecaster.repair import anchor_factor, repair
from forecaster.returns import mirrored
from forecaster.summary import QUANTILES
from market.errors import ForecastInputError
from market.processes import DAILY, simulate_processes
from market.windows import time_features

from .conftest import random_windows, small_predictor, small_tokenizer

FEATURES = ["open", "high", "low", "close", "volume", "amount"]


@pytest.fixture
def predictor(networks: tuple[KronosTokenizer, Kronos]) -> KronosPredictor:
    tokenizer, model = networks
    return KronosPredictor(model, tokenizer, device="cpu", max_context=64)


def frame(i: int = 0) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    windows = random_windows(3, 30, 5)
    data = pd.DataFrame(windows.values_BLF[i], columns=FEATURES)
    return data, pd.Series(windows.timestamps_BL[i]), pd.Series(windows.future_BH[i])


def test_predict_is_the_mean_of_the_paths(predictor: KronosPredictor) -> None:
    df, x, y = frame()
    mean = predictor.predict(df, x, y, 5, sample_count=4, seed=0)
    reference = {"top_p": 0.9, "repair_bars": False, "anchor": False}
    paths = predictor.predict_paths(df, x, y, 5, sample_count=4, seed=0, **reference)
    assert paths.values_BSHF.shape == (1, 4, 5, 6)
    np.testing.assert_allclose(mean.to_numpy(), paths.values_BSHF[0].mean(axis=0), rtol=1e-6)
    assert mean.dtypes.eq(np.float32).all()


def test_noise_is_fresh_without_a_seed(predictor: KronosPredictor) -> None:
    df, x, y = frame()
    assert not predictor.predict(df, x, y, 5).equals(predictor.predict(df, x, y, 5))
    assert predictor.predict(df, x, y, 5, seed=4).equals(predictor.predict(df, x, y, 5, seed=4))


def test_a_batch_equals_its_members(predictor: KronosPredictor) -> None:
    frames = [frame(i) for i in range(3)]
    dfs, xs, ys = (list(part) for part in zip(*frames, strict=True))
    greedy = {"top_k": 1, "T": 0.7}
    batch = predictor.predict_batch(dfs, xs, ys, 5, **greedy)  # type: ignore[arg-type]
    for (df, x, y), together in zip(frames, batch, strict=True):
        alone = predictor.predict(df, pd.DatetimeIndex(x), y, 5, **greedy)  # type: ignore[arg-type]
        assert alone.equals(together)


def test_missing_volume_and_amount(predictor: KronosPredictor) -> None:
    df, x, y = frame()
    derived = df.assign(amount=df["volume"] * df[FEATURES[:4]].mean(axis=1))
    a, b = (predictor.predict(d, x, y, 5, seed=1) for d in (df.drop(columns="amount"), derived))
    assert a.equals(b)
    assert np.isfinite(predictor.predict(df[FEATURES[:4]], x, y, 5).to_numpy()).all()


def test_bad_frames_are_named(predictor: KronosPredictor) -> None:
    df, x, y = frame()
    with pytest.raises(ForecastInputError, match=r"missing price column\(s\) \['low'\]"):
        predictor.predict(df.drop(columns="low"), x, y, 5)
    with pytest.raises(ForecastInputError, match="not finite"):
        predictor.predict(df.assign(high=df["high"].where(df.index != 3)), x, y, 5)
    with pytest.raises(ForecastInputError, match="4 timestamps for 5 bars"):
        predictor.predict(df, x, y[:4], 5)
    with pytest.raises(ForecastInputError, match="1 frames, 2 x_timestamps"):
        predictor.predict_batch([df], [x, x], [y], 5)
    with pytest.raises(ForecastInputError, match="no series"):
        predictor.predict_batch([], [], [], 5)


def test_lookbacks_may_differ_in_one_call(predictor: KronosPredictor) -> None:
    """Each series is computed at its own length, so it equals a call of its own."""
    frames = []
    for seed, skip in enumerate((0, 7, 0)):
        df, x, y = frame(seed)
        frames.append((df[skip:], x[skip:], y))
    dfs, xs, ys = (list(part) for part in zip(*frames, strict=True))
    names = ["A", "B", "C"]
    together = predictor.predict_paths(dfs, xs, ys, 5, sample_count=6, symbols=names)
    assert together.symbols == tuple(names)
    for i, (df, x, y) in enumerate(frames):
        alone = predictor.predict_paths(df, x, y, 5, sample_count=6, symbols=[names[i]])
        assert np.array_equal(alone.values_BSHF[0], together.values_BSHF[i])
    batch = predictor.predict_batch(dfs, xs, ys, 5, top_k=1)
    for (df, x, y), mean in zip(frames, batch, strict=True):
        assert predictor.predict(df, x, y, 5, top_k=1).equals(mean)


def test_the_anchor_moves_prices_by_the_known_error_of_the_last_close(
    predictor: KronosPredictor,
) -> None:
    df, x, y = frame()
    options = {"sample_count": 4, "seed": 0, "repair_bars": False}
    free = predictor.predict_paths(df, x, y, 5, anchor=False, **options)
    held = predictor.predict_paths(df, x, y, 5, **options)
    factor = held.values_BSHF[..., :4].astype(np.float64) / free.values_BSHF[..., :4]
    np.testing.assert_allclose(factor, factor[0, 0, 0, 0], rtol=1e-5)
    assert factor[0, 0, 0, 0] != 1
    assert np.array_equal(held.values_BSHF[..., 4:], free.values_BSHF[..., 4:]), "not the volume"

    forecaster = predictor.forecaster
    past = forecaster.engine.past
    x_BLF, loc, scale = normalise(df.to_numpy()[None])
    stamps = time_features(np.array([*x, *y], "datetime64[us]"))[None].astype(np.int64)
    decoded = past(torch.from_numpy(x_BLF), torch.from_numpy(stamps), 5).last_BF
    last_close = float(decoded[0, 3]) * scale[0, 3] + loc[0, 3]
    assert factor[0, 0, 0, 0] == pytest.approx(df["close"].iloc[-1] / last_close, rel=1e-4)


def test_a_tokenizer_that_starts_at_the_last_close_is_left_alone(
    predictor: KronosPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = KronosForecaster(predictor.tokenizer, predictor.model, anchor=False)
    held = KronosForecaster(predictor.tokenizer, predictor.model)
    monkeypatch.setattr(type(predictor.tokenizer), "starts_at_last_close", True)
    stated = KronosForecaster(predictor.tokenizer, predictor.model)
    marks = [each.numerics(4)["anchored"] for each in (free, held, stated)]
    assert marks == [False, True, False]


def test_an_error_that_says_nothing_moves_nothing() -> None:
    decoded, last = np.array([np.nan, -3.0, 0.0, 50.0]), np.full(4, 100.0)
    assert anchor_factor(decoded, last).tolist() == [1, 1, 1, 2]


@given(st.integers(2, 30), st.floats(1e-3, 1e4))
def test_normalisation_uses_the_lookback_only(lookback: int, poison: float) -> None:
    values = random_windows(2, 40, 1).values_BLF
    poisoned = values.copy()
    poisoned[:, lookback:] *= poison
    for a, b in zip(
        normalise(values, lookback=lookback), normalise(poisoned, lookback=lookback), strict=True
    ):
        rows = slice(None) if a.ndim == 2 else (slice(None), slice(lookback))
        assert np.array_equal(a[rows], b[rows])


def test_normalisation_formula() -> None:
    values = random_windows(2, 40, 1).values_BLF
    x, loc, scale = normalise(values)
    np.testing.assert_allclose(loc, values.mean(axis=1))
    np.testing.assert_allclose(scale, values.std(axis=1, ddof=0) + 1e-5)
    assert abs(x).max() <= 5
    inside = abs(x) < 5
    back = x * scale[:, None] + loc[:, None]
    np.testing.assert_allclose(back[inside], values[inside], rtol=1e-5)


def test_small_values_are_lifted_by_powers_of_ten() -> None:
    values = random_windows(1, 20, 1).values_BLF
    assert (power_of_ten(values) == 1).all()
    values[0, -1] = [3e-5, 3e-5, 3e-5, 2.5e-5, 0.0, 0.04]
    values[0, -2, 4] = 0.5
    assert power_of_ten(values)[0].tolist() == [1e6, 1e6, 1e6, 1e6, 100.0, 1000.0]


def test_summary_numbers() -> None:
    windows = random_windows(2, 30, 4)
    paths = RandomWalk().sample_paths(windows, n_paths=150, sampling=SamplingParams(), seed=0)
    summary = summarise(paths)
    close = paths.values_BSHF[..., 3].astype(np.float64)
    last = paths.last_close_B[:, None]
    np.testing.assert_allclose(summary.mean_BHF[..., 3], close.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(summary.p_up_BH, (close > last[:, None]).mean(axis=1))
    np.testing.assert_allclose(summary.std_BHF[..., 3], close.std(axis=1, ddof=1), rtol=1e-12)
    ordered = np.sort(close[0], axis=0)
    for i, q in enumerate(QUANTILES):
        k = int(q * 151)  # type 6: member k holds level k / 151
        assert (ordered[k - 1] <= summary.quantiles_BHFQ[0, :, 3, i]).all()
        assert (summary.quantiles_BHFQ[0, :, 3, i] <= ordered[k]).all()
    returns = np.log(close / last[:, None])
    np.testing.assert_allclose(summary.return_mean_BH, returns.mean(axis=1), atol=1e-15)
    np.testing.assert_allclose(summary.return_std_BH, returns.std(axis=1, ddof=1), rtol=1e-12)
    path = np.concatenate(([last[0, 0]], close[0, 0]))
    by_hand = max(1 - path[j] / path[i] for i in range(5) for j in range(i, 5))
    one = dataclasses.replace(paths, values_BSHF=paths.values_BSHF[:, :1])
    assert summarise(one).expected_drawdown_B[0] == pytest.approx(by_hand)
    alone = summarise(one)
    assert alone.path_volatility_B[0] == pytest.approx(np.std(np.diff(np.log(path)), ddof=1))
    assert np.isnan(alone.std_BHF).all()
    assert np.array_equal(alone.quantiles_BHFQ[..., 4], one.values_BSHF[:, 0].astype(np.float64))


def test_floored_paths_are_counted_and_left_out_of_return_statistics() -> None:
    windows = random_windows(2, 30, 4)
    paths = RandomWalk().sample_paths(windows, n_paths=20, sampling=SamplingParams(), seed=0)
    broken = paths.values_BSHF.copy()
    broken[0, :3, 2:, :4] = -1.0
    repaired, _ = repair(broken, paths.last_close_B)
    summary = summarise(dataclasses.replace(paths, values_BSHF=repaired))
    assert summary.floored_B.tolist() == [3, 0]
    kept = summarise(dataclasses.replace(paths, values_BSHF=paths.values_BSHF[:, 3:]))
    assert summary.path_volatility_B[0] == kept.path_volatility_B[0]
    assert np.array_equal(summary.return_std_BH[0], kept.return_std_BH[0])
    assert summary.path_volatility_B[0] < 0.1, "not thousands of percent per bar"
    nothing = np.full_like(broken, -1.0)
    assert np.isnan(summarise(dataclasses.replace(paths, values_BSHF=nothing)).return_mean_BH).all()


@pytest.mark.parametrize("n_paths", [16, 64, 256])
def test_a_perfect_forecaster_covers_what_it_says(n_paths: int) -> None:
    rng = np.random.default_rng(n_paths)
    series, horizon = 12_000 if n_paths < 100 else 6_000, 8
    close = 100 * np.exp(0.02 * rng.standard_normal((n_paths + 1, series * horizon)))
    members, actual = np.sort(close[:-1], axis=0), close[-1]
    for level in (0.5, 0.8, 0.9):
        low, high = ensemble_quantiles(members, ((1 - level) / 2, (1 + level) / 2))
        assert ((low <= actual) & (actual <= high)).mean() == pytest.approx(level, abs=0.005)


@given(st.integers(2, 40), st.integers(0, 1000), st.floats(0.01, 5))
def test_quantiles_rise_with_their_level_and_prices_stay_positive(
    n_paths: int, seed: int, spread: float
) -> None:
    members = np.sort(np.exp(spread * np.random.default_rng(seed).standard_normal((n_paths, 3))), 0)
    found = ensemble_quantiles(members, QUANTILES)
    assert (np.diff(found, axis=0) >= 0).all()
    assert (found > 0).all()
    bounded = ensemble_quantiles(np.maximum(members - 1, 0), QUANTILES)
    assert (bounded >= 0).all(), "volume stays at zero"


def test_tails_need_enough_paths() -> None:
    windows = random_windows(1, 30, 2)
    tails = [QUANTILES.index(q) for q in (0.01, 0.99)]
    for n_paths, known in ((99, False), (100, True)):
        paths = RandomWalk().sample_paths(
            windows, n_paths=n_paths, sampling=SamplingParams(), seed=0
        )
        quantiles = summarise(paths).quantiles_BHFQ
        assert np.isfinite(quantiles[..., tails]).all() == known
        assert np.isfinite(np.delete(quantiles, tails, axis=-1)).all()


def test_a_summary_does_not_depend_on_its_batch() -> None:
    windows = random_windows(5, 30, 7)
    paths = RandomWalk().sample_paths(windows, n_paths=33, sampling=SamplingParams(), seed=0)
    whole = summarise(paths)
    for i in range(5):
        rows = slice(i, i + 1)
        part = summarise(
            dataclasses.replace(
                paths,
                symbols=paths.symbols[rows],
                values_BSHF=paths.values_BSHF[rows].copy(),
                last_close_B=paths.last_close_B[rows],
            )
        )
        assert np.array_equal(part.mean_BHF[0], whole.mean_BHF[i])
        assert np.array_equal(part.quantiles_BHFQ[0], whole.quantiles_BHFQ[i], equal_nan=True)
        assert part.path_volatility_B[0] == whole.path_volatility_B[i]


def test_non_finite_paths_are_named() -> None:
    windows = random_windows(2, 30, 2)
    paths = RandomWalk().sample_paths(windows, n_paths=3, sampling=SamplingParams(), seed=0)
    paths.values_BSHF[1, 0, 0, 0] = np.nan
    with pytest.raises(ForecastInputError, match="S1: the model produced"):
        summarise(paths)


def test_a_mirrored_window_has_the_mirrored_forecast() -> None:
    """Untrained weights lean to one side; sampled both ways, the lean cancels."""
    torch.manual_seed(0)
    values = np.stack([s.values_TF for s in simulate_processes(1, 3, 60, DAILY)])
    labels = np.datetime64("2020-01-01", "us") + np.arange(64) * np.timedelta64(1, "D")
    tokenizer = small_tokenizer(features="returns")
    with torch.no_grad():
        tokenizer.head.bias.fill_(0.3)
    forecaster = KronosForecaster(tokenizer, small_predictor())

    def moves(values_BLF: np.ndarray, paths: int) -> np.ndarray:
        windows = WindowBatch(
            symbols=("A", "B", "C"),
            as_of_B=np.repeat(labels[59], 3),
            values_BLF=values_BLF,
            timestamps_BL=np.tile(labels[:60], (3, 1)),
            future_BH=np.tile(labels[60:], (3, 1)),
        )
        sampled = forecaster.sample_paths(
            windows, n_paths=paths, sampling=SamplingParams(top_p=1.0), seed=4
        )
        assert sampled.values_BSHF.shape == (3, paths, 4, 6)
        relative = sampled.values_BSHF[..., CLOSE] / sampled.last_close_B[:, None, None]
        return np.log(relative[..., -1]) / (sampled.scale_BF / sampled.loc_BF)[:, None, CLOSE]

    plain, turned = moves(values, 400), moves(mirrored(values), 400)
    assert plain[:, ::2].mean() > 0.5, "the weights lean"
    assert abs(plain[:, ::2].mean() + turned[:, 1::2].mean()) < 0.3
    assert np.allclose(plain.mean(axis=1), -turned.mean(axis=1), atol=0.35)
    odd = moves(values, 7)
    assert np.array_equal(odd[:, :3], moves(values, 7)[:, :3])
