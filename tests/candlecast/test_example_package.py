"""The example package, installed and used by name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import candlecast as cc
from candlecast.backtests import Backtest
from cluster.evaluation.sources import beside
from cluster.forecasting.isolation import Pass
from cluster.forecasting.work import ReplicaJob
from forecaster import SamplingParams, known_models, load_forecaster
from forecaster.baselines import known_baselines
from forecaster.calibration import Fitted, calibrated_paths
from forecaster.registry import resolve_model
from market.errors import CheckpointError
from market.flags import Flag
from market.lake.history import MarketHistory
from market.sources.protocol import Request, import_source
from market.spec import Label, StoreSpec
from market.storage import Folder
from tests.candlecast.plugins import forecast, forget, some_windows

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "candlecast-example"
KEYS = {"t": "timestamp", "o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package, built and installed by pip into a folder of its own, offline."""
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg*"))
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    how = ("--no-deps", "--no-build-isolation", "--no-index", "--target", folder / "site")
    command = list(map(str, (*pip, *how, folder / "source")))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def example(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package can be found; nothing of it is imported yet."""
    monkeypatch.syspath_prepend(str(site))
    forget("candlecast_example")
    return site


def test_names_are_listed_without_loading(example: Path) -> None:
    models, baselines = known_models(), known_baselines()
    assert models["example-ar"] == "of package candlecast-example 0.1.0"
    assert models["example-laplace"].startswith("baseline: of package candlecast-example")
    assert "example-laplace" in baselines
    assert "example-ar" not in baselines
    assert next(iter(baselines)) == "random-walk"
    assert not any(name.startswith("candlecast_example") for name in sys.modules)


def test_the_source_fetches_into_a_store(example: Path, tmp_path: Path, bars: pl.DataFrame) -> None:
    chosen = bars["symbol"].unique().sort().to_list()[:2]
    for (symbol,), part in bars.group_by("symbol"):
        dated = part.with_columns(pl.col("timestamp").dt.date().cast(pl.String))
        rows = dated.select(**KEYS).to_dicts()
        (tmp_path / f"{symbol}.json").write_text(json.dumps(rows))
    days = bars["timestamp"].dt.date().unique().sort()
    request = Request(tuple(chosen), days[10], days[-2])
    import_source(f"example-json:{tmp_path}", request, tmp_path / "store")
    history = MarketHistory.open(tmp_path / "store")
    stored = history.scan().collect().sort("symbol", "session")
    assert history.spec.venue == "XNYS"
    expected = bars.filter(
        pl.col("symbol").is_in(chosen)
        & pl.col("timestamp").dt.date().is_between(days[10], days[-2])
    )
    assert stored["close"].to_list() == expected["close"].to_list()
    missing = Request(("NONE",), days[10])
    with pytest.raises(cc.CandlecastError, match=r"example-json: .*NONE\.json cannot be read"):
        import_source(f"example-json:{tmp_path}", missing, tmp_path / "store")


@pytest.mark.parametrize("model", ["example-ar", "example-laplace"])
def test_forecasts_by_name(example: Path, bars: pl.DataFrame, model: str) -> None:
    rows = forecast(bars, model)
    assert rows["model_id"].unique().to_list() == [load_forecaster(model).forecaster.model_id]
    days = bars["timestamp"].dt.date().unique().sort()
    alone = forecast(bars, model, symbols=rows["symbol"][0])
    assert (
        rows.filter(pl.col("symbol") == rows["symbol"][0])
        .drop("run_id")
        .equals(alone.drop("run_id"))
    )
    changed = bars.with_columns(
        pl.when(pl.col("timestamp").dt.date() > days[-20])
        .then(pl.col(pl.Float64) * 3)
        .otherwise(pl.col(pl.Float64))
    )
    early = [forecast(each, model, as_of=days[-20]) for each in (bars, changed)]
    assert early[0].equals(early[1])
    assert forecast(bars, model, seed=1)["run_id"][0] != rows["run_id"][0]


def test_the_model_says_how_far_it_was_trained(example: Path, bars: pl.DataFrame) -> None:
    model = load_forecaster("example-ar")
    assert (model.trained, model.trained_through) == (True, date(2014, 12, 31))
    baseline = load_forecaster("example-laplace")
    assert (baseline.trained, baseline.cutoff_unknown) == (False, False)
    assert bars["timestamp"].dt.date().max() < model.trained_through
    for name, seen in (("example-ar", Flag.IN_SAMPLE), ("example-laplace", 0)):
        flags = forecast(bars, name)["flags"]
        assert set(flags & int(Flag.IN_SAMPLE)) == {int(seen)}
    with pytest.raises(CheckpointError, match="example-ar needs none; leave it out"):
        load_forecaster("example-ar", "somewhere")
    with pytest.raises(CheckpointError, match="example-ar: has no tokenizer and predictor"):
        resolve_model("example-ar")


def test_the_baseline_is_one_of_those_compared_with(example: Path) -> None:
    windows = some_windows()
    ours, theirs = beside(("random-walk", "example-laplace"), windows, 200, exact=True)
    assert theirs.name == "example-laplace"
    assert theirs.baseline
    spread = [float(np.std(each.members_NSH[..., 0])) for each in (ours, theirs)]
    assert spread[1] == pytest.approx(spread[0], rel=0.2)


def test_the_baseline_is_published_where_it_did_best(example: Path) -> None:
    windows = some_windows()
    raw, own = (
        load_forecaster(name).forecaster.sample_paths(
            windows, n_paths=8, sampling=SamplingParams(), seed=3
        )
        for name in ("random-walk", "example-laplace")
    )
    best = Fitted("example-laplace", "did best", 80, None, None, "hash", {}, None)
    assert (calibrated_paths(raw, windows, best, seed=3).values_BSHF == own.values_BSHF).all()


def test_workers_load_by_name(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster.forecasting.replica import _load
    from cluster.forecasting.weights import shared_weights

    loaded = load_forecaster("example-ar")
    assert shared_weights(loaded) is None
    job = ReplicaJob(
        run_id="run",
        model_id=loaded.forecaster.model_id,
        trained_through=loaded.trained_through,
        cutoff_unknown=loaded.cutoff_unknown,
        spec=StoreSpec("XNYS", "1d", "America/New_York", Label.END, "raw"),
        lookback=48,
        horizon=5,
        paths=4,
        sampling=SamplingParams(),
        seed=0,
        keep_paths=False,
        model="example-ar",
        tokenizer=None,
        precision="float32",
        overflow="trim",
        memory_mb=None,
        repair=True,
        anchor=True,
        staging=Folder(tmp_path),
        device="cpu",
        submission=Pass.first(),
    )
    assert _load(job, None).model_id == job.model_id
    with pytest.raises(CheckpointError, match="install the same packages on every node"):
        _load(replace(job, model_id="example-ar-of-another-version"), None)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(example)])
    with pytest.raises(CheckpointError, match="example-ar: no package of this worker offers"):
        _load(job, None)


def test_the_strategy_in_a_backtest(example: Path, bars: pl.DataFrame) -> None:
    made = cc.backtest(bars, strategy={"plugin": "example-trend"}, venue="XNYS")
    assert isinstance(made, Backtest)
    assert made.result.settings.strategy.plugin == "example-trend"
    assert len(made.orders) > 0
