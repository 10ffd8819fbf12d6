"""Sample paths to the numbers a forecast table keeps. Knows numpy alone.

Every series is summarised by itself from all of its paths, in float64 and in path order, so that
a summary never depends on how series were batched.

Legend: B series, S paths, H horizon, F features, Q quantile levels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forecaster.interface import CLOSE, SamplePaths
from market.errors import ForecastInputError

QUANTILES = (0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99)
TAILS = (0.01, 0.99)
MIN_PATHS_FOR_TAILS = 100
"""Below this many paths the 1% and 99% quantiles would only repeat the extremes: they are NaN."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Marginals per step and feature, and path statistics that marginals cannot give."""

    n_paths: int
    mean_BHF: Array
    std_BHF: Array
    """Population standard deviation over paths, price units."""
    quantiles_BHFQ: Array
    """Linear interpolation between order statistics (Hyndman & Fan 1996, type 7)."""
    p_up_BH: Array
    """Share of paths whose close at the step is above the last known close."""
    return_mean_BH: Array
    return_std_BH: Array
    """Of the simple return from the last known close to each step."""
    expected_drawdown_B: Array
    """Mean over paths of the largest fall of the close from its running peak, in 0 … 1; the peak
    starts at the last known close."""
    path_volatility_B: Array
    """Mean over paths of the standard deviation of one-step simple returns, per bar, not annual."""


def summarise(paths: SamplePaths | Iterable[SamplePaths]) -> Summary:
    """Summary of every series, of one batch or of a stream, whose parts are let go one by one.

    Raises ForecastInputError naming a series with non-finite paths.
    """
    parts = [paths] if isinstance(paths, SamplePaths) else paths
    rows, n_paths = [], 0
    for part in parts:
        finite = np.isfinite(part.values_BSHF).all(axis=(1, 2, 3))
        if not finite.all():
            symbol = part.symbols[int(np.flatnonzero(~finite)[0])]
            raise ForecastInputError(
                f"{symbol}: the model produced values that are not finite; check its weights and "
                "the scale of the symbol's bars"
            )
        n_paths = part.values_BSHF.shape[1]
        rows += [
            _series(values.astype(np.float64), float(last))
            for values, last in zip(part.values_BSHF, part.last_close_B, strict=True)
        ]
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    return Summary(n_paths, *columns)


def _series(values_SHF: Array, last_close: float) -> tuple[Array | np.float64, ...]:
    n_paths = len(values_SHF)
    quantiles_QHF = np.quantile(values_SHF, QUANTILES, axis=0)
    if n_paths < MIN_PATHS_FOR_TAILS:
        quantiles_QHF[[QUANTILES.index(q) for q in TAILS]] = np.nan
    close_SH = values_SHF[..., CLOSE]
    return_SH = close_SH / last_close - 1
    with_start = np.concatenate((np.full((n_paths, 1), last_close), close_SH), axis=1)
    peak = np.maximum.accumulate(with_start, axis=1)
    step_return_SH = with_start[:, 1:] / with_start[:, :-1] - 1
    return (
        values_SHF.mean(axis=0),
        values_SHF.std(axis=0),
        np.moveaxis(quantiles_QHF, 0, -1),
        (close_SH > last_close).mean(axis=0),
        return_SH.mean(axis=0),
        return_SH.std(axis=0),
        (1 - with_start / peak).max(axis=1).mean(),
        step_return_SH.std(axis=1).mean(),
    )
