"""What training may see: settings, splits that cannot leak, batches as functions of the step."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from forecaster.training.config import (
    DataSettings,
    PredictorTraining,
    SimulatedMarkets,
    TrainingError,
    WindowSettings,
)
from forecaster.training.plan import WindowPlan
from forecaster.training.splits import is_held_out, split_series
from forecaster.training.windows import TrainingSeries, unbroken_runs, validation_batches

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
        batches = validation_batches(pool, lookback=32, horizon=8, clip=5.0, count=50, size=7)
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
    with pytest.raises(ValidationError, match=told):
        PredictorTraining.model_validate(predictor_settings(**changes))


def test_training_may_not_use_the_seeds_of_demos_and_tests() -> None:
    assert SimulatedMarkets(seeds=(1000, 1999))
    with pytest.raises(ValidationError, match=r"seeds \[7\]"):
        SimulatedMarkets(seeds=(1000, 7))
