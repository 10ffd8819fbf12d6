"""The worker that holds a model: windows, paths, summaries, staging files. Knows no driver.

Everything random is keyed by (seed, symbol, as_of, path, step) inside the forecaster, so a shard
that runs twice, or in other company, gives the same rows.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from cluster.forecasting.activity import ShardTimes
from cluster.forecasting.batches import SERIES_PER_CALL, forecast_batch
from cluster.forecasting.counting import Counts
from cluster.forecasting.isolation import ShardNotes
from cluster.forecasting.staging import DateResult, Frames, SeriesNote, ShardFiles
from cluster.forecasting.stream import SymbolJob, jobs_of_block
from cluster.forecasting.weights import SharedWeights
from cluster.forecasting.work import ReplicaJob, Task
from forecaster.interface import Forecaster
from market.calendars import utc_datetime
from market.errors import CheckpointError
from market.fields import FEATURES
from market.windows import window_at


class Replica:
    """Holds tokenizer and predictor of one run; called with one shard's block at a time."""

    def __init__(self, job: ReplicaJob, weights: Sequence[Any]) -> None:
        """weights: a reference to SharedWeights, in a list; empty for what is loaded by
        name: baselines, and models of other packages."""
        self._job = job
        self._counts = Counts(job.submission.driver)
        self._name = uuid.uuid4().hex
        self._done = 0
        self._broken: Exception | None = None
        try:
            self._forecaster = _load(job, ray.get(weights[0]) if weights else None)
        except Exception as error:
            # Raised by the first call: an error in here would be retried, and printed by Ray.
            self._broken = error
        self._ready = time.time()
        self._counts.tell(self._name, self._done)

    def __call__(self, block: pa.Table) -> pa.Table:
        if self._broken is not None:
            raise self._broken
        key = str(block["shard"][0])
        files = ShardFiles(self._job.staging, key)
        notes = ShardNotes(self._job.staging, self._job.submission, key)
        results: dict[datetime, DateResult] = {}
        symbols = list(jobs_of_block(block))
        tiles: list[tuple[float, float]] = []
        begun = time.time()
        for found, frames in forecast_symbols(self._forecaster, self._job, symbols, notes):
            files.write(frames)
            for note in found:
                results.setdefault(note.as_of, DateResult(note.as_of)).add(note)
            ended = time.time()
            tiles.append((begun, ended))
            self._done += len(found)
            self._counts.tell(self._name, self._done)
            begun = ended
        files.finish(list(results.values()), ShardTimes(self._name, self._ready, tiles))
        return pa.table({"shard": [key]})


def _load(job: ReplicaJob, weights: SharedWeights | None) -> Forecaster:
    """The run's forecaster, on one thread. Raises CheckpointError where the weights differ."""
    from forecaster import known_models, load_forecaster

    if weights is None and job.model not in known_models():
        raise CheckpointError(
            f"{job.model}: no package of this worker offers that model; install the one that "
            "does on every node"
        )
    with (
        nullcontext((job.tokenizer, job.model)) if weights is None else weights.unpacked() as found
    ):
        tokenizer, model = found
        loaded = load_forecaster(
            model,
            tokenizer,
            device=job.device,
            max_context=None if weights is None else weights.max_context,
            threads=1,
            memory=None if job.memory_mb is None else job.memory_mb * 2**20,
            precision=job.precision,
            overflow=job.overflow,
            repair_bars=job.repair,
            anchor=job.anchor,
        )
    if loaded.forecaster.model_id != job.model_id:
        raise CheckpointError(
            f"{job.model}: this worker loaded other weights ({loaded.forecaster.model_id}) "
            f"than the driver ({job.model_id}); install the same packages on every node"
        )
    return loaded.forecaster


def forecast_symbols(
    forecaster: Forecaster, job: ReplicaJob, symbols: Sequence[SymbolJob], notes: ShardNotes
) -> Iterator[tuple[list[SeriesNote], Frames]]:
    """Forecast every (symbol, as_of), tile by tile in the order of (as_of, symbol).

    A series whose forecast raises an error, or kills its process again and again, has a note that
    says so and no rows.
    """
    tasks = sorted(
        (
            Task(symbol.series, window_at(symbol.series, as_of, job.lookback))
            for symbol in symbols
            for as_of in symbol.as_of_D
        ),
        key=lambda task: (task.window.as_of, task.window.symbol),
    )
    batch_BLF = np.empty((SERIES_PER_CALL, job.lookback, len(FEATURES)))
    for start in range(0, len(tasks), SERIES_PER_CALL):
        tile = tasks[start : start + SERIES_PER_CALL]
        keys = [(task.window.symbol, str(task.window.as_of)) for task in tile]
        whole = not notes.must_split(keys) and notes.verdict(keys[0], keys) is None
        for part in [tile] if whole else [[task] for task in tile]:
            part_keys = keys if whole else [(part[0].window.symbol, str(part[0].window.as_of))]
            if not whole and (reason := notes.verdict(part_keys[0], keys)) is not None:
                window = part[0].window
                yield [SeriesNote(window.symbol, utc_datetime(window.as_of), error=reason)], {}
                continue
            with notes.around(part_keys):
                result = forecast_batch(forecaster, job, part, batch_BLF)
            yield result
