"""Runs a rule series by series behind the Forecaster interface. Knows no rule.

Legend: B series, S paths, L lookback, H horizon, F features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from forecaster.interface import CLOSE, SamplePaths, SamplingParams, TimeArray, WindowBatch
from forecaster.noise import noise_key
from forecaster.normalize import normalise
from market.errors import ForecastInputError

Array = npt.NDArray[np.float64]

SERIES_AT_ONCE = 64


class SeriesWindow(NamedTuple):
    """What a rule may know of one series."""

    values_LF: Array
    timestamps_L: TimeArray
    future_H: TimeArray
    """Labels of the bars to forecast."""

    @property
    def horizon(self) -> int:
        return len(self.future_H)


class Baseline(ABC):
    """A rule behind the Forecaster interface."""

    name: str
    """Also the model id: it ends in the version of the rule."""
    least_bars = 3
    about: str
    """One line for the user."""

    @abstractmethod
    def rule(self, window: SeriesWindow, n_paths: int, rng: np.random.Generator) -> Array:
        """Paths of one series, (S, H, F) in price units."""

    @property
    def model_id(self) -> str:
        return self.name

    @property
    def max_context(self) -> None:
        return None

    def numerics(self, n_paths: int, device: str | None = None) -> dict[str, object]:
        return {}

    def sample_paths(
        self, windows: WindowBatch, *, n_paths: int, sampling: SamplingParams, seed: int
    ) -> SamplePaths:
        """Paths of every window; `sampling` concerns token models and changes nothing here."""
        if windows.lookback < self.least_bars:
            raise ForecastInputError(
                f"{self.name} needs at least {self.least_bars} bars, got {windows.lookback}; "
                "choose a longer lookback"
            )
        _, loc, scale = normalise(windows.values_BLF)
        values = np.stack(
            [self._series(windows, symbol, i, n_paths, seed) for i, symbol in
             enumerate(windows.symbols)]
        )  # fmt: skip
        beyond = ~(np.abs(values) <= np.finfo(np.float32).max).all(axis=(1, 2, 3))
        if beyond.any():
            symbol = windows.symbols[int(np.flatnonzero(beyond)[0])]
            raise ForecastInputError(
                f"{symbol}: sampled prices leave the range of numbers (the lookback's moves are "
                "too large). Look at its bars with 'candlecast data show', or leave it out."
            )
        return SamplePaths(
            symbols=windows.symbols,
            as_of_B=windows.as_of_B,
            values_BSHF=values.astype(np.float32),
            timestamps_BH=windows.future_BH,
            last_close_B=windows.values_BLF[:, -1, CLOSE].astype(np.float64),
            loc_BF=loc,
            scale_BF=scale,
            flags_B=np.zeros(len(windows), dtype=np.int32),
            repaired_B=np.zeros(len(windows), dtype=np.int64),
        )

    def stream_paths(
        self, windows: WindowBatch, *, n_paths: int, sampling: SamplingParams, seed: int
    ) -> Iterator[SamplePaths]:
        """`sample_paths`, some series at a time."""
        for start in range(0, len(windows), SERIES_AT_ONCE):
            part = windows.rows(slice(start, start + SERIES_AT_ONCE))
            yield self.sample_paths(part, n_paths=n_paths, sampling=sampling, seed=seed)

    def _series(
        self, windows: WindowBatch, symbol: str, row: int, n_paths: int, seed: int
    ) -> Array:
        low, high = noise_key(seed, symbol, windows.as_of_B[row])
        rng = np.random.Generator(np.random.Philox(key=(high << 32) | low))
        window = SeriesWindow(
            windows.values_BLF[row].astype(np.float64),
            windows.timestamps_BL[row],
            windows.future_BH[row],
        )
        return self.rule(window, n_paths, rng)
