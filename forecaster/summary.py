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
from forecaster.quantiles import ensemble_quantiles
from forecaster.repair import at_floor
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
    """Standard deviation over paths (n - 1), price units; NaN for one path."""
    quantiles_BHFQ: Array
    """At unbiased plotting positions: a new draw falls below them as often as their levels say,
    whatever the number of paths (`ensemble_quantiles`)."""
    p_up_BH: Array
    """Share of paths whose close at the step is above the last known close."""
    return_mean_BH: Array
    return_std_BH: Array
    """Of the log return from the last known close to each step (n - 1), over paths that stay above
    the price floor; NaN where none (or for the deviation, one) does."""
    expected_drawdown_B: Array
    """Mean over paths of the largest fall of the close from its running peak, in 0 … 1; the peak
    starts at the last known close."""
    path_volatility_B: Array
    """Mean over paths above the floor of the standard deviation (n - 1) of one-step log returns,
    per bar, not annual; NaN for a horizon of one step."""
    floored_B: npt.NDArray[np.int32]
    """Paths that touch the price floor: their log returns say nothing, and statistics of returns
    leave them out."""


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


def close_marginals(paths: SamplePaths) -> dict[str, Array]:
    """Mean, std, quantiles and P(up) of the closes, (B, H) each, by the names of table columns."""
    rows = []
    for values_SHF, last in zip(paths.values_BSHF, paths.last_close_B, strict=True):
        close_SH1 = values_SHF[..., CLOSE : CLOSE + 1].astype(np.float64)
        rows.append(
            (
                close_SH1.mean(axis=0)[..., 0],
                _deviation(close_SH1, axis=0)[..., 0],
                *_quantiles(close_SH1)[:, 0].T,
                (close_SH1[..., 0] > last).mean(axis=0),
            )
        )
    names = ("mean", "std", *(f"q{round(100 * q):02d}" for q in QUANTILES), "p_up")
    return dict(zip(names, map(np.stack, zip(*rows, strict=True)), strict=True))


def _series(values_SHF: Array, last_close: float) -> tuple[Array | np.float64 | np.int32, ...]:
    n_paths = len(values_SHF)
    close_SH = values_SHF[..., CLOSE]
    with_start = np.concatenate((np.full((n_paths, 1), last_close), close_SH), axis=1)
    peak = np.maximum.accumulate(with_start, axis=1)
    floored_S = at_floor(close_SH, last_close).any(axis=1)
    log_SH = np.log(with_start[~floored_S] / last_close)
    return (
        values_SHF.mean(axis=0),
        _deviation(values_SHF, axis=0),
        _quantiles(values_SHF),
        (close_SH > last_close).mean(axis=0),
        _mean(log_SH[:, 1:]),
        _deviation(log_SH[:, 1:], axis=0),
        (1 - with_start / peak).max(axis=1).mean(),
        _mean(_deviation(np.diff(log_SH, axis=1), axis=1)),
        np.int32(floored_S.sum()),
    )


def _quantiles(values_SHF: Array) -> Array:
    """(H, F, Q)."""
    n_paths = len(values_SHF)
    if n_paths == 1:
        quantiles_QHF = np.repeat(values_SHF, len(QUANTILES), axis=0)
    else:
        quantiles_QHF = ensemble_quantiles(np.sort(values_SHF, axis=0), QUANTILES)
    if n_paths < MIN_PATHS_FOR_TAILS:
        quantiles_QHF[[QUANTILES.index(q) for q in TAILS]] = np.nan
    return np.moveaxis(quantiles_QHF, 0, -1)


def _mean(values: Array) -> Array:
    """Over the first axis; NaN where it is empty."""
    if not len(values):
        return np.full(values.shape[1:], np.nan)
    mean: Array = values.mean(axis=0)
    return mean


def _deviation(values: Array, axis: int) -> Array:
    """Standard deviation (n - 1); NaN of fewer than two."""
    if values.shape[axis] < 2:
        return np.full(np.delete(values.shape, axis), np.nan)
    deviation: Array = values.std(axis=axis, ddof=1)
    return deviation
