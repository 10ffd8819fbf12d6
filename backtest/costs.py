"""What trading costs. Knows numbers alone: no bars, no portfolio."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Costs:
    """Commission with a floor, and slippage proportional to the price."""

    commission_bps: float
    """Basis points of the order's value."""
    min_fee: float
    """Least commission of an order, in the currency of the prices."""
    slippage_bps: float
    """Basis points a fill is worse than the open."""

    @property
    def rate(self) -> float:
        return self.commission_bps / 10_000

    @property
    def slippage(self) -> float:
        return self.slippage_bps / 10_000

    def commission(self, value_M: Float) -> Float:
        """Commission of orders worth `value_M` at their fill prices: max(value · rate, min_fee)."""
        return np.maximum(value_M * self.rate, self.min_fee)
