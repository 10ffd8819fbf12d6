"""Plug-ins that break a rule cost one line, and nobody else anything."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from backtest.weights.view import strategy_named
from forecaster import SamplingParams, known_models, load_forecaster
from forecaster.baselines import load_baseline
from market.errors import ConfigError, ForecastInputError
from market.sources.protocol import find_source
from tests.candlecast.plugins import forecast, forget, some_windows

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
