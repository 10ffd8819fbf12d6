"""Windows of bars to notes and rows, some at a time. Knows forecasters; no driver, no Ray.

Legend: B series, L lookback, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from cluster.forecasting.publication import publication
from cluster.forecasting.rows import series_notes, table_rows
from cluster.forecasting.staging import Frames, SeriesNote
from cluster.forecasting.work import Task, WindowJob
from forecaster.interface import Forecaster, WindowBatch
from market.calendars import future_timestamps, utc_datetime
from market.table.schema import Kind
from market.windows import stack_windows

SERIES_PER_CALL = 64
"""Windows handed to the forecaster at a time; bounds memory and how often progress shows."""


def forecast_batch(
    forecaster: Forecaster,
    job: WindowJob,
    tasks: Sequence[Task],
    batch_BLF: npt.NDArray[np.float64],
) -> tuple[list[SeriesNote], Frames]:
    """Notes and rows of some windows; where the batch fails, of each window by itself.

    batch_BLF: where the windows are stacked; holds nothing of use afterwards.
    """
    try:
        windows = window_batch(job, tasks, batch_BLF)
        paths = forecaster.sample_paths(
            windows,
            n_paths=job.paths,
            sampling=job.sampling,
            seed=job.seed,
        )
        made = publication(job, windows, paths)
        return series_notes(tasks, paths), table_rows(job, tasks, made)
    except Exception as error:
        if len(tasks) == 1:
            window = tasks[0].window
            text = f"{type(error).__name__}: {error}"
            return [SeriesNote(window.symbol, utc_datetime(window.as_of), error=text)], {}
    notes: list[SeriesNote] = []
    frames: dict[Kind, list[pl.DataFrame]] = {}
    for task in tasks:
        one_note, one_frames = forecast_batch(forecaster, job, [task], batch_BLF)
        notes += one_note
        for kind, frame in one_frames.items():
            frames.setdefault(kind, []).append(frame)
    return notes, {kind: pl.concat(parts) for kind, parts in frames.items()}


def window_batch(
    job: WindowJob, tasks: Sequence[Task], batch_BLF: npt.NDArray[np.float64]
) -> WindowBatch:
    labels_BL = np.stack([t.series.timestamps_N[t.window.first : t.window.last] for t in tasks])
    return WindowBatch(
        symbols=tuple(t.window.symbol for t in tasks),
        as_of_B=np.array([t.window.as_of for t in tasks], dtype="datetime64[us]"),
        values_BLF=stack_windows(tasks, batch_BLF),
        timestamps_BL=labels_BL,
        # From the labels of the window alone: later ones would tell of the future.
        future_BH=np.stack([future_timestamps(job.spec, row, job.horizon) for row in labels_BL]),
    )
