"""A seeded market to try things on. Knows the bar columns and the calendars, nothing of stores.

The simulator makes daily bars with the habits of real ones: symbols move together (a market and a
few sector factors), quiet and wild times cluster and are partly shared, tails are fat, prices jump
overnight, volume follows volatility, one symbol lists late and one is delisted. There is nothing to
predict in the direction of its prices: a strategy that earns on it has found a bug.

Legend: T sessions, N symbols, G sectors, K steps inside a session (step 0 is the overnight gap).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from market.errors import ConfigError
from market.fields import FEATURES

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]

_DAYS_PER_YEAR = 252.0
_FADE_SESSIONS = 60
_JITTER_SESSIONS = 20


@dataclass(frozen=True)
class SimulatorParams:
    """What to simulate. Out-of-range values raise ConfigError naming the allowed range.

    A longer simulation begins with the shorter one, and more symbols leave the others as they are.
    """

    seed: int
    """Everything random derives from it; >= 0."""
    n_symbols: int = 60
    """How many symbols, named SIM000, SIM001, …"""
    n_sessions: int = 750
    """How many sessions from `start` on."""
    start: date = date(2014, 1, 2)
    """First session, or the day before it."""
    venue: str = "XNYS"
    """Exchange calendar code; "24/7" trades every day."""
    n_sectors: int = 6
    """Sector factors beside the market's; symbol i belongs to sector i modulo this."""
    annual_volatility: float = 0.28
    """Typical yearly standard deviation of one symbol's log return."""
    annual_drift: float = 0.05
    """Yearly log drift of every symbol."""
    tail_df: float = 5.0
    """Degrees of freedom of the Student-t daily shocks; > 3, lower is wilder."""
    overnight_share: float = 0.25
    """Part of the daily variance that falls between close and open."""
    jumps_per_year: float = 4.0
    """Expected overnight jumps per symbol and year."""
    jump_volatility: float = 0.045
    """Standard deviation of a jump's log size."""
    steps_per_session: int = 32
    """Trades from which a session's open, high, low and close are taken; >= 2."""
    late_listings: int = 1
    """How many symbols, counted from the first, list late."""
    listing_session: int = 200
    """About when: the session number, give or take 20."""
    delistings: int = 1
    """How many symbols after those fall and are delisted."""
    delisting_session: int = 680
    """About when: the session number, give or take 20."""
    tick: float = 0.01
    """Prices are multiples of it."""

    def __post_init__(self) -> None:
        rules: tuple[tuple[str, bool, str], ...] = (
            ("seed", self.seed >= 0, ">= 0"),
            ("n_symbols", 1 <= self.n_symbols <= 1_000_000, "1 to 1000000"),
            ("n_sessions", self.n_sessions >= 1, ">= 1"),
            ("n_sectors", self.n_sectors >= 1, ">= 1"),
            ("annual_volatility", 0 < self.annual_volatility <= 3, "in (0, 3]"),
            ("annual_drift", -1 <= self.annual_drift <= 1, "in [-1, 1]"),
            ("tail_df", self.tail_df > 3, "> 3"),
            ("overnight_share", 0 < self.overnight_share < 1, "in (0, 1)"),
            ("jumps_per_year", 0 <= self.jumps_per_year <= 100, "in [0, 100]"),
            ("jump_volatility", 0 <= self.jump_volatility <= 1, "in [0, 1]"),
            ("steps_per_session", self.steps_per_session >= 2, ">= 2"),
            ("late_listings", self.late_listings >= 0, ">= 0"),
            (
                "delistings",
                self.delistings >= 0 and self.late_listings + self.delistings < self.n_symbols,
                ">= 0, and late_listings + delistings below n_symbols",
            ),
            ("listing_session", self.listing_session >= _JITTER_SESSIONS, ">= 20"),
            ("delisting_session", self.delisting_session >= 2 * _JITTER_SESSIONS, ">= 40"),
            ("tick", 0 < self.tick <= 1, "in (0, 1]"),
        )
        for name, holds, allowed in rules:
            if not holds:
                raise ConfigError(
                    f"SimulatorParams.{name}={getattr(self, name)}: must be {allowed}"
                )


class _Stream(IntEnum):
    """Independent random streams, so that drawing more of one never shifts another."""

    TRAITS = 0
    VOLATILITY = 1
    TAIL = 2
    PATH = 3
    JUMP = 4
    VOLUME = 5


_MARKET, _SECTOR, _SYMBOL = 0, 1, 2


def _generator(seed: int, kind: int, index: int, stream: _Stream) -> np.random.Generator:
    key = np.random.SeedSequence(seed, spawn_key=(kind, index, int(stream)))
    return np.random.Generator(np.random.Philox(key))


def _persistent(noise_T: Floats, persistence: float, spread: float) -> Floats:
    """First-order autoregression with stationary standard deviation `spread`."""
    out_T = np.empty_like(noise_T)
    level = spread * noise_T[0]
    innovation = spread * np.sqrt(1.0 - persistence**2)
    for t, shock in enumerate(noise_T):
        level = persistence * level + innovation * shock if t else level
        out_T[t] = level
    return out_T


def _factor(
    p: SimulatorParams, kind: int, index: int, persistence: float, spread: float
) -> tuple[Floats, Floats]:
    """Steps of unit daily variance (before volatility), and the factor's own log volatility."""
    log_vol_T = _persistent(
        _generator(p.seed, kind, index, _Stream.VOLATILITY).standard_normal(p.n_sessions),
        persistence,
        spread,
    )
    chi2_T = _generator(p.seed, kind, index, _Stream.TAIL).chisquare(p.tail_df, p.n_sessions)
    tail_T = np.sqrt((p.tail_df - 2.0) / chi2_T)
    inside = p.steps_per_session
    step_sd_K = np.full(inside + 1, np.sqrt((1.0 - p.overnight_share) / inside))
    step_sd_K[0] = np.sqrt(p.overnight_share)
    normal_TK = _generator(p.seed, kind, index, _Stream.PATH).standard_normal(
        (p.n_sessions, inside + 1)
    )
    # E[exp(2 v)] = exp(2 spread²) for normal v: centring keeps the average variance at one.
    return normal_TK * step_sd_K * tail_T[:, None], log_vol_T - spread**2


def _sessions(p: SimulatorParams) -> npt.NDArray[np.datetime64]:
    import warnings

    import exchange_calendars

    end = p.start + timedelta(days=int(p.n_sessions * 1.7) + 40)
    try:
        with warnings.catch_warnings():
            # exchange_calendars still uses a pandas accessor that is on its way out.
            warnings.simplefilter("ignore", DeprecationWarning)
            calendar = exchange_calendars.get_calendar(p.venue, start=p.start, end=end)
    except exchange_calendars.errors.InvalidCalendarName as error:
        raise ConfigError(
            f"SimulatorParams.venue={p.venue!r}: exchange_calendars has no such calendar"
        ) from error
    labels: npt.NDArray[np.datetime64] = calendar.sessions[: p.n_sessions].to_numpy()
    return labels.astype("datetime64[us]")


def _symbol_bars(
    p: SimulatorParams, i: int, market_TK: Floats, sector_TK: Floats, shared_log_vol_T: Floats
) -> tuple[Floats, slice]:
    """Bars (T, 6) of symbol i and the sessions in which it trades."""
    traits = _generator(p.seed, _SYMBOL, i, _Stream.TRAITS)
    daily_vol = p.annual_volatility / np.sqrt(_DAYS_PER_YEAR) * np.exp(0.3 * traits.normal())
    market_share = traits.uniform(0.25, 0.5)
    sector_share = traits.uniform(0.1, 0.25)
    first_price = np.exp(traits.normal(3.7, 0.7))
    log_base_volume = traits.normal(14.0, 1.0)
    jitter = int(traits.integers(-_JITTER_SESSIONS, _JITTER_SESSIONS + 1))

    own_TK, own_log_vol_T = _factor(p, _SYMBOL, i, persistence=0.95, spread=0.3)
    log_vol_T = shared_log_vol_T + own_log_vol_T
    steps_TK = daily_vol * (
        np.sqrt(market_share) * market_TK * np.exp(shared_log_vol_T)[:, None]
        + np.sqrt(sector_share) * sector_TK * np.exp(shared_log_vol_T)[:, None]
        + np.sqrt(1.0 - market_share - sector_share) * own_TK * np.exp(log_vol_T)[:, None]
    )

    jump = _generator(p.seed, _SYMBOL, i, _Stream.JUMP)
    jump_T2 = jump.random((p.n_sessions, 2))
    jumped_T = jump_T2[:, 0] < p.jumps_per_year / _DAYS_PER_YEAR
    # Laplace by inversion: one uniform per session keeps the stream's pace fixed.
    centred_T = np.clip(jump_T2[:, 1] - 0.5, -0.499999, 0.499999)
    laplace_T = -np.sign(centred_T) * np.log1p(-2.0 * np.abs(centred_T)) / np.sqrt(2.0)
    steps_TK[:, 0] += jumped_T * p.jump_volatility * laplace_T
    steps_TK[:, 1:] += p.annual_drift / _DAYS_PER_YEAR / p.steps_per_session

    first, last = 0, p.n_sessions
    if i < p.late_listings:
        first = min(p.listing_session + jitter, p.n_sessions)
    elif i < p.late_listings + p.delistings:
        end = p.delisting_session + jitter
        fade = slice(max(end - _FADE_SESSIONS, 0), end)
        steps_TK[fade] *= 1.8
        steps_TK[fade, 1:] -= 0.012 / p.steps_per_session
        last = min(end, p.n_sessions)

    path_TK = np.log(first_price) + np.cumsum(steps_TK.ravel()).reshape(steps_TK.shape)
    # The day's first trade is where the overnight gap ends.
    price_TK = np.maximum(np.round(np.exp(path_TK) / p.tick), 1.0) * p.tick
    price_TK = np.round(price_TK, 10)

    surprise_T = np.log(np.sqrt(np.sum(steps_TK**2, axis=1)) / daily_vol + 0.1)
    noise_T2 = _generator(p.seed, _SYMBOL, i, _Stream.VOLUME).standard_normal((p.n_sessions, 2))
    mood_T = _persistent(noise_T2[:, 0].copy(), persistence=0.9, spread=0.25)
    log_volume_T = log_base_volume + 0.7 * surprise_T + mood_T + 0.2 * noise_T2[:, 1]
    log_volume_T += 0.5 * jumped_T
    volume_T = np.maximum(np.round(np.exp(log_volume_T) / 100.0), 1.0) * 100.0

    bars_TF = np.column_stack(
        [
            price_TK[:, 0],
            price_TK.max(axis=1),
            price_TK.min(axis=1),
            price_TK[:, -1],
            volume_T,
            np.round(volume_T * price_TK.mean(axis=1), 2),
        ]
    )
    return bars_TF, slice(first, last)


def simulate_market(params: SimulatorParams) -> pl.DataFrame:
    """Daily bars of a made-up market: symbol, timestamp, open, high, low, close, volume, amount.

    Timestamps are naive midnights of the venue's sessions, as vendors label daily bars. Rows are
    sorted by symbol and timestamp and keep every bar rule. A symbol that lists after the last
    session has no rows. Raises ConfigError for an unknown venue.
    """
    import polars as pl

    p = params
    sessions_T = _sessions(p)
    market_TK, market_log_vol_T = _factor(p, _MARKET, 0, persistence=0.98, spread=0.35)
    sectors = [_factor(p, _SECTOR, g, 0.97, 0.2)[0] for g in range(p.n_sectors)]
    # Volatility rises after the market falls, and the rise fades over about a month.
    falls_T = np.maximum(-market_TK.sum(axis=1), 0.0)
    leverage_T = np.zeros(p.n_sessions)
    for t in range(1, p.n_sessions):
        leverage_T[t] = 0.95 * leverage_T[t - 1] + 0.06 * (falls_T[t - 1] - 0.35)
    shared_T = market_log_vol_T + np.clip(leverage_T, -0.5, 1.0)

    frames = []
    for i in range(p.n_symbols):
        bars_TF, traded = _symbol_bars(p, i, market_TK, sectors[i % p.n_sectors], shared_T)
        frames.append(
            pl.DataFrame(
                {
                    "symbol": [f"SIM{i:03d}"] * len(sessions_T[traded]),
                    "timestamp": sessions_T[traded],
                    **{name: bars_TF[traded, f] for f, name in enumerate(FEATURES)},
                },
                schema_overrides={"symbol": pl.String},
            )
        )
    return pl.concat(frames)
