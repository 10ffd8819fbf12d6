"""Paths of windows that were forecast before. Knows the Forecaster interface alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from forecaster.interface import Forecaster, SamplePaths, SamplingParams, WindowBatch


@dataclass(frozen=True)
class Memory:
    """Forecasts each window once, however many worlds hold it.

    A forecaster is given a window and nothing else: where every world has the same bars, symbol and
    moment, so are the paths, and only windows that a poison reached are forecast again.
    """

    paths: int
    seen: dict[bytes, SamplePaths] = field(default_factory=dict)

    def sampled(self, forecaster: Forecaster, windows: WindowBatch) -> SamplePaths:
        """Paths of every window, in order."""
        keys = [_key(forecaster.model_id, windows, row) for row in range(len(windows))]
        new = np.array([row for row, key in enumerate(keys) if key not in self.seen], np.int64)
        if len(new):
            made = forecaster.sample_paths(
                windows.rows(new), n_paths=self.paths, sampling=SamplingParams(), seed=0
            )
            for at, row in enumerate(new):
                self.seen[keys[row]] = made.rows(np.array([at]))
        return SamplePaths.join([self.seen[key] for key in keys])


def _key(model_id: str, windows: WindowBatch, row: int) -> bytes:
    hashed = blake2b(f"{model_id}\x1f{windows.symbols[row]}".encode(), digest_size=16)
    for part in (windows.as_of_B, windows.values_BLF, windows.timestamps_BL, windows.future_BH):
        hashed.update(np.ascontiguousarray(part[row]).tobytes())
    return hashed.digest()
