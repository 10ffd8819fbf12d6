"""Bars of the lookback drawn again. Knows arrays alone.

Legend: S paths, H horizon.
"""

from __future__ import annotations

import numpy as np

from forecaster.baselines.bars import donors, whole_bars
from forecaster.baselines.series import Array, Baseline, SeriesWindow
from forecaster.interface import CLOSE

MEAN_BLOCK = 8
"""Bars per block on average."""


class HistoricalBootstrap(Baseline):
    """Whole bars drawn with replacement from the lookback, chained on the close.

    A drawn bar brings its open, high, low and close relative to the close before it, and its
    volume and amount, so joint behaviour within a bar is kept and dependence between bars is not.
    The lookback's drift is kept.
    """

    name = "bootstrap-1"
    about = "bars of the lookback drawn with replacement"

    def rule(self, window: SeriesWindow, n_paths: int, rng: np.random.Generator) -> Array:
        close_L = window.values_LF[:, CLOSE]
        relative = window.values_LF[1:, :4] / close_L[:-1, None]
        drawn = rng.integers(0, len(relative), size=(n_paths, window.horizon))
        bars = relative[drawn]
        growth = np.cumprod(bars[..., CLOSE], axis=1)
        before = np.concatenate((np.ones((n_paths, 1)), growth[:, :-1]), axis=1) * close_L[-1]
        return np.concatenate((bars * before[..., None], window.values_LF[1:, 4:][drawn]), axis=-1)


class DriftlessBootstrap(Baseline):
    """The same without the lookback's drift: its mean log return is taken off every drawn bar."""

    name = "bootstrap-driftless-1"
    about = "the same without the lookback's drift"

    def rule(self, window: SeriesWindow, n_paths: int, rng: np.random.Generator) -> Array:
        parts = donors(window.values_LF)
        drawn = rng.integers(0, len(parts.return_N), size=(n_paths, window.horizon))
        returns = parts.return_N - parts.return_N.mean()
        return whole_bars(parts, drawn, returns[drawn])


class BlockBootstrap(Baseline):
    """Blocks of consecutive bars, of geometric length, without drift.

    The stationary bootstrap (Politis & Romano 1994): at every step the next bar follows, or with
    probability 1 / MEAN_BLOCK a new block starts anywhere; the lookback is closed to a circle. It
    keeps short dependence, such as clusters of volatility.
    """

    name = "block-bootstrap-1"
    about = "blocks of consecutive bars, without drift"

    def rule(self, window: SeriesWindow, n_paths: int, rng: np.random.Generator) -> Array:
        parts = donors(window.values_LF)
        n, shape = len(parts.return_N), (n_paths, window.horizon)
        start = rng.integers(0, n, size=shape)
        fresh = rng.random(shape) < 1 / MEAN_BLOCK
        fresh[:, 0] = True
        step = np.arange(window.horizon)
        begun = np.maximum.accumulate(np.where(fresh, step, 0), axis=1)
        drawn = (np.take_along_axis(start, begun, axis=1) + step - begun) % n
        returns = parts.return_N - parts.return_N.mean()
        return whole_bars(parts, drawn, returns[drawn])
