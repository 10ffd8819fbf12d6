"""What training may see: settings, splits that cannot leak, batches as functions of the step."""

from __future__ import annotations

import dataclasses
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecaster.training.config import (
    DataSettings,
    PredictorTraining,
    SimulatedMarkets,
    TrainingError,
    WindowSettings,
)
from forecaster.training.data.batches import WindowPlan
from forecaster.training.data.pools import TrainingSeries, View, unbroken_runs, validation_batches
from forecaster.training.data.series_file import open_series, store_series
from forecaster.training.data.splits import TargetSpan, is_held_out, require_disjoint, split_series
from market.errors import ConfigError

DATA = DataSettings(
    train_through=date(2015, 12, 31),
    validation_through=date(2016, 12, 31),
    purge_bars=8,
    held_out_share=0.3,
)
WINDOWS = WindowSettings(lookbacks=(16, 32), horizon=8)
CUT = np.datetime64("2016-01-01")


def walk(symbol: str, start: str = "2015-01-01", days: int = 700) -> TrainingSeries:
    rng = np.random.default_rng(sum(map(ord, symbol)))
    close = 50 * np.exp(np.cumsum(0.01 * rng.standard_normal(days)))
    values = np.stack([close, close * 1.01, close * 0.99, close, 1e4 + close, 1e6 + close], axis=1)
    labels = np.datetime64(start, "us") + np.arange(days) * np.timedelta64(1, "D")
    return TrainingSeries(symbol, labels, values)


SERIES = [walk(f"S{i}") for i in range(12)]


def plan_of(series: list[TrainingSeries], seed: int = 3) -> WindowPlan:
    split = split_series(series, DATA, WINDOWS)
    return WindowPlan(split, seed=seed, batch_size=6, simulated_share=0.0, windows=WINDOWS)


def test_training_windows_end_at_the_cut_off_and_hold_no_held_out_symbol() -> None:
    plan = plan_of(SERIES)
    for step in range(40):
        batch = plan.batch(step)
        assert (batch.last_B < CUT).all()
        assert not any(is_held_out(symbol, DATA.held_out_share) for symbol in batch.symbols)


def test_validation_targets_begin_after_the_purge() -> None:
    split = split_series(SERIES, DATA, WINDOWS)
    for pool in (split.later, split.held_out):
        batches = validation_batches(pool, lookback=32, horizon=8, view=View(), count=50, size=7)
        assert sum(len(b.symbols) for b in batches) == 50
        for batch in batches:
            first_target = batch.first_B + 32 * np.timedelta64(1, "D")
            assert (first_target >= CUT + np.timedelta64(DATA.purge_bars, "D")).all()
            assert (batch.last_B <= np.datetime64("2016-12-31")).all()
    assert all(is_held_out(run.symbol, 0.3) for run in split.held_out.runs)
    assert not any(is_held_out(run.symbol, 0.3) for run in split.later.runs)


def test_poisoned_later_bars_and_held_out_symbols_change_no_training_batch() -> None:
    poisoned = []
    for one in SERIES:
        values = one.values_NF.copy()
        values[one.timestamps_N >= CUT] *= np.linspace(1, 9, (one.timestamps_N >= CUT).sum())[
            :, None
        ]
        if is_held_out(one.symbol, DATA.held_out_share):
            values *= 3.7
        poisoned.append(TrainingSeries(one.symbol, one.timestamps_N, values))
    clean, other = plan_of(SERIES), plan_of(poisoned)
    for step in range(20):
        a, b = clean.batch(step), other.batch(step)
        assert a.symbols == b.symbols
        np.testing.assert_array_equal(a.x_BTF, b.x_BTF)
        np.testing.assert_array_equal(a.stamp_BT, b.stamp_BT)


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    one, again, other = plan_of(SERIES), plan_of(SERIES), plan_of(SERIES, seed=4)
    later = one.batch(9)
    np.testing.assert_array_equal(again.batch(9).x_BTF, later.x_BTF)
    assert not np.array_equal(other.batch(9).first_B, later.first_B)
    lookbacks = {one.batch(step).lookback for step in range(30)}
    assert lookbacks == {16, 32}


def test_only_the_lookback_decides_the_scale() -> None:
    plan = plan_of(SERIES)
    batch = plan.batch(0)
    past = batch.x_BTF[:, : batch.lookback].astype(np.float64)
    np.testing.assert_allclose(past.mean(axis=1), 0.0, atol=1e-5)
    np.testing.assert_allclose(past.std(axis=1), 1.0, atol=1e-3)
    assert np.abs(batch.x_BTF[:, batch.lookback :].mean(axis=1)).max() > 0.05


def test_no_window_crosses_a_split_or_a_hole() -> None:
    series = walk("S0", days=300)
    values = series.values_NF.copy()
    values[100:] *= 0.5
    labels = series.timestamps_N.copy()
    labels[200:] += np.timedelta64(30, "D")
    runs = unbroken_runs(TrainingSeries("S0", labels, values), DATA)
    assert [len(run) for run in runs] == [100, 100, 100]


def test_excluded_symbols_are_left_out() -> None:
    settings = DATA.model_copy(update={"exclude_symbols": ("S1",), "held_out_share": 0.0})
    split = split_series(SERIES, settings, WINDOWS)
    assert {run.symbol for run in split.train.runs} == {f"S{i}" for i in range(12) if i != 1}


def test_a_split_without_training_windows_says_so() -> None:
    with pytest.raises(TrainingError, match="no unbroken run of 40 bars"):
        split_series([walk("S0", start="2015-12-10")], DATA, WINDOWS)


def test_a_split_without_validation_dates_says_so() -> None:
    with pytest.raises(TrainingError, match="nothing to validate on"):
        split_series([walk("S0", days=368)], DATA, WINDOWS)


def test_simulated_share_without_simulated_windows_says_so() -> None:
    split = split_series(SERIES, DATA, WINDOWS)
    with pytest.raises(TrainingError, match="simulated"):
        WindowPlan(split, seed=0, batch_size=4, simulated_share=0.5, windows=WINDOWS)


def predictor_settings(**changes: Any) -> dict[str, Any]:
    return {
        "seed": 1,
        "model": {
            "s1_bits": 4, "s2_bits": 4, "n_layers": 1, "d_model": 16, "n_heads": 2, "ff_dim": 16,
        },
        "data": DATA.model_dump(),
        "windows": WINDOWS.model_dump(),
        "optimiser": {"steps": 4, "batch_size": 2, "max_lr": 1e-3, "clip_norm": 3.0},
        **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sed": 1}, "sed"),
        ({"windows": {**WINDOWS.model_dump(), "horizon": 9}}, "purge_bars=8 is below"),
        ({"data": {**DATA.model_dump(), "validation_through": date(2015, 1, 1)}}, "not after"),
        ({"data": {**DATA.model_dump(), "simulated_share": 0.5}}, "go together"),
        ({"optimiser": {"steps": 0, "batch_size": 2, "max_lr": 1.0, "clip_norm": 1.0}}, "steps"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], told: str) -> None:
    PredictorTraining.model_validate(predictor_settings())
    with pytest.raises(ConfigError, match=told):
        PredictorTraining.model_validate(predictor_settings(**changes))


def test_training_may_not_use_the_seeds_of_demos_and_tests() -> None:
    assert SimulatedMarkets(seeds=(1000, 1999))
    with pytest.raises(ConfigError, match=r"seeds \[7\]"):
        SimulatedMarkets(seeds=(1000, 7))


@given(
    world=st.sampled_from([1, 2, 3, 4, 6]),
    step=st.integers(0, 10**6),
    weights=st.sampled_from(["length", "equal", "liquidity"]),
)
def test_ranks_take_slices_of_one_batch(world: int, step: int, weights: str) -> None:
    windows = WINDOWS.model_copy(update={"symbol_weights": weights})
    made_up = [dataclasses.replace(walk(f"M{i}"), simulated=True) for i in range(3)]
    split = split_series([*SERIES, *made_up], DATA, windows)
    plan = WindowPlan(
        split, seed=3, batch_size=12, simulated_share=0.25, windows=windows, world=world
    )
    whole = plan.batch(step)
    parts = [plan.batch(step, rank, world) for rank in range(world)]
    np.testing.assert_array_equal(np.concatenate([p.x_BTF for p in parts]), whole.x_BTF)
    assert sum((p.symbols for p in parts), ()) == whole.symbols
    assert sum(symbol.startswith("M") for symbol in whole.symbols) == 3


@pytest.mark.parametrize("weights", ["length", "equal", "liquidity"])
def test_symbols_are_drawn_by_their_weights(weights: str) -> None:
    short, long = walk("SHORT", start="2015-07-01", days=400), walk("LONG", start="2014-01-01")
    values = long.values_NF.copy()
    values[:, 5] = 9 * np.median(short.values_NF[:, 5])
    series = [short, TrainingSeries("LONG", long.timestamps_N, values)]
    windows = WindowSettings(lookbacks=(16,), horizon=8, symbol_weights=weights)
    data = DATA.model_copy(update={"held_out_share": 0.0})
    split = split_series(series, data, windows)
    plan = WindowPlan(split, seed=1, batch_size=50, simulated_share=0.0, windows=windows)
    drawn = [symbol for step in range(60) for symbol in plan.batch(step).symbols]
    share = drawn.count("LONG") / len(drawn)
    bars = {run.symbol: len(run) for run in split.train.runs}
    n = {symbol: bars[symbol] - 23 for symbol in bars}
    amounts = split.train.liquidity()
    liquid = np.sqrt(amounts["LONG"]) / sum(np.sqrt(a) for a in amounts.values())
    expected = {"length": n["LONG"] / sum(n.values()), "equal": 0.5, "liquidity": liquid}[weights]
    assert share == pytest.approx(expected, abs=0.03)


def test_test_targets_begin_after_purge_and_embargo() -> None:
    data = DATA.model_copy(
        update={
            "validation_through": date(2016, 6, 30),
            "test_through": date(2016, 11, 30),
            "embargo_bars": 5,
            "held_out_share": 0.0,
        }
    )
    split = split_series(SERIES, data, WINDOWS)
    day = np.timedelta64(1, "D")
    assert split.later.first_target == CUT + 13 * day
    assert split.test.first_target == np.datetime64("2016-07-01") + 13 * day
    assert max(run.timestamps_N[-1] for run in split.test.runs) == np.datetime64("2016-11-30")
    ends = [span.end for span in split.spans]
    assert [span.first for span in split.spans[1:]] > ends[:-1]


def test_overlapping_targets_are_an_error() -> None:
    spans = [
        TargetSpan("training", np.datetime64("2010-01-01"), np.datetime64("2016-01-01")),
        TargetSpan("validation", np.datetime64("2015-12-31"), np.datetime64("2016-06-01")),
    ]
    with pytest.raises(TrainingError, match="training up to 2015-12-31 and validation from 2015"):
        require_disjoint(spans)
    require_disjoint([spans[0], spans[1]._replace(first=np.datetime64("2016-01-01"))])
    with pytest.raises(ConfigError, match="the two overlap"):
        DataSettings(
            train_through=date(2015, 12, 31), validation_from=date(2015, 12, 1),
            validation_through=date(2016, 6, 30), purge_bars=8,
        )  # fmt: skip


def test_series_survive_the_way_through_files(tmp_path: Path) -> None:
    store_series(tmp_path, SERIES, "made up")
    for stored, one in zip(open_series(tmp_path), SERIES, strict=True):
        assert stored.symbol == one.symbol
        np.testing.assert_array_equal(stored.values_NF, one.values_NF)
        np.testing.assert_array_equal(stored.timestamps_N, one.timestamps_N)
        assert not stored.values_NF.flags.owndata
        assert stored.values_NF.flags.c_contiguous
    a, b = plan_of(SERIES), plan_of(open_series(tmp_path))
    for step in range(5):
        np.testing.assert_array_equal(a.batch(step).x_BTF, b.batch(step).x_BTF)
        np.testing.assert_array_equal(a.batch(step).stamp_BT, b.batch(step).stamp_BT)
    (tmp_path / "values.npy").write_bytes(b"cut short")
    with pytest.raises(TrainingError, match=r"values\.npy: damaged.*the next run builds it again"):
        open_series(tmp_path)


def test_coins_priced_in_millionths_are_trained_on_as_they_are_forecast() -> None:
    coin = walk("COIN")
    scale = np.array([1e-7] * 4 + [1.0, 1.0])
    small = TrainingSeries("COIN", coin.timestamps_N, coin.values_NF * scale)
    data = DATA.model_copy(update={"held_out_share": 0.0})
    batches = []
    for series in (coin, small):
        split = split_series([series], data, WINDOWS)
        plan = WindowPlan(split, seed=1, batch_size=8, simulated_share=0.0, windows=WINDOWS)
        batches.append(plan.batch(0))
    np.testing.assert_allclose(batches[1].x_BTF, batches[0].x_BTF, atol=1e-4)
