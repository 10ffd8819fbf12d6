"""Our own pipeline, from bars to equity, looks nowhere ahead; and bad requests are one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.audit.job import run_audit
from cluster.audit.memory import Memory
from cluster.audit.settings import AuditSettings
from forecaster import SamplingParams
from forecaster.baselines import RandomWalk
from market.errors import ForecastInputError
from market.lake.history import MarketHistory
from market.synthetic import SimulatorParams, simulate_market
from tests.cluster.conftest import make_store
from tests.forecaster.conftest import random_windows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "store"
    make_store(folder, simulate_market(SimulatorParams(seed=8, n_symbols=6, n_sessions=140)))
    return folder


def settings(store: Path, session: int) -> AuditSettings:
    as_of = str(MarketHistory.open(store).sessions()[session])
    return AuditSettings(
        store=store, as_of=as_of, model="random-walk", symbols=3, lookback=30, horizon=3, paths=4
    )


def test_nothing_looks_ahead_from_windows_to_equity(store: Path) -> None:
    found = run_audit(settings(store, 120))
    assert found.leaks == ()
    assert list(found.stages) == [
        "windows", "forecasts", "calibration", "scores", "orders", "equity",
    ]  # fmt: skip
    assert all(rows > 0 for rows in found.stages.values())
    assert len(found.poisons) == 6


@pytest.mark.parametrize("session", [60, 138])
def test_too_little_before_or_after_is_one_line(store: Path, session: int) -> None:
    with pytest.raises(ForecastInputError, match="an audit needs") as raised:
        run_audit(settings(store, session))
    assert "\n" not in str(raised.value)


def test_paths_that_are_remembered_are_those_of_the_window() -> None:
    windows, forecaster = random_windows(4, 40, 3), RandomWalk()
    memory = Memory(paths=5)
    memory.sampled(forecaster, windows.rows(np.array([1, 3])))
    changed = windows.values_BLF.copy()
    changed[3, -1] *= 1.01
    for each in (windows, replace(windows, values_BLF=changed)):
        made = memory.sampled(forecaster, each)
        asked = forecaster.sample_paths(each, n_paths=5, sampling=SamplingParams(), seed=0)
        assert made.symbols == asked.symbols
        assert (made.values_BSHF == asked.values_BSHF).all()
    assert len(memory.seen) == 5
