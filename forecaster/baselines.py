"""Forecasts that need no training: what a model has to beat. Knows numpy alone.

Noise is drawn per series from numpy's Philox keyed by (seed, symbol, as_of), so baselines are as
independent of batch and order as the models are.

Legend: B series, S paths, L lookback, H horizon, F features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from forecaster.interface import CLOSE, SamplePaths, SamplingParams, WindowBatch
from forecaster.kronos.sampling import noise_key
from forecaster.normalize import normalise
from market.errors import ForecastInputError

Array = npt.NDArray[np.float64]


class _PathRule(Protocol):
    """Paths of one series: (window (L, F), paths, horizon, generator) → (S, H, F)."""

    def __call__(
        self, window_LF: Array, n_paths: int, horizon: int, rng: np.random.Generator
    ) -> Array: ...


class _Baseline:
    """Runs a rule series by series behind the Forecaster interface."""

    name: str
    rule: _PathRule

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
        if windows.lookback < 3:
            raise ForecastInputError(f"{self.name} needs at least 3 bars, got {windows.lookback}")
        _, loc, scale = normalise(windows.values_BLF)
        values = np.stack(
            [
                self._series(window, symbol, as_of, n_paths, windows.horizon, seed)
                for window, symbol, as_of in zip(
                    windows.values_BLF, windows.symbols, windows.as_of_B, strict=True
                )
            ]
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
        """`sample_paths`, 64 series at a time."""
        for start in range(0, len(windows), 64):
            part = windows.rows(slice(start, start + 64))
            yield self.sample_paths(part, n_paths=n_paths, sampling=sampling, seed=seed)

    def _series(
        self,
        window_LF: npt.NDArray[np.floating],
        symbol: str,
        as_of: np.datetime64,
        n_paths: int,
        horizon: int,
        seed: int,
    ) -> Array:
        low, high = noise_key(seed, symbol, as_of)
        rng = np.random.Generator(np.random.Philox(key=(high << 32) | low))
        return self.rule(window_LF.astype(np.float64), n_paths, horizon, rng)


class RandomWalk(_Baseline):
    """Gaussian random walk of the log close, with the lookback's drift removed.

    Step volatility is the standard deviation of the lookback's log returns (ddof 1). A bar opens
    at the previous close; its high and low stretch by the lookback's mean range above and below
    the body; volume and amount stay at the lookback's mean.
    """

    name = "random-walk-1"

    def rule(self, window_LF: Array, n_paths: int, horizon: int, rng: np.random.Generator) -> Array:
        open_L, high_L, low_L, close_L = window_LF[:, :4].T
        returns = np.diff(np.log(close_L))
        noise = rng.standard_normal((n_paths, horizon)) * returns.std(ddof=1)
        close = close_L[-1] * np.exp(np.cumsum(noise, axis=1))
        open_ = np.concatenate((np.full((n_paths, 1), close_L[-1]), close[:, :-1]), axis=1)
        up = np.mean(high_L / np.maximum(open_L, close_L))
        down = np.mean(low_L / np.minimum(open_L, close_L))
        high, low = np.maximum(open_, close) * up, np.minimum(open_, close) * down
        rest = np.broadcast_to(window_LF[:, 4:].mean(axis=0), (n_paths, horizon, 2))
        return np.concatenate((np.stack((open_, high, low, close), axis=-1), rest), axis=-1)


class HistoricalBootstrap(_Baseline):
    """Whole bars drawn with replacement from the lookback, chained on the close.

    A drawn bar brings its open, high, low and close relative to the close before it, and its
    volume and amount, so joint behaviour within a bar is kept and dependence between bars is not.
    The lookback's drift is kept.
    """

    name = "bootstrap-1"

    def rule(self, window_LF: Array, n_paths: int, horizon: int, rng: np.random.Generator) -> Array:
        close_L = window_LF[:, CLOSE]
        relative = window_LF[1:, :4] / close_L[:-1, None]
        drawn = rng.integers(0, len(relative), size=(n_paths, horizon))
        bars = relative[drawn]
        growth = np.cumprod(bars[..., CLOSE], axis=1)
        before = np.concatenate((np.ones((n_paths, 1)), growth[:, :-1]), axis=1) * close_L[-1]
        return np.concatenate((bars * before[..., None], window_LF[1:, 4:][drawn]), axis=-1)
