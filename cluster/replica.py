"""The worker that holds a model: windows, paths, summaries, staging files. Knows no driver.

Everything random is keyed by (seed, symbol, as_of, path, step) inside the forecaster, so a shard
that runs twice, or in other company, gives the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from cluster.rows import ReplicaJob, Task, series_notes, table_rows
from cluster.staging import DateResult, Frames, SeriesNote, ShardFiles
from cluster.stream import SymbolJob, jobs_of_block
from forecaster.interface import Forecaster, WindowBatch
from market.calendars import future_timestamps, utc_datetime
from market.errors import CheckpointError
from market.forecast_schema import Kind
from market.windows import view, window_at

SERIES_PER_CALL = 64
"""Windows handed to the forecaster at a time; bounds memory and how often progress shows."""


class Replica:
    """Holds tokenizer and predictor of one run; called with one shard's block at a time."""

    def __init__(self, job: ReplicaJob, tally: Any) -> None:
        self._job = job
        self._tally = tally
        self._broken: Exception | None = None
        try:
            self._forecaster = _load(job)
        except Exception as error:
            # Raised by the first call: an error in here would be retried, and printed by Ray.
            self._broken = error

    def __call__(self, block: pa.Table) -> pa.Table:
        if self._broken is not None:
            raise self._broken
        key = str(block["shard"][0])
        files = ShardFiles(self._job.staging, key)
        results: dict[datetime, DateResult] = {}
        symbols = list(jobs_of_block(block))
        for notes, frames in forecast_symbols(self._forecaster, self._job, symbols):
            files.write(frames)
            for note in notes:
                results.setdefault(note.as_of, DateResult(note.as_of)).add(note)
            self._tally.add.remote(len(notes))
        files.finish(list(results.values()))
        return pa.table(
            {
                "shard": [key] * len(results),
                "as_of": list(results),
                "forecast": [result.forecast for result in results.values()],
                "failed": [len(result.failed) for result in results.values()],
            }
        )


def _load(job: ReplicaJob) -> Forecaster:
    """The run's forecaster, on one thread. Raises CheckpointError where the weights differ."""
    from forecaster import load_forecaster

    loaded = load_forecaster(
        job.model,
        job.tokenizer,
        threads=1,
        memory=None if job.memory_mb is None else job.memory_mb * 2**20,
        precision=job.precision,
        overflow=job.overflow,
        repair_bars=job.repair,
    )
    if loaded.forecaster.model_id != job.model_id:
        raise CheckpointError(
            f"{job.model}: this worker loaded other weights ({loaded.forecaster.model_id}) "
            f"than the driver ({job.model_id}); make the same files visible on every node"
        )
    return loaded.forecaster


def forecast_symbols(
    forecaster: Forecaster, job: ReplicaJob, symbols: Sequence[SymbolJob]
) -> Iterator[tuple[list[SeriesNote], Frames]]:
    """Forecast every (symbol, as_of), batch by batch in the order of (as_of, symbol).

    A series whose forecast raises an error has a note that says so and no rows.
    """
    tasks = sorted(
        (
            Task(symbol.series, window_at(symbol.series, as_of, job.lookback))
            for symbol in symbols
            for as_of in symbol.as_of_D
        ),
        key=lambda task: (task.window.as_of, task.window.symbol),
    )
    for start in range(0, len(tasks), SERIES_PER_CALL):
        yield _forecast(forecaster, job, tasks[start : start + SERIES_PER_CALL])


def _forecast(
    forecaster: Forecaster, job: ReplicaJob, tasks: Sequence[Task]
) -> tuple[list[SeriesNote], Frames]:
    """Notes and rows of some windows; where the batch fails, of each window by itself."""
    try:
        paths = forecaster.sample_paths(
            _windows(job, tasks), n_paths=job.paths, sampling=job.sampling, seed=job.seed
        )
        return series_notes(tasks, paths), table_rows(job, tasks, paths)
    except Exception as error:
        if len(tasks) == 1:
            window = tasks[0].window
            text = f"{type(error).__name__}: {error}"
            return [SeriesNote(window.symbol, utc_datetime(window.as_of), error=text)], {}
    notes: list[SeriesNote] = []
    frames: dict[Kind, list[pl.DataFrame]] = {}
    for task in tasks:
        one_note, one_frames = _forecast(forecaster, job, [task])
        notes += one_note
        for kind, frame in one_frames.items():
            frames.setdefault(kind, []).append(frame)
    return notes, {kind: pl.concat(parts) for kind, parts in frames.items()}


def _windows(job: ReplicaJob, tasks: Sequence[Task]) -> WindowBatch:
    labels_BL = np.stack([t.series.timestamps_N[t.window.first : t.window.last] for t in tasks])
    return WindowBatch(
        symbols=tuple(t.window.symbol for t in tasks),
        as_of_B=np.array([t.window.as_of for t in tasks], dtype="datetime64[us]"),
        values_BLF=np.stack([view(t.series, t.window) for t in tasks]),
        timestamps_BL=labels_BL,
        # From the labels of the window alone: later ones would tell of the future.
        future_BH=np.stack([future_timestamps(job.spec, row, job.horizon) for row in labels_BL]),
    )
