"""The calibration on whole bars: legal, in agreement, and the same in any batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forecaster import SamplePaths, SamplingParams, WindowBatch, summarise
from forecaster.baselines import FilteredHistorical, RandomWalk
from forecaster.calibration import Calibration, Fitted, calibrated_paths
from forecaster.calibration.fit import identity
from forecaster.calibration.paths import around_closes, bar_volatility, log_closes
from forecaster.repair import FLOOR, repair
from tests.forecaster.conftest import random_windows

PATHS, HORIZON = 24, 6


@pytest.fixture
def windows() -> WindowBatch:
    return random_windows(5, 80, HORIZON)


@pytest.fixture
def raw(windows: WindowBatch) -> SamplePaths:
    return RandomWalk().sample_paths(windows, n_paths=PATHS, sampling=SamplingParams(), seed=3)


def fitted(published: str = "calibrated", **changes: object) -> Fitted:
    base = identity((1, 2, 3, 6)).as_dict()
    made = Calibration.from_dict(base | changes)
    return Fitted(published, "as asked", 80, "2020-01-01", "2020-06-01", "hash", {}, made)


CHANGES: dict[str, object] = {
    "mean_factor": [0.2] * 4, "model_share": 0.5, "spread_factor": [1.4, 1.3, 1.2, 1.1],
    "memory": 0.4, "weights": [0.4, 0.4, 0.2], "adaptive": 0.1,
    "up_factor": [0.3] * 4, "up_share": [0.53] * 4,
}  # fmt: skip


def test_calibrated_bars_are_legal_and_everything_agrees(
    windows: WindowBatch, raw: SamplePaths
) -> None:
    out = calibrated_paths(raw, windows, fitted(**CHANGES), seed=3)
    _, changed = repair(out.values_BSHF, out.last_close_B)
    assert not changed.any()
    assert not np.array_equal(out.values_BSHF, raw.values_BSHF)
    summary = summarise(out)
    up = (out.values_BSHF[..., 3] > out.last_close_B[:, None, None]).mean(axis=1)
    np.testing.assert_allclose(summary.p_up_BH, up)
    assert (abs(summary.p_up_BH - 0.53) < abs(summarise(raw).p_up_BH - 0.53) + 0.15).all()


def test_a_series_is_calibrated_alike_in_any_batch(windows: WindowBatch, raw: SamplePaths) -> None:
    whole = calibrated_paths(raw, windows, fitted(**CHANGES), seed=3)
    for row in range(len(windows)):
        rows = np.array([row])
        alone = calibrated_paths(raw.rows(rows), windows.rows(rows), fitted(**CHANGES), seed=3)
        assert np.array_equal(alone.values_BSHF[0], whole.values_BSHF[row])


def test_the_identity_leaves_bars_where_they_are(windows: WindowBatch, raw: SamplePaths) -> None:
    out = calibrated_paths(raw, windows, fitted(), seed=3)
    np.testing.assert_allclose(out.values_BSHF, raw.values_BSHF, rtol=2e-6)


def test_raw_and_baselines_are_published_as_they_are(
    windows: WindowBatch, raw: SamplePaths
) -> None:
    assert calibrated_paths(raw, windows, fitted("raw"), seed=3) is raw
    out = calibrated_paths(raw, windows, fitted("fhs"), seed=3)
    direct = FilteredHistorical().sample_paths(
        windows, n_paths=PATHS, sampling=SamplingParams(), seed=3
    )
    assert np.array_equal(out.values_BSHF, direct.values_BSHF)


def test_gaps_and_wicks_follow_the_spread(raw: SamplePaths) -> None:
    close = log_closes(raw).astype(np.float64)
    wide = around_closes(raw.values_BSHF, raw.last_close_B, 2 * close, np.full_like(close, 2.0))
    before, after = (np.log(v[..., :4].astype(np.float64)) for v in (raw.values_BSHF, wide))
    wick = before[..., 1] - np.maximum(before[..., 0], before[..., 3])
    new = after[..., 1] - np.maximum(after[..., 0], after[..., 3])
    np.testing.assert_allclose(new, 2 * wick, atol=1e-5)
    assert np.array_equal(wide[..., 4:], raw.values_BSHF[..., 4:])


def test_floored_members_do_not_rule_the_logs(raw: SamplePaths) -> None:
    values = raw.values_BSHF.copy()
    values[0, :2, 3:, :4] = raw.last_close_B[0] * FLOOR
    logs = log_closes(replace(raw, values_BSHF=values))
    assert logs[0].min() > -1
    assert np.array_equal(logs[1:], log_closes(raw)[1:])
    values[0, :, :, :4] = raw.last_close_B[0] * FLOOR
    assert np.isfinite(log_closes(replace(raw, values_BSHF=values))).all()


def test_volatility_is_known_at_the_end_of_the_lookback(windows: WindowBatch) -> None:
    changed = windows.values_BLF.copy()
    changed[:, -1, 3] *= 1.2
    before, after = bar_volatility(windows.values_BLF), bar_volatility(changed)
    assert (after > before).all()
    assert (bar_volatility(np.ones((2, 30, 6))) > 0).all()
