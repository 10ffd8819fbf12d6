"""The calibration on sampled paths: closes first, then bars around them. Knows arrays alone.

Legend: B series, S paths, L lookback, H horizon, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from forecaster.baselines import load_baseline
from forecaster.baselines.gaussian import ewma_variance
from forecaster.calibration.closes import calibrated_closes
from forecaster.calibration.gate import CALIBRATED, RAW, Fitted
from forecaster.calibration.past import POOLED
from forecaster.interface import CLOSE, FloatArray, SamplePaths, SamplingParams, WindowBatch
from forecaster.repair import at_floor

Array = npt.NDArray[np.float64]

LEAST_SIGMA = 1e-6
"""Volatility of a market that did not move: its forecasts have no unit of their own."""


def bar_volatility(values_BLF: FloatArray) -> Array:
    """Exponentially weighted volatility of one bar's log return, known at the end of each lookback,
    (B,), at least LEAST_SIGMA."""
    closes_BL = np.log(np.asarray(values_BLF, np.float64)[..., CLOSE])
    variance = [ewma_variance(each)[-1] for each in np.diff(closes_BL, axis=1)]
    return np.maximum(np.sqrt(variance), LEAST_SIGMA)


def log_closes(paths: SamplePaths) -> npt.NDArray[np.float32]:
    """Log returns from the last close (B, S, H). Members at the price floor, where a log means
    nothing, take the lowest value of the step that is not."""
    close = paths.values_BSHF[..., CLOSE].astype(np.float64)
    last = paths.last_close_B[:, None, None]
    floored = at_floor(close, last)
    log = np.log(np.where(floored, last, close) / last)
    if floored.any():
        lowest = np.where(floored, np.inf, log).min(axis=1, keepdims=True)
        log = np.where(floored, np.where(np.isfinite(lowest), lowest, 0.0), log)
    return log.astype(np.float32)


def baseline_paths(
    names: tuple[str, ...], windows: WindowBatch, n_paths: int, seed: int
) -> dict[str, SamplePaths]:
    """Paths of some baselines for the same windows."""
    return {
        name: load_baseline(name).sample_paths(
            windows, n_paths=n_paths, sampling=SamplingParams(), seed=seed
        )
        for name in names
    }


def calibrated_paths(
    paths: SamplePaths, windows: WindowBatch, fitted: Fitted, seed: int,
    known: Mapping[str, SamplePaths] | None = None,
) -> SamplePaths:  # fmt: skip
    """What is published instead of the model's paths: those, calibrated ones, or a baseline's.

    known: baselines' paths where they were computed already. A published path takes its bars from
    the path it came from: gaps and wicks stretch with the spread, the open keeps its gap to the
    close before, volume and amount stay.
    """
    if fitted.published == RAW:
        return paths
    n_paths = paths.values_BSHF.shape[1]
    wanted = POOLED if fitted.published == CALIBRATED else (fitted.published,)
    have = dict(known or {})
    have |= baseline_paths(tuple(n for n in wanted if n not in have), windows, n_paths, seed)
    if fitted.published != CALIBRATED:
        return replace(have[fitted.published], flags_B=paths.flags_B)
    assert fitted.calibration is not None
    sources = [paths, *(have[name] for name in POOLED)]
    closes = [log_closes(each) for each in sources]
    made = calibrated_closes(closes, bar_volatility(windows.values_BLF), fitted.calibration)
    mixed = np.empty_like(paths.values_BSHF)
    for p, each in enumerate(sources):
        mixed[:, made.source_S == p] = each.values_BSHF[:, made.source_S == p]
    values = around_closes(mixed, paths.last_close_B, made.close_NSH, made.stretch_NSH)
    return replace(paths, values_BSHF=values)


def around_closes(
    values_BSHF: npt.NDArray[np.float32], last_close_B: Array, close_BSH: Array, stretch_BSH: Array
) -> npt.NDArray[np.float32]:
    """Bars whose closes are the given log returns, with the gaps and wicks of the old ones.

    Legal by construction: the wicks are lengths beyond open and close.
    """
    last = last_close_B[:, None, None, None]
    prices = values_BSHF[..., :4].astype(np.float64) / last
    open_, high, low, close = np.moveaxis(np.log(np.maximum(prices, 1e-300)), -1, 0)
    start = np.zeros_like(close[..., :1])
    gap = open_ - np.concatenate((start, close[..., :-1]), axis=-1)
    up = np.maximum(high - np.maximum(open_, close), 0.0)
    down = np.maximum(np.minimum(open_, close) - low, 0.0)
    before = np.concatenate((start, close_BSH[..., :-1]), axis=-1)
    new_open = before + gap * stretch_BSH
    new_high = np.maximum(new_open, close_BSH) + up * stretch_BSH
    new_low = np.minimum(new_open, close_BSH) - down * stretch_BSH
    out = values_BSHF.copy()
    out[..., :4] = last * np.exp(np.stack((new_open, new_high, new_low, close_BSH), axis=-1))
    return out
