"""From sampled paths to published ones: what the past says is best. Knows no storage, no Ray.

Legend: B series, S paths, H horizon.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cluster.forecasting.work import WindowJob
from forecaster.calibration.gate import RAW, UNCALIBRATED
from forecaster.calibration.past import ALWAYS, MODEL
from forecaster.calibration.paths import (
    bar_volatility,
    baseline_paths,
    calibrated_paths,
    log_closes,
)
from forecaster.interface import SamplePaths, WindowBatch

AS_SAMPLED = "as sampled"
"""No calibration was asked for."""
OWN = frozenset({AS_SAMPLED, RAW, UNCALIBRATED})
"""Published rows that hold the model's own paths."""

Kept = tuple[int, str, npt.NDArray[np.float32], float]
"""Row of the batch, source, log closes (S, H), volatility of one bar."""


@dataclass(frozen=True)
class Publication:
    """Paths of a batch as they are published, and what later nights learn from."""

    paths: SamplePaths
    raw: SamplePaths
    published: list[str]
    """Per series, what its paths are."""
    kept: list[Kept]


def publication(job: WindowJob, windows: WindowBatch, raw: SamplePaths) -> Publication:
    """Paths as published. Series of one moment share its fit; nothing depends on the batch."""
    if not job.fitted:
        return Publication(raw, raw, [AS_SAMPLED] * len(raw), _kept(job, windows, raw))
    parts: list[SamplePaths] = []
    published: list[str] = [""] * len(raw)
    order: list[int] = []
    for moment in np.unique(raw.as_of_B):
        rows = np.flatnonzero(raw.as_of_B == moment)
        fitted = job.fitted[moment]
        own = windows.rows(rows)
        parts.append(calibrated_paths(raw.rows(rows), own, fitted, job.seed))
        label = UNCALIBRATED if fitted.calibration is None else fitted.published
        for row in rows:
            published[row] = label
        order += rows.tolist()
    paths = SamplePaths.join(parts).rows(np.argsort(order))
    return Publication(paths, raw, published, _kept(job, windows, raw))


def _kept(job: WindowJob, windows: WindowBatch, raw: SamplePaths) -> list[Kept]:
    rows = [i for i in range(len(raw)) if (raw.symbols[i], raw.as_of_B[i]) in job.sampled]
    if not rows:
        return []
    chosen = windows.rows(np.array(rows))
    sigma = bar_volatility(chosen.values_BLF)
    names = tuple(dict.fromkeys((*ALWAYS, *job.baselines)))
    beside = baseline_paths(names, chosen, job.paths, job.seed)
    sources = {MODEL: raw.rows(np.array(rows))} | beside
    logs = {name: log_closes(each) for name, each in sources.items()}
    return [
        (row, name, logs[name][k], float(sigma[k])) for k, row in enumerate(rows) for name in logs
    ]
