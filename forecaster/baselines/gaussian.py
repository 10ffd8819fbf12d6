"""Gaussian log returns. Knows arrays alone.

Legend: L lookback, N donor bars, S paths, H horizon.
"""

from __future__ import annotations

import numpy as np

from forecaster.baselines.bars import donors, whole_bars
from forecaster.baselines.series import Array, Baseline, SeriesWindow

DECAY = 0.94
"""Of squared returns, per bar (J.P. Morgan, RiskMetrics 1996)."""


def ewma_variance(return_N: Array, decay: float = DECAY) -> Array:
    """Variance known before each return and after the last, (N + 1,).

    v_{t+1} = decay · v_t + (1 - decay) · r_t², started at the mean square of the returns, which
    keeps the first ones from deciding; every value is above 0 where one return is not 0.
    """
    square = return_N**2
    variance = np.empty(len(return_N) + 1)
    variance[0] = square.mean()
    for t, each in enumerate(square):
        variance[t + 1] = decay * variance[t] + (1 - decay) * each
    return variance


class RandomWalk(Baseline):
    """Gaussian random walk of the log close, with the lookback's drift removed.

    Step volatility is the standard deviation of the lookback's log returns (ddof 1). A bar opens
    at the previous close; its high and low stretch by the lookback's mean range above and below
    the body; volume and amount stay at the lookback's mean.
    """

    name = "random-walk-1"
    about = "Gaussian random walk with the lookback's volatility"

    def rule(self, window: SeriesWindow, n_paths: int, rng: np.random.Generator) -> Array:
        open_L, high_L, low_L, close_L = window.values_LF[:, :4].T
        horizon = window.horizon
        returns = np.diff(np.log(close_L))
        noise = rng.standard_normal((n_paths, horizon)) * returns.std(ddof=1)
        close = close_L[-1] * np.exp(np.cumsum(noise, axis=1))
        open_ = np.concatenate((np.full((n_paths, 1), close_L[-1]), close[:, :-1]), axis=1)
        up = np.mean(high_L / np.maximum(open_L, close_L))
        down = np.mean(low_L / np.minimum(open_L, close_L))
        high, low = np.maximum(open_, close) * up, np.minimum(open_, close) * down
        rest = np.broadcast_to(window.values_LF[:, 4:].mean(axis=0), (n_paths, horizon, 2))
        return np.concatenate((np.stack((open_, high, low, close), axis=-1), rest), axis=-1)


class Drift(Baseline):
    """Gaussian random walk that goes on rising or falling as the lookback did on average.

    The drift is uncertain too: each path has its own, so that the variance at step h is
    σ² h (1 + h / N) (Hyndman & Athanasopoulos, Forecasting, section 5.5). Bars lend their shapes.
    """

    name = "drift-1"
    about = "random walk with the lookback's drift, which is itself uncertain"

    def rule(self, window: SeriesWindow, n_paths: int, rng: np.random.Generator) -> Array:
        parts = donors(window.values_LF)
        n, shape = len(parts.return_N), (n_paths, window.horizon)
        sigma = parts.return_N.std(ddof=1)
        drawn = rng.integers(0, n, size=shape)
        drift = parts.return_N.mean() + rng.standard_normal((n_paths, 1)) * sigma / np.sqrt(n)
        return whole_bars(parts, drawn, drift + sigma * rng.standard_normal(shape))


class EwmaGaussian(Baseline):
    """Gaussian random walk with exponentially weighted volatility, without drift (RiskMetrics).

    Bars lend their shapes, scaled from the volatility of their day to today's.
    """

    name = "ewma-1"
    about = "Gaussian random walk with exponentially weighted volatility"

    def rule(self, window: SeriesWindow, n_paths: int, rng: np.random.Generator) -> Array:
        parts = donors(window.values_LF)
        sigma = np.sqrt(ewma_variance(parts.return_N))
        shape = (n_paths, window.horizon)
        drawn = rng.integers(0, len(parts.return_N), size=shape)
        scale = np.divide(sigma[-1], sigma[:-1], out=np.ones_like(sigma[:-1]), where=sigma[:-1] > 0)
        returns = sigma[-1] * rng.standard_normal(shape)
        return whole_bars(parts, drawn, returns, scale[drawn])
