"""The example package, installed and used by name, and plug-ins that are broken."""

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
from backtest.weights.view import strategy_named
from candlecast.backtests import Backtest
from cluster.evaluation.sources import beside
from cluster.forecasting.isolation import Pass
from cluster.forecasting.work import ReplicaJob
from forecaster import SamplingParams, WindowBatch, known_models, load_forecaster
from forecaster.baselines import known_baselines, load_baseline
from forecaster.registry import resolve_model
from market.errors import CheckpointError, ConfigError, ForecastInputError
from market.lake.history import MarketHistory
from market.sources.protocol import Request, find_source, import_source
from market.spec import Label, StoreSpec
from market.storage import Folder

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


def forget(package: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]


def forecast(bars: pl.DataFrame, model: str, **more: object) -> pl.DataFrame:
    """Rows of the forecast table."""
    made = cc.forecast(bars, 5, model=model, paths=16, lookback=48, venue="XNYS", **more)
    assert made.model == model
    return made.steps.collect()


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


def test_the_model_says_how_far_it_was_trained(example: Path) -> None:
    model = load_forecaster("example-ar")
    assert (model.trained, model.trained_through) == (True, date(2014, 12, 31))
    baseline = load_forecaster("example-laplace")
    assert (baseline.trained, baseline.cutoff_unknown) == (False, False)
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


def some_windows() -> WindowBatch:
    rng = np.random.default_rng(3)
    close_BL = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, (6, 60)), axis=1))
    values = np.stack(
        [close_BL, close_BL * 1.01, close_BL * 0.99, close_BL, close_BL, close_BL], axis=-1
    )
    day = np.datetime64("2020-01-01T21:00", "us") + np.arange(65) * np.timedelta64(1, "D")
    return WindowBatch(
        symbols=tuple("ABCDEF"),
        as_of_B=np.repeat(day[59], 6),
        values_BLF=values,
        timestamps_BL=np.tile(day[:60], (6, 1)),
        future_BH=np.tile(day[60:], (6, 1)),
    )


BROKEN = '''
from datetime import datetime
import dataclasses
from forecaster.baselines import RandomWalk

class NoSource:
    """Lacks fetch."""
    defaults = None

class Dated(RandomWalk):
    name = "dated-1"
    trained_through = None

class Silent(RandomWalk):
    name = "silent-1"

class Moment(Dated):
    trained_through = datetime(2020, 1, 1)

class Nameless(Dated):
    @property
    def model_id(self): return ""

class Unreadable(Dated):
    @property
    def model_id(self): raise OSError("no weights here")

class Half:
    model_id, max_context, trained_through = "half-1", None, None

class Boundless(Dated):
    max_context = -1

class Short(Dated):
    def sample_paths(self, windows, *, n_paths, sampling, seed):
        made = super().sample_paths(windows, n_paths=n_paths, sampling=sampling, seed=seed)
        return dataclasses.replace(made, values_BSHF=made.values_BSHF[:, 1:])

class Infinite(Dated):
    def sample_paths(self, windows, *, n_paths, sampling, seed):
        made = super().sample_paths(windows, n_paths=n_paths, sampling=sampling, seed=seed)
        made.values_BSHF[2, 0, 0, 0] = float("inf")
        return made

class Turned(Dated):
    def sample_paths(self, windows, *, n_paths, sampling, seed):
        turned = windows.rows(slice(None, None, -1))
        return super().sample_paths(turned, n_paths=n_paths, sampling=sampling, seed=seed)

class Raising(Dated):
    def sample_paths(self, windows, **more):
        raise RuntimeError("two" + chr(10) + "lines")

def device_wanted(device):
    made = Dated()
    made.name = f"on-{device}"
    return made

def failing():
    raise RuntimeError("no licence")

GOOD = Dated()
number = 3
'''

POINTS = {
    "candlecast.sources": "gone = broken:Gone\nempty = broken:NoSource\nnumber = broken:number\n",
    "candlecast.strategies": "missing = no_such_module:decide\nnumber = broken:number\n",
    "candlecast.models": (
        "silent = broken:Silent\nmoment = broken:Moment\nnameless = broken:Nameless\n"
        "unreadable = broken:Unreadable\nhalf = broken:Half\nboundless = broken:Boundless\n"
        "short = broken:Short\ninfinite = broken:Infinite\nturned = broken:Turned\n"
        "raising = broken:Raising\ndevice = broken:device_wanted\nfailing = broken:failing\n"
        "good = broken:GOOD\nnumber = broken:number\nsyntax = broken_syntax:Model\n"
        "twice = broken:Dated\nnano = broken:failing\n"
    ),
    "candlecast.baselines": (
        "trained = broken:Trained\nours = forecaster.baselines:RandomWalk\n"
        "random-walk = broken:failing\n"
    ),
}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of plug-ins that each break a rule, and another that clashes with it."""
    (tmp_path / "broken.py").write_text(
        BROKEN + "\nclass Trained(Dated):\n    trained_through = datetime(2020, 1, 1).date()\n"
    )
    (tmp_path / "broken_syntax.py").write_text("def (:\n")
    for package, points in (
        ("broken", POINTS),
        ("other", {"candlecast.models": "twice = broken:Dated\n"}),
    ):
        folder = tmp_path / f"{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(
            "".join(f"[{group}]\n{lines}" for group, lines in points.items())
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    forget("broken")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("silent", "does not state trained_through"),
        ("moment", r"trained_through is datetime\.datetime"),
        ("nameless", "model_id is ''"),
        ("unreadable", "OSError: no weights here"),
        ("half", "has no numerics"),
        ("boundless", "max_context is -1"),
        ("failing", "cannot make a forecaster with broken:failing: RuntimeError: no licence"),
        ("number", "has no model_id"),
        ("syntax", "cannot load broken_syntax:Model: SyntaxError"),
        ("twice", r"broken 1\.0 and other 1\.0: is offered by both"),
        ("trained", "what was trained belongs to candlecast.models"),
        ("ours", "model_id is 'random-walk-1', which is random-walk's"),
    ],
)
@pytest.mark.usefixtures("broken")
def test_a_broken_model_is_one_line(model: str, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"^candlecast\.\w+: '{model}' of package .*{says}") as e:
        load_forecaster(model)
    assert "\n" not in str(e.value)


@pytest.mark.usefixtures("broken")
def test_broken_ones_break_no_others() -> None:
    assert load_forecaster("good").forecaster.model_id == "dated-1"
    assert load_forecaster("device", device="cuda:0").forecaster.model_id == "on-cuda:0"
    assert type(load_baseline("random-walk")).__name__ == "RandomWalk"
    assert known_models()["nano"].startswith("in the package")
    with pytest.raises(ConfigError, match="nobody: not a baseline; known are random-walk, "):
        load_baseline("nobody")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("short", r"paths of shape \(6, 3, 5, 6\), not \(6, 4, 5, 6\)"),
        ("infinite", "C: sampled a value that is not finite"),
        ("turned", "other symbols, or in another order"),
    ],
)
@pytest.mark.usefixtures("broken")
def test_paths_that_do_not_belong_are_refused(model: str, says: str) -> None:
    forecaster = load_forecaster(model).forecaster
    asked = {"n_paths": 4, "sampling": SamplingParams(), "seed": 0}
    with pytest.raises(ForecastInputError, match=rf"'{model}' of package broken 1\.0: .*{says}"):
        forecaster.sample_paths(some_windows(), **asked)
    with pytest.raises(ForecastInputError, match=says):
        list(forecaster.stream_paths(some_windows(), **asked))


@pytest.mark.usefixtures("broken")
def test_what_raises_while_it_forecasts_is_one_line(bars: pl.DataFrame) -> None:
    says = r"every forecast failed; .*'raising' of package broken 1\.0: .*RuntimeError: two lines$"
    with pytest.raises(ForecastInputError, match=says):
        forecast(bars, "raising")


@pytest.mark.usefixtures("broken")
def test_broken_sources_and_strategies_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"'gone' of package broken 1\.0: cannot load"):
        find_source("gone")
    with pytest.raises(ConfigError, match=r"'empty' of package broken 1\.0: has no fetch"):
        find_source("empty")
    with pytest.raises(ConfigError, match="cannot make a source of 'number:x': TypeError"):
        find_source("number:x")
    with pytest.raises(ConfigError, match="cannot load no_such_module:decide: ModuleNotFoundError"):
        strategy_named("missing")
    with pytest.raises(ConfigError, match=r"strategy\.plugin: number: is not a function"):
        strategy_named("number")
