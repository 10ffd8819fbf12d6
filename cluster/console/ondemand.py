"""Forecasts on demand: requests in, rows of the forecast table out, many requests at a time.

Knows windows and forecasters; nothing of HTTP. One thread holds the models. Requests that wait
together and ask for the same settings are computed together, in the tiles of a nightly run, so that
the numbers are those of the nightly run and do not depend on who else asked.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import date
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl

from cluster.forecasting.batches import SERIES_PER_CALL, forecast_batch
from cluster.forecasting.weights import SharedWeights
from cluster.forecasting.work import Task, WindowJob
from forecaster.interface import SamplingParams
from forecaster.registry import LoadedModel, load_forecaster
from market.errors import CandlecastError, CheckpointError, ForecastInputError
from market.fields import FEATURES
from market.spec import StoreSpec

LINGER_S = 0.01
"""How long a batch waits for requests that come with its first one; again for each that does."""
LONGEST_LINGER_S = 0.05
ANSWER_S = 60.0
RUN = "on demand"


class BusyError(CandlecastError):
    """More requests wait than are allowed to."""


@dataclass(frozen=True)
class Ask:
    """How one window is to be forecast; windows that ask alike are computed together."""

    model: str
    spec: StoreSpec
    lookback: int
    horizon: int
    paths: int
    seed: int = 0
    sampling: SamplingParams = field(default_factory=SamplingParams)


class Made(NamedTuple):
    """Rows of one window."""

    steps: pl.DataFrame
    path_stats: pl.DataFrame
    model_id: str
    together: int
    """Windows computed with it."""


Compute = Callable[[Ask, Sequence[Task]], list[Made]]
"""One row of results per task, in order; raises what a forecast may raise."""


class Answer(Protocol):
    """A forecast to come."""

    def result(self, timeout: float | None = None) -> Made:
        """Wait for it, so many seconds at most. Raises TimeoutError, and what a forecast may."""


class Forecasts(Protocol):
    """Where forecasts on demand come from: this process, or a cluster."""

    def submit(self, ask: Ask, task: Task) -> Answer:
        """Ask for one. Raises BusyError where too many wait already."""

    def close(self) -> None:
        """Let go of what works in the background."""


@dataclass(frozen=True)
class Shipped:
    """The default model as another process gets it."""

    weights: SharedWeights | None
    """None for what every process loads by name."""
    trained_through: date | None
    model_id: str


class LocalModels:
    """Models in this process, loaded on first use and kept."""

    def __init__(
        self,
        names: Sequence[str],
        tokenizer: str | None = None,
        *,
        device: str = "cpu",
        shipped: Shipped | None = None,
    ) -> None:
        """names: those that may be asked for; the first may need a tokenizer of its own.

        device: as torch names it. shipped: the first model, loaded by another process.
        """
        self.names = tuple(dict.fromkeys(names))
        self._tokenizer, self._device, self._shipped = tokenizer, device, shipped
        self._loaded: dict[str, LoadedModel] = {}

    def load(self, name: str) -> LoadedModel:
        """Raises ForecastInputError for a name that is not served."""
        if name not in self.names:
            raise ForecastInputError(
                f"model {name[:60]!r} is not served here; served are {', '.join(self.names)}"
            )
        if name not in self._loaded:
            first = name == self.names[0]
            if first and self._shipped is not None:
                self._loaded[name] = self._unpacked(name, self._shipped)
            else:
                tokenizer = self._tokenizer if first else None
                self._loaded[name] = load_forecaster(name, tokenizer, self._device)
        return self._loaded[name]

    def _unpacked(self, name: str, shipped: Shipped) -> LoadedModel:
        if shipped.weights is None:
            loaded = load_forecaster(name, self._tokenizer, self._device)
        else:
            with shipped.weights.unpacked() as (tokenizer, model):
                loaded = load_forecaster(
                    model, tokenizer, self._device, max_context=shipped.weights.max_context,
                    threads=1,
                )  # fmt: skip
        if loaded.forecaster.model_id != shipped.model_id:
            raise CheckpointError(
                f"{name}: a replica loaded other weights ({loaded.forecaster.model_id}) than the "
                f"console ({shipped.model_id}); install the same packages on every node"
            )
        return replace(loaded, name=name, trained_through=shipped.trained_through)

    def __call__(self, ask: Ask, tasks: Sequence[Task]) -> list[Made]:
        return forecast_windows(self.load(ask.model), ask, tasks)


def forecast_windows(loaded: LoadedModel, ask: Ask, tasks: Sequence[Task]) -> list[Made]:
    """Rows of every window, in order. Raises ForecastInputError where one cannot be forecast."""
    job = WindowJob(
        run_id=RUN,
        model_id=loaded.forecaster.model_id,
        trained_through=loaded.trained_through,
        cutoff_unknown=loaded.cutoff_unknown,
        spec=ask.spec,
        lookback=ask.lookback,
        horizon=ask.horizon,
        paths=ask.paths,
        sampling=ask.sampling,
        seed=ask.seed,
        keep_paths=False,
    )
    batch_BLF = np.empty((SERIES_PER_CALL, ask.lookback, len(FEATURES)))
    made: list[Made] = []
    for first in range(0, len(tasks), SERIES_PER_CALL):
        part = tasks[first : first + SERIES_PER_CALL]
        notes, frames = forecast_batch(loaded.forecaster, job, part, batch_BLF)
        failed = next((note for note in notes if note.error is not None), None)
        if failed is not None:
            raise ForecastInputError(f"{failed.symbol}: {failed.error}")
        for k in range(len(part)):
            rows = slice(k * ask.horizon, (k + 1) * ask.horizon)
            made.append(
                Made(frames["steps"][rows], frames["path_stats"][k], job.model_id, len(tasks))
            )
    return made


class _Waiting(NamedTuple):
    ask: Ask
    task: Task
    result: Future[Made]


class OnDemand:
    """The queue before the models, and the thread that empties it."""

    def __init__(self, compute: Compute, most: int) -> None:
        """most: requests that may wait."""
        self._compute = compute
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(most)
        self._thread = threading.Thread(target=self._work, name="forecasts", daemon=True)
        self._thread.start()

    def submit(self, ask: Ask, task: Task) -> Future[Made]:
        """A forecast to come. Raises BusyError where too many wait already."""
        result: Future[Made] = Future()
        try:
            self._queue.put_nowait(_Waiting(ask, task, result))
        except queue.Full:
            raise BusyError("too many forecasts are waited for; try again in a moment") from None
        return result

    def close(self) -> None:
        """End the thread after what waits now."""
        self._queue.put(None)
        self._thread.join(ANSWER_S)

    def _work(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._gather()
            asked: dict[Ask, list[_Waiting]] = {}
            for each in batch:
                if each.result.set_running_or_notify_cancel():
                    asked.setdefault(each.ask, []).append(each)
            for ask, together in asked.items():
                self._answer(ask, together)

    def _gather(self) -> tuple[list[_Waiting], bool]:
        """Who waits now, and who comes at the same time."""
        first = self._queue.get()
        if first is None:
            return [], False
        batch, until = [first], time.monotonic() + LONGEST_LINGER_S
        while len(batch) < SERIES_PER_CALL:
            left = min(LINGER_S, until - time.monotonic())
            try:
                each = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if each is None:
                return batch, False
            batch.append(each)
        return batch, True

    def _answer(self, ask: Ask, together: list[_Waiting]) -> None:
        try:
            made = self._compute(ask, [each.task for each in together])
        except Exception as error:
            if len(together) > 1:  # one of them is at fault: each by itself
                for each in together:
                    self._answer(ask, [each])
                return
            together[0].result.set_exception(error)
            return
        for each, result in zip(together, made, strict=True):
            each.result.set_result(result)
