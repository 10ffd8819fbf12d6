"""Volatility that moves: filtered historical simulation, by time of day too, and GARCH.

Legend: N donor bars, S paths, H horizon.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from forecaster.baselines.bars import Donors, donors, whole_bars
from forecaster.baselines.gaussian import DECAY, ewma_variance
from forecaster.baselines.series import Array, Baseline, SeriesWindow
from forecaster.interface import TimeArray
from market.errors import ConfigError

REVERSION = 0.97
"""Share of the gap to the long-run variance that is left after a bar."""
NEIGHBOURS = 2
"""Slots of the day before and after whose returns also speak for a slot's volatility."""
PRIOR_DAYS = 2.0
"""Days' worth of weight for a day without pattern."""
DAY_US = 86_400_000_000


class FilteredHistorical(Baseline):
    """Standardised bars of the lookback drawn again, under a variance that moves on with them.

    Filtered historical simulation (Barone-Adesi, Giannopoulos & Vosper 1999) with an EWMA filter:
    each past bar is divided by the volatility known before it, drawn with replacement, and
    multiplied by the path's own volatility, which reverts to the long run:
    v' = REVERSION · (DECAY · v + (1 - DECAY) · r²) + (1 - REVERSION) · mean square. No drift.
    """

    name = "fhs-1"
    about = "filtered historical simulation: standardised bars under a moving variance"

    def rule(self, window: SeriesWindow, n_paths: int, rng: np.random.Generator) -> Array:
        parts = donors(window.values_LF)
        ones = np.ones(window.horizon)
        return _filtered(parts, np.ones(len(parts.return_N)), ones, n_paths, rng)


class SeasonalVolatility(Baseline):
    """Filtered historical simulation of returns freed from the day's pattern of volatility.

    A bar's factor is the mean size of returns at its time of day and the NEIGHBOURS slots
    around it, relative to all; a bar behind a hole, which carries the night or a break, stands
    alone. Each is drawn towards 1 as if the lookback had one day less and PRIOR_DAYS without
    pattern: one day alone cannot tell a pattern from a cluster, and a time that was not seen has
    none. On daily bars every factor is 1.
    """

    name = "seasonal-2"
    about = "the same with the day's pattern of volatility; on daily bars it is fhs"

    def rule(self, window: SeriesWindow, n_paths: int, rng: np.random.Generator) -> Array:
        parts = donors(window.values_LF)
        factor_N, factor_H = day_pattern(window.timestamps_L, parts.return_N, window.future_H)
        return _filtered(parts, factor_N, factor_H, n_paths, rng)


def day_pattern(
    timestamps_L: TimeArray, return_N: Array, future_H: TimeArray
) -> tuple[Array, Array]:
    """Volatility factors by time of day of the lookback's returns and of the bars to come."""
    times = np.concatenate((timestamps_L, future_H)).astype("datetime64[us]").astype(np.int64)
    steps = np.diff(times)
    step = int(steps.min())
    if not 0 < step <= DAY_US // 2:
        return np.ones(len(return_N)), np.ones(len(future_H))
    n_slots = -(-DAY_US // step)
    slot, behind = times[1:] % DAY_US // step, steps > step
    n = len(return_N)
    size = np.abs(return_N) / max(float(np.abs(return_N).mean()), 1e-300)
    factor = np.ones((2, n_slots))
    for hole in (False, True):
        own = behind[:n] == hole
        total = np.bincount(slot[:n][own], size[own], minlength=n_slots)
        count = np.bincount(slot[:n][own], minlength=n_slots).astype(np.float64)
        shifts = np.arange(1) if hole else np.arange(-NEIGHBOURS, NEIGHBOURS + 1)
        total, count = (
            np.sum([np.roll(each, shift) for shift in shifts], axis=0) for each in (total, count)
        )
        more_days = np.maximum(count / len(shifts) - 1, 0.0)
        believed = more_days / (more_days + PRIOR_DAYS)
        factor[int(hole)] += believed * (total / np.maximum(count, 1.0) - 1)
    found = factor[behind.astype(np.int64), slot]
    return found[:n], found[n:]


def _filtered(
    parts: Donors, factor_N: Array, factor_H: Array, n_paths: int, rng: np.random.Generator
) -> Array:
    horizon = len(factor_H)
    plain_N = parts.return_N / factor_N
    plain_N = plain_N - plain_N.mean()
    variance = ewma_variance(plain_N)
    sigma_N = np.sqrt(np.maximum(variance[:-1], 1e-300))
    z_N = plain_N / sigma_N
    z_N = (z_N - z_N.mean()) / max(float(z_N.std()), 1e-300)
    drawn = rng.integers(0, len(z_N), size=(n_paths, horizon))
    sigma_SH = _volatility_paths(z_N[drawn], float(variance[-1]), float((plain_N**2).mean()))
    now_SH = sigma_SH * factor_H
    return whole_bars(parts, drawn, z_N[drawn] * now_SH, now_SH / (sigma_N * factor_N)[drawn])


def _volatility_paths(z_SH: Array, start: float, long_run: float) -> Array:
    variance_S = np.full(len(z_SH), start)
    sigma_SH = np.empty_like(z_SH)
    for h in range(z_SH.shape[1]):
        sigma_SH[:, h] = np.sqrt(variance_S)
        moved = variance_S * (DECAY + (1 - DECAY) * z_SH[:, h] ** 2)
        variance_S = REVERSION * moved + (1 - REVERSION) * long_run
    return sigma_SH


class _Garch(NamedTuple):
    """v' = omega + alpha · r² + beta · v, with Student-t shocks of `freedom` degrees."""

    omega: float
    alpha: float
    beta: float
    freedom: float
    variance: float
    """Of the next return."""


class GarchT(Baseline):
    """GARCH(1,1) with Student-t shocks, fitted to each lookback by maximum likelihood (`arch`).

    Bollerslev 1987. Where the fit does not converge or is not stationary, alpha 0.05, beta 0.90,
    6 degrees of freedom and the lookback's variance stand in. Bars lend their shapes.
    """

    name = "garch-1"
    about = "GARCH(1,1) with Student-t shocks (needs the extra: pip install 'candlecast[garch]')"
    least_bars = 30

    def rule(self, window: SeriesWindow, n_paths: int, rng: np.random.Generator) -> Array:
        parts = donors(window.values_LF)
        shape = (n_paths, window.horizon)
        drawn = rng.integers(0, len(parts.return_N), size=shape)
        long_run = float(parts.return_N.var())
        if long_run == 0:
            return whole_bars(parts, drawn, np.zeros(shape))
        fit = _fit_garch(parts.return_N - parts.return_N.mean(), long_run)
        shock = rng.standard_t(fit.freedom, shape) * np.sqrt((fit.freedom - 2) / fit.freedom)
        returns, variance_S = np.empty(shape), np.full(n_paths, fit.variance)
        for h in range(window.horizon):
            returns[:, h] = np.sqrt(variance_S) * shock[:, h]
            variance_S = fit.omega + fit.alpha * returns[:, h] ** 2 + fit.beta * variance_S
        scale = np.sqrt(fit.variance / long_run)
        return whole_bars(parts, drawn, returns, float(scale))


def _fit_garch(return_N: Array, long_run: float) -> _Garch:
    try:
        from arch import arch_model
    except ImportError:
        raise ConfigError(
            "the baseline 'garch' needs the package arch; install it with "
            "pip install 'candlecast[garch]', or choose fhs"
        ) from None
    unit = np.sqrt(long_run)
    model = arch_model(return_N / unit, mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
    found = model.fit(disp="off", show_warning=False)
    omega, alpha, beta, freedom = (float(found.params[name]) for name in
                                   ("omega", "alpha[1]", "beta[1]", "nu"))  # fmt: skip
    last = float(return_N[-1] / unit) ** 2
    if found.convergence_flag or alpha + beta >= 0.9995 or not freedom > 2.05:
        alpha, beta, freedom = 0.05, 0.90, 6.0
        omega, variance = 1 - alpha - beta, float(ewma_variance(return_N / unit)[-1])
    else:
        variance = omega + alpha * last + beta * float(found.conditional_volatility[-1]) ** 2
    return _Garch(omega * long_run, alpha, beta, freedom, variance * long_run)
