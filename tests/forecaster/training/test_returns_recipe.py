"""Training in return space: what windows are turned into, and what the trained pair samples."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from forecaster import KronosForecaster, KronosTokenizer, SamplingParams
from forecaster.interface import CLOSE, WindowBatch
from forecaster.kronos import Kronos
from forecaster.returns import AMOUNT, HIGH, LOW, OPEN, VOLUME
from forecaster.training import train_predictor, train_tokenizer, training_series
from forecaster.training.config import CoarserBars, DataSettings, TrainingError, WindowSettings
from forecaster.training.data.batches import WindowPlan
from forecaster.training.data.pools import TrainingSeries, merged
from forecaster.training.data.splits import split_series
from forecaster.training.simulations import SimulatedMarkets, SimulatedProcesses
from market.errors import CheckpointError
from tests.forecaster.conftest import small_tokenizer
from tests.forecaster.training.test_run import predictor_settings, tokenizer_settings

PROCESSES = SimulatedProcesses(seeds=(1501,), daily_series=5, intraday_series=1, n_bars=400)
MARKET = SimulatedMarkets(
    seeds=(1500,), n_symbols=5, n_sessions=400, start=date(2015, 1, 2), processes=PROCESSES
)
DATA = DataSettings(
    train_through=date(2015, 12, 31), validation_through=date(2016, 7, 29), purge_bars=8
)


@pytest.fixture(scope="module")
def series() -> list[TrainingSeries]:
    """Five symbols that count as real, and all that is simulated."""
    made = training_series([], MARKET)
    real = [TrainingSeries(s.symbol, s.timestamps_N, s.values_NF) for s in made[:5]]
    return real + made


def plan_of(series: list[TrainingSeries], windows: WindowSettings, **options: float) -> WindowPlan:
    data = DATA
    if options:
        data = DATA.model_copy(update={"coarser": CoarserBars(bars=(2, 5), share=0.5)})
    split = split_series([s for s in series if not s.simulated], data, windows)
    return WindowPlan(
        split, seed=3, batch_size=6, simulated_share=0.0, windows=windows, features="returns",
        **options,  # type: ignore[arg-type]
    )  # fmt: skip


def test_mirrored_windows_are_the_same_windows_turned_around(series: list[TrainingSeries]) -> None:
    plain = WindowSettings(lookbacks=(32,), horizon=8)
    turned = plain.model_copy(update={"mirrored_share": 1.0})
    one, other = (plan_of(series, each).batch(4) for each in (plain, turned))
    assert one.symbols == other.symbols
    assert np.allclose(other.x_BTF[..., [OPEN, CLOSE]], -one.x_BTF[..., [OPEN, CLOSE]], atol=1e-4)
    assert np.allclose(other.x_BTF[..., [HIGH, LOW]], one.x_BTF[..., [LOW, HIGH]], atol=1e-4)
    assert np.allclose(other.x_BTF[..., [VOLUME, AMOUNT]], one.x_BTF[..., [VOLUME, AMOUNT]], 1e-4)


def test_a_mirrored_share_has_no_direction(series: list[TrainingSeries]) -> None:
    half = WindowSettings(lookbacks=(32,), horizon=8, mirrored_share=0.5)
    plan, plain = plan_of(series, half), plan_of(series, WindowSettings(lookbacks=(32,), horizon=8))
    same = [
        np.isclose(plan.batch(k).x_BTF[b, 5, CLOSE], plain.batch(k).x_BTF[b, 5, CLOSE], atol=1e-5)
        for k in range(30)
        for b in range(6)
    ]
    assert 0.35 < np.mean(same) < 0.65


def test_a_shifted_calendar_keeps_weekday_and_time_of_day(series: list[TrainingSeries]) -> None:
    plain = WindowSettings(lookbacks=(32,), horizon=8)
    shifted = plain.model_copy(update={"shift_calendar": True})
    one, other = (plan_of(series, each).batch(2) for each in (plain, shifted))
    assert np.array_equal(one.x_BTF, other.x_BTF)
    assert np.array_equal(one.stamp_BT[..., :3], other.stamp_BT[..., :3])
    assert not np.array_equal(one.stamp_BT[..., 3:], other.stamp_BT[..., 3:])


@pytest.mark.parametrize("world", [2, 3])
def test_workers_share_out_one_batch(series: list[TrainingSeries], world: int) -> None:
    windows = WindowSettings(lookbacks=(16,), horizon=8, mirrored_share=0.5, shift_calendar=True)
    plan = plan_of(series, windows, coarser_share=0.5)
    whole = plan.batch(7)
    parts = [plan.batch(7, rank, world) for rank in range(world)]
    assert np.array_equal(np.concatenate([p.x_BTF for p in parts]), whole.x_BTF)
    assert np.array_equal(np.concatenate([p.stamp_BT for p in parts]), whole.stamp_BT)


def test_longer_bars_hold_the_shorter_ones(series: list[TrainingSeries]) -> None:
    days = series[0]
    weeks = merged(days, 5)
    assert len(weeks) == len(days) // 5
    for k in (0, 7, len(weeks) - 1):
        part, bar = days.values_NF[5 * k : 5 * k + 5], weeks.values_NF[k]
        assert bar[OPEN] == part[0, OPEN]
        assert bar[CLOSE] == part[-1, CLOSE]
        assert bar[HIGH] == part[:, HIGH].max()
        assert bar[LOW] == part[:, LOW].min()
        assert bar[VOLUME] == pytest.approx(part[:, VOLUME].sum())
        assert weeks.timestamps_N[k] == days.timestamps_N[5 * k + 4]


def test_longer_bars_are_made_of_training_bars_alone(series: list[TrainingSeries]) -> None:
    data = DATA.model_copy(update={"coarser": CoarserBars(bars=(2, 5), share=0.5)})
    real = [s for s in series if not s.simulated]
    split = split_series(real, data, WindowSettings(lookbacks=(16,), horizon=8))
    assert split.coarser.runs
    cut = np.datetime64("2016-01-01")
    assert all((run.timestamps_N < cut).all() for run in split.coarser.runs)
    starts = {run.values_NF[0, OPEN] for run in split.coarser.runs if run.symbol == "SIM002"}
    assert len(starts) == 5, "two-day bars begin at two offsets, weeks at five"


def test_lookbacks_that_fit_no_longer_bars_draw_shorter_ones(series: list[TrainingSeries]) -> None:
    windows = WindowSettings(lookbacks=(200,), horizon=8)
    batch = plan_of(series, windows, coarser_share=0.5).batch(0)
    assert len(batch.symbols) == 6


def test_processes_are_simulated_beside_the_markets(series: list[TrainingSeries]) -> None:
    names = {s.symbol for s in series if s.simulated}
    assert sum(name.startswith("PROCESS1501-1x") for name in names) == 5
    assert {name.split("-")[1] for name in names if name.startswith("PROCESS")} >= {"288x5", "7x60"}


def test_a_trained_pair_samples_legal_bars_from_the_last_close(
    series: list[TrainingSeries], tmp_path: Path
) -> None:
    model = tokenizer_settings().model
    assert model is not None
    returns = model.model_dump() | {"features": "returns"}
    extra = {
        "lookbacks": [40], "horizon": 8, "validation_horizon": 8,
        "mirrored_share": 0.5, "shift_calendar": True,
    }  # fmt: skip
    train_tokenizer(
        tokenizer_settings(model=returns, windows=extra), series, tmp_path / "tokenizer"
    )
    train_predictor(
        predictor_settings(windows=extra), tmp_path / "tokenizer", series, tmp_path / "predictor"
    )
    config = json.loads((tmp_path / "tokenizer" / "config.json").read_text())
    assert config["features"] == "returns"
    forecaster = KronosForecaster(
        KronosTokenizer.from_pretrained(tmp_path / "tokenizer"),
        Kronos.from_pretrained(tmp_path / "predictor"),
    )
    values = np.stack([s.values_NF[100:140] for s in series[:3]])
    labels = np.stack([s.timestamps_N[100:140] for s in series[:3]])
    windows = WindowBatch(
        symbols=("A", "B", "C"),
        as_of_B=labels[:, -1],
        values_BLF=values,
        timestamps_BL=labels,
        future_BH=labels[:, -1:] + np.arange(1, 13) * np.timedelta64(1, "D"),
    )
    sampling = SamplingParams(top_p=1.0)
    paths = forecaster.sample_paths(windows, n_paths=16, sampling=sampling, seed=1)
    bars = paths.values_BSHF
    assert (bars[..., :VOLUME] > 0).all()
    assert (bars[..., HIGH] >= np.maximum(bars[..., OPEN], bars[..., CLOSE])).all()
    assert (bars[..., LOW] <= np.minimum(bars[..., OPEN], bars[..., CLOSE])).all()
    assert paths.repaired_B.sum() == 0
    unit = paths.scale_BF[:, None, CLOSE]
    gap = np.abs(bars[:, :, 0, OPEN] - paths.last_close_B[:, None])
    assert np.median(gap / unit) < 1.5, "the first open is near the last close"
    alone = forecaster.sample_paths(
        windows.rows(np.array([1])), n_paths=16, sampling=sampling, seed=1
    )
    assert np.array_equal(alone.values_BSHF[0], bars[1])


def test_configs_without_the_key_are_of_levels() -> None:
    levels = small_tokenizer()
    assert levels.features == "levels"
    assert "features" not in levels.config
    assert small_tokenizer(features="returns").config["features"] == "returns"


def test_unknown_features_are_an_error(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"features": "prices"}))
    with pytest.raises(CheckpointError, match="features='prices': must be one of levels, returns"):
        KronosTokenizer.from_pretrained(tmp_path)


def test_features_are_part_of_what_from_must_agree_with(
    series: list[TrainingSeries], tmp_path: Path
) -> None:
    small = tokenizer_settings().model
    assert small is not None
    KronosTokenizer(**small.model_dump()).save_pretrained(tmp_path / "base")
    asked = tokenizer_settings(model=small.model_dump() | {"features": "returns"})
    with pytest.raises(TrainingError, match="features=levels"):
        train_tokenizer(asked, series, tmp_path / "out", start_from=tmp_path / "base")
    train_tokenizer(tokenizer_settings(), series, tmp_path / "out", start_from=tmp_path / "base")
