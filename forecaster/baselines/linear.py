"""Returns that follow from the last few, linearly. Knows arrays alone.

Legend: N donor bars, S paths, H horizon.
"""

from __future__ import annotations

import numpy as np

from forecaster.baselines.bars import donors, whole_bars
from forecaster.baselines.series import Array, Baseline, SeriesWindow

LAGS = 5
RIDGE = 10.0
"""Pseudo-observations of coefficients at zero: markets rarely have more memory than noise."""


class LinearAutoregression(Baseline):
    """Autoregression of log returns over LAGS bars by ridge regression; residual bars drawn again.

    Each path continues the lookback: its next return is the intercept, the coefficients times its
    own last LAGS returns, and a residual of the lookback, whose bar lends its shape.
    """

    name = "linear-1"
    about = "autoregression of returns by ridge regression, residuals drawn again"
    least_bars = 4 * LAGS

    def rule(self, window: SeriesWindow, n_paths: int, rng: np.random.Generator) -> Array:
        parts = donors(window.values_LF)
        mean = parts.return_N.mean()
        centred = parts.return_N - mean
        past = np.lib.stride_tricks.sliding_window_view(centred[:-1], LAGS)
        target = centred[LAGS:]
        penalty = RIDGE * float(centred.var()) * np.eye(LAGS) + 1e-300 * np.eye(LAGS)
        weight = np.linalg.solve(past.T @ past + penalty, past.T @ target)
        residual = target - past @ weight
        residual -= residual.mean()
        drawn = rng.integers(0, len(residual), size=(n_paths, window.horizon))
        state = np.repeat(centred[None, -LAGS:], n_paths, axis=0)
        returns = np.empty((n_paths, window.horizon))
        for h in range(window.horizon):
            new = state @ weight + residual[drawn[:, h]]
            returns[:, h] = mean + new
            state = np.concatenate((state[:, 1:], new[:, None]), axis=1)
        return whole_bars(parts, drawn + LAGS, returns)
