"""What a strategy may see and how it is set. Knows no strategy; caps and strategies both read it.

Legend: D decisions, N symbols, W bars of a return window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Name = Literal["topk", "dropout", "longshort", "threshold", "kelly"]
Weighting = Literal["equal", "score", "inverse_volatility"]
Neutral = Literal["dollar", "beta"]


@dataclass(frozen=True)
class Signals:
    """All a strategy may look at: scores, and what else is known at each decision's close."""

    row_D: Int
    """Rows of the price table, increasing."""
    score_DN: Float
    """NaN: no opinion."""
    volatility_DN: Float | None = None
    """Volatility of one bar; for inverse-volatility weights."""
    beta_DN: Float | None = None
    """Slope against the market; for beta-neutral legs."""
    mean_DN: Float | None = None
    """Mean return of the path distribution at the horizon; for Kelly weights."""
    deviation_DN: Float | None = None
    """Its standard deviation."""
    window_return: Callable[[int, Int], Float] | None = None
    """Returns (W, names) of the last bars known at a row; for the volatility target."""


@dataclass(frozen=True)
class StrategySettings:
    """A strategy, its weights and its caps."""

    name: Name = "topk"
    k: int = 20
    """Names held by topk and dropout."""
    n_drop: int = 5
    """Most names dropout replaces per decision."""
    quantile: float = 0.1
    """Share of the scored names in each leg of longshort."""
    weighting: Weighting = "equal"
    neutral: Neutral = "dollar"
    gross: float = 1.0
    """Sum of the absolute weights that longshort and kelly aim at, at most."""
    enter: float = 0.0
    leave: float = 0.0
    """threshold buys above `enter` and holds until at or below `leave`."""
    kelly_fraction: float = 0.5
    """Of the Kelly weight mean / variance; 1 is full Kelly."""
    short: bool = False
    """Whether kelly may sell short; longshort always does."""
    volatility_target: float = 0.0
    """Yearly volatility to scale weights down to; 0: none."""
    max_weight: float = 0.0
    """Largest absolute weight of a name; 0: no cap."""
    max_turnover: float = 0.0
    """Most Σ|change of weight| / 2 per decision, after the first; 0: no cap."""
    max_group: float = 0.0
    """Largest Σ|weight| of a group; 0: no cap."""

    def __post_init__(self) -> None:
        if self.k < 1 or self.n_drop < 0:
            raise BacktestInputError(f"k {self.k}, n_drop {self.n_drop}: rule k >= 1, n_drop >= 0")
        if not 0 < self.quantile <= 0.5:
            raise BacktestInputError(f"quantile {self.quantile}: must be above 0, at most 0.5")
        if self.leave > self.enter:
            raise BacktestInputError(
                f"leave {self.leave} is above enter {self.enter}: a name would be sold at once"
            )

    @property
    def shorts(self) -> bool:
        """Whether weights may be negative."""
        return self.name == "longshort" or (self.name == "kelly" and self.short)
