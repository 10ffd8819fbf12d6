"""A baseline: a random walk whose steps have the heavier tails of the Laplace distribution."""

from __future__ import annotations

import numpy as np

from forecaster.baselines import Baseline
from forecaster.baselines.bars import donors, whole_bars
from forecaster.baselines.series import Array, SeriesWindow


class LaplaceWalk(Baseline):
    """Laplace log returns with the lookback's variance and no drift; bars lend their shapes.

    `Baseline` runs the rule series by series, with noise keyed by (seed, symbol, as_of).
    """

    name = "example-laplace-1"  # also the model id: raise the number when the rule changes
    about = "random walk with Laplace steps"

    def rule(self, window: SeriesWindow, n_paths: int, rng: np.random.Generator) -> Array:
        """Paths of one series, (paths, horizon, features), from its lookback alone."""
        parts = donors(window.values_LF)
        shape = (n_paths, window.horizon)
        # A Laplace distribution of scale b has the variance 2 b².
        returns = rng.laplace(scale=parts.return_N.std(ddof=1) / np.sqrt(2), size=shape)
        drawn = rng.integers(0, len(parts.return_N), size=shape)
        return whole_bars(parts, drawn, returns)
