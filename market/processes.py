"""Made-up bars with many kinds of volatility, to train on. Knows numpy; no stores, no models.

Where `synthetic` makes one believable market, this makes series as unlike each other as markets
and bar lengths are: volatility that clusters fast, slowly or by regimes, feeds on its own shocks
(GARCH), jumps, crashes, follows the time of day, and stands still in series that hardly trade.
Every direction is a fair coin: returns have no drift and no memory of their sign.

Legend: N series, T bars, K steps inside a bar, M bars of a session.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STEPS = 12
"""Trades from which a bar's open, high, low and close are taken."""
_DAY = np.timedelta64(1, "D")


class Session(NamedTuple):
    """When bars are made: `bars` a day, `minutes` apart, from `opens` minutes after midnight."""

    bars: int
    minutes: int
    opens: int
    around_the_clock: bool


DAILY = Session(1, 1440, 0, False)
SESSIONS = (
    Session(7, 60, 570, False),
    Session(26, 15, 570, False),
    Session(78, 5, 570, False),
    Session(75, 5, 555, False),
    Session(24, 60, 0, True),
    Session(96, 15, 0, True),
    Session(288, 5, 0, True),
)
"""Hours, quarters and five minutes of exchanges and of markets that never close."""


class ProcessBars(NamedTuple):
    """One series: labels and open, high, low, close, volume, amount."""

    timestamps_T: npt.NDArray[np.datetime64]
    values_TF: Floats


def simulate_processes(
    seed: int, n_series: int, n_bars: int, session: Session
) -> list[ProcessBars]:
    """Independent series of one kind of session, each with a volatility process of its own.

    Everything random derives from the arguments. Bars keep every bar rule.
    """
    key = np.random.SeedSequence(seed, spawn_key=(session.bars, session.minutes, n_series, n_bars))
    rng = np.random.Generator(np.random.Philox(key))
    place_T = np.arange(n_bars) % session.bars
    gap_N, move_N = _levels(rng, n_series, session)
    season_NT = _season(rng, n_series, session)[:, place_T]
    log_vol_NT = _log_volatility(rng, n_series, n_bars) + season_NT
    shock_NT = _shocks(rng, n_series, n_bars)
    scale_NT = move_N[:, None] * np.exp(log_vol_NT) * np.sqrt(_garch(rng, shock_NT))

    steps_NTK = rng.standard_normal((n_series, n_bars, STEPS + 1))
    steps_NTK[..., 1:] *= (scale_NT * np.abs(shock_NT))[..., None] / np.sqrt(STEPS)
    overnight_T = place_T == 0
    rest_NT = np.where(overnight_T, gap_N[:, None], 0.02 if session.around_the_clock else 0.1)
    steps_NTK[..., 0] *= scale_NT * np.abs(shock_NT) * rest_NT
    steps_NTK[..., 0] += overnight_T * _jumps(rng, n_series, n_bars) * scale_NT

    still_NT = rng.random((n_series, n_bars)) < _stillness(rng, n_series)[:, None]
    steps_NTK[still_NT] = 0.0
    flat_NTK = steps_NTK.reshape(n_series, -1)
    price_NTK = np.exp(
        rng.uniform(0.0, 6.0, n_series)[:, None] + np.cumsum(flat_NTK, axis=1)
    ).reshape(steps_NTK.shape)
    volume_NT = _volume(rng, steps_NTK, move_N, season_NT) * ~still_NT
    values_NTF = np.stack(
        [
            price_NTK[..., 0],
            price_NTK.max(axis=-1),
            price_NTK.min(axis=-1),
            price_NTK[..., -1],
            volume_NT,
            volume_NT * price_NTK.mean(axis=-1),
        ],
        axis=-1,
    )
    labels_T = _labels(n_bars, session)
    return [ProcessBars(labels_T, values_TF) for values_TF in values_NTF]


def _levels(rng: np.random.Generator, n: int, session: Session) -> tuple[Floats, Floats]:
    """Overnight move and typical move of a bar, (N,) each; the first in units of the second."""
    daily_N = np.exp(rng.normal(np.log(0.018), 0.5, n))
    if session.around_the_clock:
        return np.full(n, 0.02), daily_N / np.sqrt(session.bars)
    share_N = rng.uniform(0.08, 0.45, n)
    move_N = daily_N * np.sqrt((1.0 - share_N) / session.bars)
    return daily_N * np.sqrt(share_N) / move_N, move_N


def _season(rng: np.random.Generator, n: int, session: Session) -> Floats:
    """Log volatility by the time of day, (N, M), mean 0: busy at both ends, or in waves."""
    at_M = (np.arange(session.bars) + 0.5) / session.bars
    if session.around_the_clock:
        phase_N2, size_N2 = rng.uniform(0, 1, (n, 2)), rng.uniform(0, 0.35, (n, 2))
        waves_N2M = np.sin(2 * np.pi * (np.array([[1], [2]]) * at_M + phase_N2[..., None]))
        waves_NM: Floats = np.einsum("nw,nwm->nm", size_N2, waves_N2M)
        return waves_NM
    ends_N1, tilt_N1 = rng.uniform(0, 1.2, (n, 1)), rng.uniform(-0.2, 0.5, (n, 1))
    curve_NM = ends_N1 * (2 * at_M - 1) ** 2 - tilt_N1 * (at_M - 0.5)
    centred_NM: Floats = curve_NM - curve_NM.mean(axis=1, keepdims=True)
    return centred_NM


def _log_volatility(rng: np.random.Generator, n: int, n_bars: int) -> Floats:
    """A fast and a slow autoregression, and for some series two regimes, (N, T)."""
    out_NT = np.zeros((n, n_bars))
    for shortest, longest, least, most in ((2, 20, 0.05, 0.35), (20, 400, 0.1, 0.55)):
        half_life_N = np.exp(rng.uniform(np.log(shortest), np.log(longest), n))
        spread_N, keep_N = rng.uniform(least, most, n), 0.5 ** (1.0 / half_life_N)
        noise_NT = rng.standard_normal((n, n_bars))
        level_N = spread_N * noise_NT[:, 0]
        for t in range(n_bars):
            if t:
                fresh_N = spread_N * np.sqrt(1 - keep_N**2) * noise_NT[:, t]
                level_N = keep_N * level_N + fresh_N
            out_NT[:, t] += level_N
    height_N = np.where(rng.random(n) < 0.4, rng.uniform(0.3, 1.2, n), 0.0)
    leave_N = 1.0 / np.exp(rng.uniform(np.log(20), np.log(400), n))
    turns_NT = rng.random((n, n_bars)) < leave_N[:, None]
    wild_NT = (np.cumsum(turns_NT, axis=1) + rng.integers(0, 2, (n, 1))) % 2
    regimes_NT: Floats = height_N[:, None] * (wild_NT - 0.5)
    return out_NT + regimes_NT


def _shocks(rng: np.random.Generator, n: int, n_bars: int) -> Floats:
    """Size of each bar's shock: 1 on average in the square, fat-tailed, (N, T)."""
    df_N1 = np.exp(rng.uniform(np.log(3.5), np.log(20), (n, 1)))
    return np.sqrt((df_N1 - 2.0) / rng.chisquare(df_N1, (n, n_bars)))


def _garch(rng: np.random.Generator, shock_NT: Floats) -> Floats:
    """Variance that feeds on the shocks before it (Bollerslev 1986, eq. 1), mean 1, (N, T)."""
    n, n_bars = shock_NT.shape
    alpha_N, total_N = rng.uniform(0.0, 0.12, n), rng.uniform(0.7, 0.985, n)
    chi_NT = np.minimum(shock_NT**2 * rng.chisquare(1.0, shock_NT.shape), 30.0)
    out_NT, now_N = np.empty(shock_NT.shape), np.ones(n)
    for t in range(n_bars):
        out_NT[:, t] = now_N
        now_N = (1 - total_N) + now_N * (alpha_N * chi_NT[:, t] + total_N - alpha_N)
    return out_NT


def _jumps(rng: np.random.Generator, n: int, n_bars: int) -> Floats:
    """Rare Laplace moves between sessions, in units of the volatility, (N, T)."""
    chance_N1 = rng.uniform(0.0, 0.02, (n, 1))
    return (rng.random((n, n_bars)) < chance_N1) * rng.laplace(0.0, 3.0, (n, n_bars))


def _stillness(rng: np.random.Generator, n: int) -> Floats:
    """Share of bars without any trade; few series have such bars, (N,)."""
    return np.where(rng.random(n) < 0.1, rng.uniform(0.0, 0.3, n), 0.0)


def _volume(
    rng: np.random.Generator, steps_NTK: Floats, move_N: Floats, season_NT: Floats
) -> Floats:
    """Volumes that follow the size of moves, a slow mood and the time of day, (N, T)."""
    n, n_bars, _ = steps_NTK.shape
    size_NT = np.log(np.sqrt((steps_NTK**2).sum(axis=-1)) / move_N[:, None] + 0.1)
    keep_N, mood_N = rng.uniform(0.7, 0.97, n), np.zeros(n)
    noise_NT = rng.standard_normal((n, n_bars)) * np.sqrt(1 - keep_N**2)[:, None]
    mood_NT = np.empty((n, n_bars))
    for t in range(n_bars):
        mood_N = keep_N * mood_N + noise_NT[:, t]
        mood_NT[:, t] = mood_N
    log_NT = rng.normal(12.0, 3.0, (n, 1)) + rng.uniform(0.3, 1.0, (n, 1)) * size_NT
    log_NT += rng.uniform(0.1, 0.5, (n, 1)) * mood_NT + rng.uniform(0, 1, (n, 1)) * season_NT
    log_NT += rng.uniform(0.1, 0.6, (n, 1)) * rng.standard_normal((n, n_bars))
    volume_NT: Floats = np.exp(log_NT)
    return volume_NT


def _labels(n_bars: int, session: Session) -> npt.NDArray[np.datetime64]:
    days = np.arange(np.datetime64("2001-01-01"), np.datetime64("2001-01-01") + 2 * n_bars + 7)
    if not session.around_the_clock:
        days = days[np.is_busday(days)]
    day_T = days[np.arange(n_bars) // session.bars].astype("datetime64[us]")
    minute_T = session.opens + session.minutes * (np.arange(n_bars) % session.bars)
    labels_T: npt.NDArray[np.datetime64] = day_T + minute_T.astype("timedelta64[m]")
    return labels_T
