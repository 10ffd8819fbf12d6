"""Instance normalisation of windows. Uses the past only; knows nothing of models.

Legend: B series, L lookback, F features.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from forecaster.interface import CLOSE, FloatArray
from market.fields import FEATURES

EPSILON = 1e-5
"""Added to the standard deviation, in the units of the data (the published models expect it)."""
CLIP = 5.0
"""Normalised values are clipped to ±CLIP."""
VOLUME, AMOUNT = FEATURES.index("volume"), FEATURES.index("amount")


class Normalised(NamedTuple):
    """x = clip((value - loc) / scale); scale includes EPSILON. x is float32, the rest float64."""

    x_BLF: npt.NDArray[np.float32]
    loc_BF: npt.NDArray[np.float64]
    scale_BF: npt.NDArray[np.float64]


def normalise(
    values_BLF: FloatArray, clip: float = CLIP, lookback: int | None = None
) -> Normalised:
    """Subtracts the mean and divides by population std + 1e-5, per series and feature.

    Statistics come from the first `lookback` rows (all where None), so that rows behind them, such
    as a training target, never shape their own scale.
    """
    wide = np.asarray(values_BLF, dtype=np.float64)
    past = wide[:, :lookback]
    loc = past.mean(axis=1)
    scale = past.std(axis=1) + EPSILON
    x = (wide - loc[:, None]) / scale[:, None]
    return Normalised(np.clip(x, -clip, clip).astype(np.float32), loc, scale)


def power_of_ten(values_BLF: FloatArray) -> npt.NDArray[np.float64]:
    """Factors (B, F) that lift values below 1 into 10 … 100, so that EPSILON stays negligible.

    Prices share the factor of the last close; volume and amount have one each, from their last
    nonzero value. Values of 1 and above keep the factor 1.
    """
    wide = np.asarray(values_BLF, dtype=np.float64)
    factor = np.ones((wide.shape[0], wide.shape[2]))
    factor[:, :VOLUME] = _lift(wide[:, -1, CLOSE])[:, None]
    for feature in (VOLUME, AMOUNT):
        column = wide[:, :, feature]
        last = column.shape[1] - 1 - np.argmax(column[:, ::-1] != 0, axis=1)
        factor[:, feature] = _lift(column[np.arange(len(column)), last])
    return factor


def _lift(value_B: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    small = (value_B > 0) & (value_B < 1)
    exponent = 1 - np.floor(np.log10(np.where(small, value_B, 10.0)))
    return np.where(small, 10.0**exponent, 1.0)


class Levels:
    """Windows of standardised prices and volumes, and the way back.

    lift: multiplies prices and volumes below 1 by a power of ten while the model sees them.
    """

    legal = False
    mirror: tuple[int, ...] | None = None

    def __init__(
        self,
        values_BTF: FloatArray,
        *,
        clip: float = CLIP,
        lookback: int | None = None,
        lift: bool = True,
    ) -> None:
        factor_BF = (
            power_of_ten(values_BTF[:, :lookback])
            if lift
            else np.ones((values_BTF.shape[0], values_BTF.shape[2]))
        )
        lifted = normalise(values_BTF * factor_BF[:, None], clip, lookback)
        self.x_BLF = lifted.x_BLF
        self.loc_BF, self.scale_BF = lifted.loc_BF / factor_BF, lifted.scale_BF / factor_BF

    def bars(self, x_BSHF: FloatArray, rows: slice = slice(None)) -> npt.NDArray[np.float64]:
        """Normalised numbers back in the units of the data."""
        z = np.asarray(x_BSHF, dtype=np.float64)
        out: npt.NDArray[np.float64] = z * self.scale_BF[rows, None, None]
        return out + self.loc_BF[rows, None, None]
