"""A model: an autoregression of returns whose coefficient all symbols share.

It is trained by `candlecast_example.training`; the weights lie beside this file. All methods of
`forecaster.Forecaster` are written out here; a network would load its weights in __init__.

Legend: B series, S paths, L lookback, H horizon, F features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

import numpy as np

from forecaster import SamplePaths, SamplingParams, WindowBatch
from forecaster.noise import uniforms
from forecaster.normalize import normalise

WEIGHTS = Path(__file__).with_name("weights.json")


class PooledAutoregression:
    """r(t + 1) = φ r(t) + σ ε, with φ trained and σ of each window's own residuals."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        content = weights.read_bytes()
        held = json.loads(content)
        self.phi = float(held["phi"])
        self.trained_through: date | None = date.fromisoformat(held["trained_through"])
        """Forecasts up to this date are marked as in-sample. None: not known, and marked so."""
        self._id = f"example-ar-1-{hashlib.blake2b(content, digest_size=6).hexdigest()}"

    @property
    def model_id(self) -> str:
        """Part of every run's id: whatever changes the numbers must change it."""
        return self._id

    @property
    def max_context(self) -> int | None:
        """Longest lookback + horizon; this model has no limit."""
        return None

    def numerics(self, n_paths: int, device: str | None = None) -> Mapping[str, object]:
        """What else decides the numbers, such as a precision; nothing here."""
        return {}

    def sample_paths(
        self, windows: WindowBatch, *, n_paths: int, sampling: SamplingParams, seed: int
    ) -> SamplePaths:
        """Paths of all series at once. Noise is keyed by (seed, symbol, as_of), so that a series'
        paths depend neither on its company nor on the order; `sampling` is for token models."""
        values_BLF = windows.values_BLF
        close_BL = values_BLF[..., 3]
        return_BL = np.diff(np.log(close_BL), axis=1)
        residual_BL = return_BL[:, 1:] - self.phi * return_BL[:, :-1]
        u = uniforms(seed, windows.symbols, windows.as_of_B, n_paths, windows.horizon)
        normal_BSH = np.sqrt(-2 * np.log(u[..., 0])) * np.cos(2 * np.pi * u[..., 1])
        step_BSH = residual_BL.std(axis=1)[:, None, None] * normal_BSH
        before = np.broadcast_to(return_BL[:, -1, None], step_BSH.shape[:2])
        for h in range(windows.horizon):
            step_BSH[..., h] += self.phi * before
            before = step_BSH[..., h]

        last_B = close_BL[:, -1].astype(np.float64)
        close_BSH = last_B[:, None, None] * np.exp(np.cumsum(step_BSH, axis=2))
        first_BS1 = np.broadcast_to(last_B[:, None, None], (*close_BSH.shape[:2], 1))
        open_BSH = np.concatenate((first_BS1, close_BSH[..., :-1]), axis=2)
        body = values_BLF[..., (0, 3)]  # high and low stretch beyond open and close as they did
        up = (values_BLF[..., 1] / body.max(axis=2)).mean(axis=1)[:, None, None]
        down = (values_BLF[..., 2] / body.min(axis=2)).mean(axis=1)[:, None, None]
        traded = [
            np.broadcast_to(values_BLF[..., i].mean(axis=1)[:, None, None], close_BSH.shape)
            for i in (4, 5)  # volume and amount stay at their means
        ]
        high, low = np.maximum(open_BSH, close_BSH) * up, np.minimum(open_BSH, close_BSH) * down
        _, loc_BF, scale_BF = normalise(values_BLF)
        return SamplePaths(
            symbols=windows.symbols,
            as_of_B=windows.as_of_B,
            values_BSHF=np.stack((open_BSH, high, low, close_BSH, *traded), axis=-1).astype("f4"),
            timestamps_BH=windows.future_BH,
            last_close_B=last_B,
            loc_BF=loc_BF,
            scale_BF=scale_BF,
            flags_B=np.zeros(len(windows), np.int32),
            repaired_B=np.zeros(len(windows), np.int64),
        )

    def stream_paths(
        self, windows: WindowBatch, *, n_paths: int, sampling: SamplingParams, seed: int
    ) -> Iterator[SamplePaths]:
        """`sample_paths` some series at a time, in order."""
        for first in range(0, len(windows), 64):
            part = windows.rows(slice(first, first + 64))
            yield self.sample_paths(part, n_paths=n_paths, sampling=sampling, seed=seed)
