"""Forecasters that installed packages offer, checked when loaded and whenever they forecast.

Knows the Forecaster interface; no model of ours. Entry points of `candlecast.models` and
`candlecast.baselines` name a Forecaster, or a class or function that makes one: without arguments,
or with `device` where it has a parameter of that name.

Legend: B series, S paths, H horizon, F features.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np

from forecaster.interface import FixedWindow, Forecaster, SamplePaths, SamplingParams, WindowBatch
from market.errors import ForecastInputError
from market.fields import FEATURES
from market.plugins import Plugin

MODELS, BASELINES = "candlecast.models", "candlecast.baselines"
_MEMBERS = ("model_id", "max_context", "numerics", "sample_paths", "stream_paths")


@dataclass(frozen=True)
class PluginForecaster:
    """Somebody else's forecaster, whose paths are looked at before anybody uses them."""

    plugin: Plugin
    forecaster: Forecaster

    @property
    def model_id(self) -> str:
        return self.forecaster.model_id

    @property
    def max_context(self) -> int | None:
        return self.forecaster.max_context

    def numerics(self, n_paths: int, device: str | None = None) -> Mapping[str, object]:
        """Raises ConfigError for values that JSON cannot hold: they are part of the run's id."""
        with self.plugin.guarded("numerics()"):
            found = dict(self.forecaster.numerics(n_paths, device))
            json.dumps(found)
        return found

    def require_window(self, lookback: int, horizon: int) -> None:
        """What the forecaster says to these sizes, where it says anything."""
        if isinstance(self.forecaster, FixedWindow):
            self.forecaster.require_window(lookback, horizon)

    def sample_paths(
        self, windows: WindowBatch, *, n_paths: int, sampling: SamplingParams, seed: int
    ) -> SamplePaths:
        """Raises ForecastInputError for paths that do not belong to these windows."""
        with self.plugin.guarded("sample_paths()"):
            paths = self.forecaster.sample_paths(
                windows, n_paths=n_paths, sampling=sampling, seed=seed
            )
        return self._checked(paths, windows, n_paths)

    def stream_paths(
        self, windows: WindowBatch, *, n_paths: int, sampling: SamplingParams, seed: int
    ) -> Iterator[SamplePaths]:
        """`sample_paths` some series at a time, in order, with the same checks."""
        done = 0
        with self.plugin.guarded("stream_paths()"):
            for part in self.forecaster.stream_paths(
                windows, n_paths=n_paths, sampling=sampling, seed=seed
            ):
                own = windows.rows(slice(done, done + len(part)))
                yield self._checked(part, own, n_paths)
                done += len(own)
        if done != len(windows):
            raise self._wrong(f"stream_paths() gave {done} of {len(windows)} series")

    def _checked(self, paths: SamplePaths, windows: WindowBatch, n_paths: int) -> SamplePaths:
        if not isinstance(paths, SamplePaths):
            raise self._wrong(f"gave {type(paths).__name__} instead of SamplePaths")
        expected = (len(windows), n_paths, windows.horizon, len(FEATURES))
        if np.shape(paths.values_BSHF) != expected:
            raise self._wrong(
                f"gave paths of shape {np.shape(paths.values_BSHF)}, not {expected} (series, "
                "paths, horizon, features)"
            )
        if paths.symbols != windows.symbols:
            raise self._wrong("gave series of other symbols, or in another order")
        finite_B = np.isfinite(paths.values_BSHF).all(axis=(1, 2, 3))
        if not finite_B.all():
            symbol = windows.symbols[int(np.flatnonzero(~finite_B)[0])]
            raise self._wrong(f"{symbol}: sampled a value that is not finite")
        return paths

    def _wrong(self, text: str) -> ForecastInputError:
        return ForecastInputError(str(self.plugin.error(text)))


def load_plugin(plugin: Plugin, device: str = "cpu") -> PluginForecaster:
    """The forecaster behind an entry point.

    device: as torch names it; where paths will be computed. Raises ConfigError, one line, where it
    cannot be loaded or made, or lacks what the interface asks.
    """
    found: Any = plugin.load()
    with plugin.guarded("reading what it offers"):
        made = not inspect.isclass(found) and isinstance(found, Forecaster)
    if not made:
        if not callable(found):
            plugin.require(found, _MEMBERS)
        with plugin.guarded(f"cannot make a forecaster with {plugin.points[0].value}"):
            takes = inspect.signature(found).parameters
            found = found(device=device) if "device" in takes else found()
    plugin.require(found, _MEMBERS)
    named, context = found.model_id, found.max_context
    if not isinstance(named, str) or not named.strip():
        raise plugin.error(f"model_id is {named!r}; it must be a text that changes with the model")
    if context is not None and (not isinstance(context, int) or context < 1):
        raise plugin.error(f"max_context is {context!r}; it must be a number of bars, or None")
    return PluginForecaster(plugin, found)


def cutoff_of_plugin(made: PluginForecaster) -> date | None:
    """Up to which date a model saw bars; None where it says that this is not known.

    Raises ConfigError where it says nothing.
    """
    plugin = made.plugin
    if not hasattr(made.forecaster, "trained_through"):
        raise plugin.error(
            "does not state trained_through, the last date of its training bars (None where that "
            f"is not known); one that is not trained belongs to {BASELINES}"
        )
    through: object = made.forecaster.trained_through
    if through is None or (isinstance(through, date) and not isinstance(through, datetime)):
        return through
    raise plugin.error(f"trained_through is {through!r}; it must be a datetime.date or None")


def require_untrained(made: PluginForecaster, ours: Mapping[str, str]) -> PluginForecaster:
    """The same. ours: names of our baselines by model id.

    Raises ConfigError for a trained model among the baselines, all of whose dates would pass as
    out of sample, and for one that goes by the id of ours, whose rows it would replace.
    """
    if getattr(made.forecaster, "trained_through", None) is not None:
        raise made.plugin.error(f"states trained_through; what was trained belongs to {MODELS}")
    if made.model_id in ours:
        raise made.plugin.error(
            f"model_id is {made.model_id!r}, which is {ours[made.model_id]}'s; give it its own"
        )
    return made
