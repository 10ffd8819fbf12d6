"""`candlecast train walkforward`: every forecast comes from a model that had not seen its date."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cluster.settings import load_settings
from cluster.training.walkforward import plan_folds
from cluster.training.walkforward_settings import WalkForwardSettings
from market.errors import BacktestInputError, StoreError
from market.lake.history import MarketHistory
from market.synthetic import SimulatorParams, simulate_market
from market.table.forecasts import ForecastTable
from market.table.walkforwards import WalkForwardRecord
from tests.cluster.conftest import Outcome, make_store

SETTINGS: dict[str, Any] = {
    "base_trained_through": "2013-12-31",
    "train_sessions": 150,
    "validation_sessions": 30,
    "test_sessions": 60,
    "end": "2015-07-15",
    "training": {
        "windows": {"lookbacks": [24], "horizon": 4, "validation_horizon": 4},
        "optimiser": {"steps": 6, "batch_size": 4, "max_lr": 1e-4, "clip_norm": 3.0},
        "run": {"log_every": 2, "validate_every": 6, "validation_windows": 8},
    },
    "forecast": {"every": "monthly", "lookback": 24, "horizon": 4, "paths": 4, "replicas": 1},
}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walk") / "store"
    params = SimulatorParams(seed=6, n_symbols=6, n_sessions=420, start=date(2014, 6, 2))
    make_store(folder, simulate_market(params))
    return folder


def settings_of(market: Path, root: Path, model: str, **changes: Any) -> dict[str, Any]:
    places = {"store": str(market), "out": str(root / "table"), "runs": str(root / "runs")}
    pair = {"base": f"{model}/predictor", "tokenizer": f"{model}/tokenizer"}
    return {**SETTINGS, **places, **pair, **changes}


def test_folds_forecast_only_what_they_have_not_seen_and_a_backtest_trades_them(
    candlecast: Callable[..., Outcome], local_ray: None, market: Path, model: str, tmp_path: Path
) -> None:
    config = tmp_path / "w.yaml"
    config.write_text(yaml.safe_dump(settings_of(market, tmp_path, model)))
    made = candlecast("train", "walkforward", "--config", config)
    assert made.code == 0, made.err
    file = tmp_path / "runs" / "walkforward.json"
    record = WalkForwardRecord.read(file)
    assert record.finished
    assert len(record.folds) == 2
    assert len({fold.model_id for fold in record.folds}) == 2
    rows = ForecastTable(tmp_path / "table").scan().collect()
    for fold in record.folds:
        assert fold.train_through < fold.validation_through < fold.first_as_of
        assert fold.trained_through < fold.first_as_of
        own = rows.filter(pl.col("run_id") == fold.run_id)
        assert own["as_of_date"].min() == fold.first_as_of
        assert own["model_id"].unique().to_list() == [fold.model_id]
    assert record.folds[0].last_as_of < record.folds[1].first_as_of

    traded = candlecast(
        "backtest", "--store", market, "--forecasts", tmp_path / "table", "--walkforward", file,
        "--k", 2, "--report", tmp_path / "t.html",
    )  # fmt: skip
    assert traded.code == 0, traded.err
    assert "IN-SAMPLE" not in traded.out
    assert record.id in (tmp_path / "t.html").read_text()

    # Killed between the second fold's forecasts and its line in the record:
    record.model_copy(update={"folds": record.folds[:1], "finished": False}).write(file)
    again = candlecast("train", "walkforward", "--config", config)
    assert again.code == 0, again.err
    assert "fold 1 of 2: done" in again.out
    assert WalkForwardRecord.read(file) == record
    assert rows.equals(ForecastTable(tmp_path / "table").scan().collect())

    other = candlecast("train", "walkforward", "--config", config, "--workers", 2)
    assert other.code == 2
    assert "other settings, base or bars" in other.err
    lying = record.folds[1].model_copy(update={"trained_through": record.folds[1].first_as_of})
    broken = record.model_copy(update={"folds": (record.folds[0], lying)})
    with pytest.raises(StoreError, match="had seen bars up to"):
        broken.select(ForecastTable(tmp_path / "table").scan())
    gone = record.folds[1].model_copy(update={"run_id": "no-such-run"})
    with pytest.raises(StoreError, match=r"fold 2 .* holds no row"):
        record.model_copy(update={"folds": (gone,)}).select(
            ForecastTable(tmp_path / "table").scan()
        )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"base_trained_through": None}, "does not say up to which date it was trained"),
        ({"base_trained_through": "2015-02-02"}, "it has seen what it would forecast"),
        ({"base": "small", "tokenizer": None}, "trained through 2025-08-02"),
        ({"train_sessions": 1000}, "Choose a shorter training span"),
        ({"validation_sessions": 7}, "need 8 or more"),
        ({"test_sessions": 1, "end": "2015-01-13"}, "no fold has a date to forecast from"),
    ],
)
def test_bad_input_is_one_line(
    candlecast: Callable[..., Outcome], market: Path, model: str, tmp_path: Path,
    changes: dict[str, Any], told: str,
) -> None:  # fmt: skip
    config = tmp_path / "w.yaml"
    config.write_text(yaml.safe_dump(settings_of(market, tmp_path, model, **changes)))
    made = candlecast("train", "walkforward", "--config", config)
    assert made.code == 2, made.out
    assert made.err.count("\n") == 1
    assert told in made.err
    assert not (tmp_path / "table").exists()


@given(
    train=st.integers(10, 200), validation=st.integers(8, 100), test=st.integers(1, 120),
    embargo=st.integers(0, 20), expanding=st.booleans(),
)  # fmt: skip
def test_what_folds_train_on_is_over_a_horizon_before_they_forecast(
    market: Path, model: str, train: int, validation: int, test: int, embargo: int, expanding: bool
) -> None:
    settings = WalkForwardSettings.model_validate(
        settings_of(
            market, Path("x"), model, train_sessions=train + validation,
            validation_sessions=validation, test_sessions=test, embargo=embargo,
            expanding=expanding, end=None,
        )
    )  # fmt: skip
    history = MarketHistory.open(market)
    sessions = history.sessions()
    horizon = settings.forecast.horizon
    try:
        plans = plan_folds(settings, history)
    except BacktestInputError:
        assert train + validation + horizon + embargo >= len(sessions)
        return
    for plan in plans:
        first = sessions.index(plan.first_as_of)
        assert first - sessions.index(plan.validation_through) > horizon + embargo
        assert plan.train_from < plan.train_through < plan.validation_through
    for before, after in itertools.pairwise(plans):
        assert before.last_as_of < after.first_as_of


def test_the_shipped_config_is_valid() -> None:
    shipped = Path(__file__).parents[3] / "configs" / "train" / "walkforward.yaml"
    settings = load_settings(shipped, WalkForwardSettings, {"store": "s"})
    assert settings.base == "nano"
