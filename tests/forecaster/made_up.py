"""A made-up market whose true predictive distribution is known, and forecasters with known faults.

Log volatility follows an AR(1) with a part common to all symbols; returns are Gaussian given it.
The perfect forecaster knows the state at as_of and simulates on from there.

Legend: N windows, S paths, H horizon, T bars.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from forecaster.calibration import MODEL, PastForecasts
from forecaster.calibration.past import ALWAYS
from forecaster.calibration.paths import bar_volatility, baseline_paths, log_closes
from forecaster.interface import WindowBatch

LOOKBACK = 128
BASELINES = tuple(dict.fromkeys((*ALWAYS, "bootstrap", "ewma", "fhs")))
PERSISTENCE, SHOCK = 0.97, 0.12


class Market(NamedTuple):
    """Windows of every symbol at every date, what followed, and what a perfect forecaster says."""

    windows: WindowBatch
    actual_NH: np.ndarray
    ended_NH: np.ndarray
    perfect_NSH: np.ndarray


def market(
    n_dates: int, n_symbols: int = 16, horizon: int = 10, stride: int = 1, n_paths: int = 64,
    seed: int = 0, jump: float = 0.0,
) -> Market:  # fmt: skip
    """jump: log volatility added from the middle date on, unknown to the perfect forecaster until
    it happens."""
    rng = np.random.default_rng(seed)
    bars = LOOKBACK + (n_dates - 1) * stride + 1 + horizon
    state = np.empty((n_symbols, bars + 1))
    state[:, 0] = 0.0
    for t in range(bars):
        noise = np.sqrt(0.5) * rng.standard_normal() + np.sqrt(0.5) * rng.standard_normal(n_symbols)
        state[:, t + 1] = PERSISTENCE * state[:, t] + SHOCK * noise
    level = np.full(bars, np.log(0.01))
    level[LOOKBACK + (n_dates // 2) * stride :] += jump
    returns = np.exp(level + state[:, :bars]) * rng.standard_normal((n_symbols, bars))
    log = np.cumsum(returns, axis=1)
    rows = LOOKBACK + np.arange(n_dates) * stride  # the first bar behind each window
    time = np.datetime64("2015-01-01T21:00", "us") + np.arange(bars) * np.timedelta64(1, "D")
    values, actual, ended, as_of, future, perfect, symbols = [], [], [], [], [], [], []
    for row in rows:
        for s in range(n_symbols):
            close = 100 * np.exp(log[s, row - LOOKBACK : row])
            open_ = np.concatenate((close[:1], close[:-1]))
            high, low = np.maximum(open_, close) * 1.002, np.minimum(open_, close) * 0.998
            volume = np.full(LOOKBACK, 1e6)
            values.append(np.stack((open_, high, low, close, volume, volume * close), axis=-1))
            symbols.append(f"S{s:02d}")
        as_of += [time[row - 1]] * n_symbols
        future += [time[row : row + horizon]] * n_symbols
        ended += [time[row : row + horizon]] * n_symbols
        actual.append(log[:, row : row + horizon] - log[:, row - 1 : row])
        path_state = np.repeat(state[:, row, None], n_paths, axis=1)
        path, steps = np.zeros((n_symbols, n_paths)), []
        for h in range(horizon):
            # The level of the as_of bar goes on: nobody knows of a jump before it comes.
            sigma = np.exp(level[row - 1] + path_state)
            path = path + sigma * rng.standard_normal(path.shape)
            steps.append(path)
            common = np.sqrt(0.5) * rng.standard_normal(n_paths)
            own = np.sqrt(0.5) * rng.standard_normal(path.shape)
            path_state = PERSISTENCE * path_state + SHOCK * (common + own)
            assert h < horizon
        perfect.append(np.stack(steps, axis=-1))
    windows = WindowBatch(
        tuple(symbols), np.array(as_of), np.stack(values),
        np.stack([np.array(f)[:1] - np.arange(LOOKBACK, 0, -1) * np.timedelta64(1, "D")
                  for f in future]),
        np.array(future),
    )  # fmt: skip
    return Market(windows, np.concatenate(actual), np.array(ended), np.concatenate(perfect))


def past_of(made: Market, model_NSH: np.ndarray) -> PastForecasts:
    """These forecasts with their outcomes and every baseline the gate may publish."""
    n_paths = model_NSH.shape[1]
    others = baseline_paths(BASELINES, made.windows, n_paths, seed=1)
    return PastForecasts(
        symbols=made.windows.symbols,
        as_of_N=made.windows.as_of_B,
        members={MODEL: model_NSH.astype(np.float32)}
        | {name: log_closes(each) for name, each in others.items()},
        sigma_N=bar_volatility(made.windows.values_BLF),
        actual_NH=made.actual_NH,
        ended_NH=made.ended_NH,
    )


def faulty(name: str, made: Market) -> np.ndarray:
    """The perfect ensemble with one fault."""
    perfect = made.perfect_NSH
    middle = perfect.mean(axis=1, keepdims=True)
    unit = bar_volatility(made.windows.values_BLF)[:, None, None] * np.sqrt(
        np.arange(1, perfect.shape[2] + 1)
    )
    close = np.log(made.windows.values_BLF[..., 3])
    z = (close[:, -1] - close.mean(axis=1)) / close.std(axis=1)
    ramp = np.arange(1, perfect.shape[2] + 1) / perfect.shape[2]
    rng = np.random.default_rng(9)
    return {
        "perfect": perfect,
        "too wide": middle + 2 * (perfect - middle),
        "too narrow": middle + 0.5 * (perfect - middle),
        "biased": perfect + 0.5 * unit,
        "mean reverting": perfect - 0.04 * z[:, None, None] * ramp,
        "noisy levels": perfect + 0.008 * rng.standard_normal(perfect.shape),
    }[name]
