"""Prices as if today's share had always been the share: as known at a date, and no later.

Knows arrays of one symbol and its actions. Factors are 1 at the newest bar, so that adjusted prices
come in the raw unit of that bar; an action that is not known by a date changes nothing at it.

Legend: N bars, A actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from market.errors import ConfigError

Basis = Literal["raw", "split", "total"]
"""raw: as traded; split: divided by later splits; total: also less later dividends, so that returns
are those of a holder who reinvests (price relatives, CRSP's method)."""

Float = npt.NDArray[np.float64]
Days = npt.NDArray[np.datetime64]


class Factors(NamedTuple):
    """What to multiply raw bars by."""

    price_N: Float
    volume_N: Float


@dataclass(frozen=True, eq=False)
class SymbolActions:
    """One symbol's actions, oldest first."""

    ex_A: Days
    """Sessions, datetime64[D]."""
    known_A: Days
    """First session each is known in: the later of ex-date and announcement."""
    split_A: Float
    dividend_A: Float

    def __len__(self) -> int:
        return len(self.ex_A)

    def after(self, session: np.datetime64) -> list[tuple[str, float]]:
        """Ex-date and split of those after a session: what bars from it on are adjusted by."""
        later_A = (self.ex_A > session) & (self.split_A != 1.0)
        return [
            (str(ex), float(split))
            for ex, split in zip(self.ex_A[later_A], self.split_A[later_A], strict=True)
        ]

    def known(self, session: np.datetime64) -> SymbolActions:
        """Those that are in force and known at a session."""
        at_A = (self.known_A <= session) & (self.ex_A <= session)
        return SymbolActions(
            self.ex_A[at_A], self.known_A[at_A], self.split_A[at_A], self.dividend_A[at_A]
        )


NO_ACTIONS = SymbolActions(
    np.empty(0, "datetime64[D]"), np.empty(0, "datetime64[D]"), np.empty(0), np.empty(0)
)


def factors(
    sessions_N: Days, close_N: Float, actions: SymbolActions, as_of: np.datetime64, basis: Basis
) -> Factors:
    """Factors of each bar as known at a session, shapes (N,).

    sessions_N: session of each bar, increasing, none after as_of matters. close_N: raw closes, for
    dividends: a bar before one is multiplied by 1 − dividend / last close before the ex-date.
    Raises ConfigError for an unknown basis.
    """
    if basis not in ("raw", "split", "total"):
        raise ConfigError(f"prices={basis!r}: must be raw, split or total")
    price_N = np.ones(len(sessions_N))
    volume_N = np.ones(len(sessions_N))
    if basis == "raw":
        return Factors(price_N, volume_N)
    known = actions.known(as_of)
    for ex, split, dividend in zip(known.ex_A, known.split_A, known.dividend_A, strict=True):
        before = int(np.searchsorted(sessions_N, ex, side="left"))
        if not before:
            continue
        factor = 1.0 / split
        if basis == "total" and dividend and dividend < close_N[before - 1]:
            factor *= 1.0 - dividend / close_N[before - 1]
        price_N[:before] *= factor
        volume_N[:before] *= split
    return Factors(price_N, volume_N)


def forward_factors(sessions_N: Days, actions: SymbolActions) -> Factors:
    """Factors that carry each split on to the bars after it, shapes (N,).

    Prices then come in the unit of the first bar, and every stretch of them is, but for one factor,
    what `factors` makes of that stretch as known at its end: a split changes nothing before it.
    Splits announced after their ex-date are left out: until then nobody could have applied them.
    """
    price_N = np.ones(len(sessions_N))
    told_A = actions.known_A <= actions.ex_A
    for ex, split in zip(actions.ex_A[told_A], actions.split_A[told_A], strict=True):
        first = int(np.searchsorted(sessions_N, ex, side="left"))
        if first:
            price_N[first:] *= split
    return Factors(price_N, 1.0 / price_N)
