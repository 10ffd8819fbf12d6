"""What a strategy may see and how it is set. Knows no strategy; caps and strategies both read it.

Legend: D decisions, N symbols, W bars of a return window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from market.settings import Settings

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Name = Literal[
    "topk", "dropout", "longshort", "threshold", "kelly", "min_variance", "hrp", "cvar"
]  # fmt: skip
OPTIMISED: tuple[Name, ...] = ("min_variance", "hrp", "cvar")
Weighting = Literal["equal", "score", "inverse_volatility"]
Neutral = Literal["dollar", "beta"]


def _not_heard(decision: int, why: str) -> None:
    """Nobody asked."""


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
    """Returns (W, names) of the last bars at a row, NaN where not known; for the volatility
    target and optimised weights."""
    path_return: Callable[[int, Int], Float] | None = None
    """Returns (P, names) of the sample paths of a decision, to the horizon; for scenarios."""
    unsolved: Callable[[int, str], None] = _not_heard
    """Is told of decisions that an optimiser found no weights for, and why."""
    short: bool = False
    """Whether weights may be negative; longshort's are in any case."""


class StrategySettings(Settings):
    """A strategy, its weights and its caps."""

    shorthand: ClassVar[str | None] = "name"

    name: Name = "topk"
    """topk: the k highest scores; dropout: the same, replacing at most n_drop names a time;
    longshort: the best quantile long, the worst short; threshold: names from `enter` to `leave`;
    kelly: mean over variance of the path distribution; of the k highest scores, by skfolio:
    min_variance, hrp (hierarchical risk parity), cvar (most mean − risk_aversion × CVaR)."""
    plugin: str | None = None
    """A strategy of one's own instead: module:function, or the name of an entry point in
    candlecast.strategies; see backtest/weights/view.py."""
    k: int = Field(20, ge=1)
    """Names held by topk and dropout, and most of min_variance, hrp and cvar; a date with fewer
    scored names is spread over those."""
    n_drop: int = Field(5, ge=0)
    """Most names that dropout replaces per decision."""
    quantile: float = Field(0.1, gt=0, le=0.5)
    """Share of the scored names in each leg of longshort."""
    weighting: Weighting = "equal"
    """Weights of the names chosen."""
    neutral: Neutral = "dollar"
    """What the legs of longshort balance."""
    gross: float = Field(1.0, gt=0)
    """Most Σ|weight| of longshort, kelly, min_variance, hrp and cvar."""
    enter: float = 0.0
    """threshold buys names scored above this."""
    leave: float = 0.0
    """threshold holds what it bought until it scores this or less."""
    kelly_fraction: float = Field(0.5, gt=0, le=1)
    """Share of the full Kelly weight, mean / variance."""
    scenarios: Literal["past", "paths"] | None = None
    """Returns that min_variance, hrp and cvar weigh: the last 60 bars, or the kept sample paths at
    the horizon. Without: paths for cvar, past for the others."""
    risk_aversion: float = Field(1.0, gt=0)
    """What cvar gives up in mean return for one of CVaR at 95%."""
    volatility_target: float = Field(0.0, ge=0)
    """Scale weights down to this yearly volatility, from the last 60 bars; 0: do not."""
    max_weight: float = Field(0.0, ge=0)
    """Largest |weight| of a name; 0: no cap."""
    max_turnover: float = Field(0.0, ge=0)
    """Most Σ|change of weight| / 2 per decision after the first; 0: no cap."""
    max_group: float = Field(0.0, ge=0)
    """Largest Σ|weight| of a group; 0: no cap."""

    @model_validator(mode="after")
    def _not_sold_at_once(self) -> Self:
        if self.leave > self.enter:
            raise ValueError(
                f"`leave` {self.leave} is above `enter` {self.enter}: a name would be sold at once"
            )
        return self

    @property
    def needs_short(self) -> bool:
        """Whether the strategy is nothing without negative weights."""
        return self.name == "longshort"

    @property
    def optimised(self) -> bool:
        """Whether skfolio finds the weights."""
        return self.plugin is None and self.name in OPTIMISED

    @property
    def on_paths(self) -> bool:
        """Whether the scenarios are sample paths."""
        named = self.scenarios or ("paths" if self.name == "cvar" else "past")
        return self.optimised and named == "paths"
