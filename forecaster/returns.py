"""Bars as returns in units of a running volatility, and back. Uses the past only; no model.

Every feature of a bar says how it differs from the bars before it, measured by the volatility that
was known before it: no price level, no currency, no share count is left. Any six numbers decode to
a legal bar with positive prices, and the first decoded bar follows the last known close. The
formulas are written out in docs/models/returns.md.

Legend: B series, S paths, L lookback, H horizon, T = L + H, F features, K horizons of memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forecaster.interface import CLOSE, FloatArray
from market.fields import FEATURES

Array = npt.NDArray[np.float64]

OPEN, HIGH, LOW, VOLUME, AMOUNT = (
    FEATURES.index(name) for name in ("open", "high", "low", "volume", "amount")
)
HALF_LIVES = (1.0, 4.0, 16.0, 64.0)
"""In bars, of the averages of squared volatility that the unit blends."""
WEIGHTS = (0.2, 0.2, 0.25, 0.35)
"""Of those averages; they sum to 1. Chosen on training bars by one-step likelihood (QLIKE)."""
CAP = 25.0
"""One bar counts at most this many times the squared unit: a crash moves the unit, not for good."""
START = 32
"""The averages start at the mean of so many first bars of the window."""
LEAST, MOST = 1e-14, 1.0
"""Bounds of the squared unit: volatilities of 1e-7 and of 100 % a bar."""
SLOW = 32.0
"""Half-life in bars of the volume's, and of the traded price's, own average."""
SURGE = 10.0
"""One bar counts at most this many times the average volume."""
NO_VOLUME = 0.01
"""Added to volumes, in units of their average, so that a bar without trades has a logarithm."""
LEAST_VOLUME = 1e-9
"""Volumes below it are 0, as are those below a thousandth of NO_VOLUME."""
MOST_X = 100.0
"""Decoded numbers stay within ±MOST_X, so that their sinh is finite."""
LARGEST = 20.0
"""Decoded log moves and log volumes stay within ±LARGEST (a factor of half a billion)."""
RANGE = (1e-37, 1e37)
"""Decoded prices stay within it, and amounts below its end: the numbers float32 can hold."""
MIRROR = (-1, 3, 2, -4, 5, 6)
"""What a mirrored bar is: its features' places from 1, and their signs (see `mirrored`)."""
WICK, VOLUME_UNIT = 2.0, 0.5
"""Wicks are stretched by this before compression; log volume is measured in this unit."""


@dataclass
class _Running:
    """What is known after some bars: all that the next one is measured by. Arrays (…) alike."""

    close: Array
    squared_K: list[Array]
    """Averages of squared volatility, one per half-life."""
    volume: Array
    """Average volume."""
    premium: Array
    """Average log of amount / (volume · mean price)."""

    def unit(self) -> Array:
        """Volatility of one bar as it is known now."""
        blend = sum(w * each for w, each in zip(WEIGHTS, self.squared_K, strict=True))
        squared: Array = np.clip(blend, LEAST, MOST)
        return np.sqrt(squared)

    def advance(
        self, unit: Array, close: Array, squared: Array, volume: Array, premium: Array
    ) -> None:
        """Takes in a bar. premium: NaN where nothing was traded."""
        counted = np.minimum(squared, CAP * unit**2)
        self.close = close
        self.squared_K = [
            each + (1.0 - 0.5 ** (1.0 / half_life)) * (counted - each)
            for half_life, each in zip(HALF_LIVES, self.squared_K, strict=True)
        ]
        pace = 1.0 - 0.5 ** (1.0 / SLOW)
        surge = np.where(self.volume > 0, np.minimum(volume, SURGE * self.volume), volume)
        self.volume = self.volume + pace * (surge - self.volume)
        self.premium = self.premium + pace * np.nan_to_num(premium - self.premium)

    def of_paths(self, rows: slice, n_paths: int) -> _Running:
        """Some series' state, once per path: (B,) → (B, S)."""

        def spread(value_B: Array) -> Array:
            return np.repeat(value_B[rows, None], n_paths, axis=1)

        return _Running(
            spread(self.close),
            [spread(each) for each in self.squared_K],
            spread(self.volume),
            spread(self.premium),
        )


class Returns:
    """Windows in return space, and the way back for paths that continue them.

    x_BLF, float32: asinh of gap, upper wick, lower wick, body, volume and amount in the places of
    open, high, low, close, volume and amount. loc_BF is what the first forecast bar is measured
    from, scale_BF its unit, both in the units of the data.
    """

    legal = True
    """Decoded bars keep every rule, whatever the numbers."""
    mirror: tuple[int, ...] | None = MIRROR

    def __init__(self, values_BTF: FloatArray, lookback: int | None = None) -> None:
        """Statistics at each bar come from the bars before it, and for the first START bars of
        the lookback (the first `lookback` rows, all where None) from those."""
        values = np.asarray(values_BTF, dtype=np.float64)
        lookback = values.shape[1] if lookback is None else lookback
        state, gap_BT, squared_BT, premium_BT = _begin(values, min(lookback, START))
        open_BT, close_BT, volume_BT = values[..., OPEN], values[..., CLOSE], values[..., VOLUME]
        body_BT = np.log(close_BT / open_BT)
        up_BT = np.log(values[..., HIGH] / np.maximum(open_BT, close_BT))
        down_BT = np.log(np.minimum(open_BT, close_BT) / values[..., LOW])
        x_BTF = np.empty(values.shape)
        for t in range(values.shape[1]):
            if t == lookback:
                self._at_as_of(state)
            unit = state.unit()
            x_BTF[:, t, OPEN] = gap_BT[:, t] / unit
            x_BTF[:, t, HIGH] = WICK * up_BT[:, t] / unit
            x_BTF[:, t, LOW] = WICK * down_BT[:, t] / unit
            x_BTF[:, t, CLOSE] = body_BT[:, t] / unit
            x_BTF[:, t, VOLUME] = _log_volume(volume_BT[:, t], state.volume) / VOLUME_UNIT
            x_BTF[:, t, AMOUNT] = np.nan_to_num(premium_BT[:, t] - state.premium) / unit
            state.advance(unit, close_BT[:, t], squared_BT[:, t], volume_BT[:, t], premium_BT[:, t])
        if values.shape[1] == lookback:
            self._at_as_of(state)
        self.x_BLF = np.arcsinh(x_BTF).astype(np.float32)

    def _at_as_of(self, state: _Running) -> None:
        """Keeps what is known after the lookback."""
        self._known = _Running(state.close, list(state.squared_K), state.volume, state.premium)
        unit = state.unit()
        loc = np.repeat(state.close[:, None], len(FEATURES), axis=1)
        scale = loc * unit[:, None]
        loc[:, VOLUME] = state.volume
        scale[:, VOLUME] = state.volume * VOLUME_UNIT
        loc[:, AMOUNT] = state.volume * state.close * np.exp(state.premium)
        scale[:, AMOUNT] = loc[:, AMOUNT] * VOLUME_UNIT
        self.loc_BF, self.scale_BF = loc, scale

    def bars(self, x_BSHF: FloatArray, rows: slice = slice(None)) -> npt.NDArray[np.float64]:
        """Bars in price units of decoded numbers that follow the lookback of some series."""
        x = np.sinh(np.clip(np.asarray(x_BSHF, dtype=np.float64), -MOST_X, MOST_X))
        state = self._known.of_paths(rows, x.shape[1])
        values = np.empty(x.shape)
        for step in range(x.shape[2]):
            unit = state.unit()
            gap, body = _move(unit * x[:, :, step, OPEN]), _move(unit * x[:, :, step, CLOSE])
            up, down = (
                _move(unit * np.maximum(x[:, :, step, side], 0.0) / WICK) for side in (HIGH, LOW)
            )
            first = np.clip(state.close * np.exp(gap), *RANGE)
            last = np.clip(first * np.exp(body), *RANGE)
            # Products with factors >= 1 and <= 1: rounding cannot put a body outside its range.
            high = np.clip(np.maximum(first, last) * np.exp(up), *RANGE)
            low = np.clip(np.minimum(first, last) * np.exp(-down), *RANGE)
            log_volume = _move(VOLUME_UNIT * x[:, :, step, VOLUME])
            volume = np.minimum(_volume(log_volume, state.volume), RANGE[1])
            premium = state.premium + _move(unit * x[:, :, step, AMOUNT])
            mean = (first + high + low + last) / 4.0
            amount = np.minimum(volume * mean * np.exp(premium), RANGE[1])
            for feature, value in zip(
                (OPEN, HIGH, LOW, CLOSE, VOLUME, AMOUNT),
                (first, high, low, last, volume, amount),
                strict=True,
            ):
                values[:, :, step, feature] = value
            premium = np.where(volume > 0, premium, np.nan)
            state.advance(unit, last, _squared(gap, body, up, down), volume, premium)
        return values


def _begin(values_BTF: Array, start: int) -> tuple[_Running, Array, Array, Array]:
    """The state before the first bar, and per bar (B, T): gap, squared volatility, premium."""
    open_BT, close_BT, volume_BT = (values_BTF[..., f] for f in (OPEN, CLOSE, VOLUME))
    gap_BT = np.zeros(open_BT.shape)
    gap_BT[:, 1:] = np.log(open_BT[:, 1:] / close_BT[:, :-1])
    squared_BT = _squared(
        gap_BT,
        np.log(close_BT / open_BT),
        np.log(values_BTF[..., HIGH] / np.maximum(open_BT, close_BT)),
        np.log(np.minimum(open_BT, close_BT) / values_BTF[..., LOW]),
    )
    mean_BT = values_BTF[..., [OPEN, HIGH, LOW, CLOSE]].mean(axis=-1)
    traded_BT = (volume_BT > 0) & (values_BTF[..., AMOUNT] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        premium_BT = np.where(
            traded_BT, np.log(values_BTF[..., AMOUNT] / (volume_BT * mean_BT)), np.nan
        )
    known = traded_BT[:, :start]
    premium = np.where(known, premium_BT[:, :start], 0.0).sum(axis=1) / np.maximum(
        known.sum(axis=1), 1
    )
    squared = squared_BT[:, :start].mean(axis=1)
    state = _Running(
        close=open_BT[:, 0],
        squared_K=[squared] * len(HALF_LIVES),
        volume=volume_BT[:, :start].mean(axis=1),
        premium=premium,
    )
    return state, gap_BT, squared_BT, premium_BT


def _squared(gap: Array, body: Array, up: Array, down: Array) -> Array:
    """Squared volatility that one bar shows: its gap, and half each of its squared body and of its
    range by Rogers & Satchell (1991), which is unbiased under a drift and needs no close-to-close
    history. The body keeps bars without highs and lows apart from flat ones."""
    top, bottom = np.maximum(body, 0.0) + up, np.maximum(-body, 0.0) + down
    ranged = top * (top - body) + bottom * (bottom + body)
    return gap**2 + 0.5 * body**2 + 0.5 * ranged


def _move(log_ratio: Array) -> Array:
    return np.clip(log_ratio, -LARGEST, LARGEST)


def _log_volume(volume: Array, average: Array) -> Array:
    known = (1.0 + NO_VOLUME) * average + LEAST_VOLUME
    out: Array = np.log((volume + NO_VOLUME * average + LEAST_VOLUME) / known)
    return out


def _volume(log_volume: Array, average: Array) -> Array:
    """The inverse of `_log_volume`."""
    known = (1.0 + NO_VOLUME) * average + LEAST_VOLUME
    volume = np.exp(log_volume) * known - NO_VOLUME * average - LEAST_VOLUME
    return np.where(volume < LEAST_VOLUME + 1e-3 * NO_VOLUME * average, 0.0, volume)


def mirrored(values_BTF: Array) -> Array:
    """Windows whose returns have the opposite sign: prices reflected about their first open.

    Gaps and bodies change sign and wicks change sides, so that in return space nothing but these
    signs changes; volume stays, and amount keeps its ratio to volume times mean price.
    """
    pivot = values_BTF[:, :1, OPEN] ** 2
    out = values_BTF.copy()
    out[..., OPEN], out[..., CLOSE] = pivot / values_BTF[..., OPEN], pivot / values_BTF[..., CLOSE]
    out[..., HIGH], out[..., LOW] = pivot / values_BTF[..., LOW], pivot / values_BTF[..., HIGH]
    prices = [OPEN, HIGH, LOW, CLOSE]
    out[..., AMOUNT] *= out[..., prices].mean(axis=-1) / values_BTF[..., prices].mean(axis=-1)
    return out
