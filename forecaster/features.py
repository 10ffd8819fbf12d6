"""What a bar is to a model: its price level, or its returns. Knows the two ways; no model.

A tokenizer's config names one of them (key `features`). Each is a pair of a normaliser, which sees
the past alone, and its inverse.

Legend: B series, S paths, L lookback, H horizon, F features.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from forecaster.interface import FloatArray
from forecaster.normalize import Levels
from forecaster.returns import Returns

FeatureSpace = Literal["levels", "returns"]
"""levels: standardised prices and volumes, as the published checkpoints expect. returns: gap,
body, wicks and volume in units of a running volatility."""


class CodedWindows(Protocol):
    """Windows as a model sees them, and how to read what it says about the bars after them."""

    legal: bool
    """Decoded bars keep the rules of a bar by construction."""
    mirror: tuple[int, ...] | None
    """Signed places, from 1, of a mirrored bar's features; None where there is no such bar."""
    x_BLF: npt.NDArray[np.float32]
    loc_BF: npt.NDArray[np.float64]
    """What the bars after the window are measured from, in the units of the data."""
    scale_BF: npt.NDArray[np.float64]
    """The unit they are measured in, likewise."""

    def bars(self, x_BSHF: FloatArray, rows: slice = slice(None)) -> npt.NDArray[np.float64]:
        """Decoded bars that follow some of the windows, in the units of the data."""


def require_known(features: str) -> None:
    """Raises ValueError for a name that is no FeatureSpace."""
    if features not in get_args(FeatureSpace):
        raise ValueError(
            f"features={features!r}: must be one of {', '.join(get_args(FeatureSpace))}"
        )


def code_windows(
    features: FeatureSpace,
    values_BTF: FloatArray,
    *,
    clip: float,
    lookback: int | None = None,
    lift: bool = True,
) -> CodedWindows:
    """Codes windows by what is known in their first `lookback` rows (all where None).

    clip and lift concern levels alone, see `Levels`.
    """
    if features == "returns":
        return Returns(values_BTF, lookback)
    return Levels(values_BTF, clip=clip, lookback=lookback, lift=lift)
