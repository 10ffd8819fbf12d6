"""The shape of a venue's trading rules: boards with price limits, taxes by date, ticks by price.

Knows codes, dates and numbers; the figures of each venue are in market.venue_figures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from market.spec import ALWAYS_OPEN

_LONG_AGO = date(1900, 1, 1)


@dataclass(frozen=True)
class Board:
    """A part of a venue's list with a daily price limit of its own."""

    name: str
    codes: str
    """Regular expression that the bare code of a symbol matches from its start; "" matches all."""
    limit: float
    """Most a price may move from its reference, as a fraction."""
    since: date = _LONG_AGO
    """First session of this limit."""


@dataclass(frozen=True)
class Tax:
    """What the state takes of an order's value from a day on, in basis points."""

    buy_bps: float = 0.0
    sell_bps: float = 0.0
    since: date = _LONG_AGO


@dataclass(frozen=True)
class VenuePreset:
    """How one venue trades. Every figure holds for ordinary shares unless a note says otherwise."""

    code: str
    """Of its calendar, or "24/7"."""
    currency: str | None
    """ISO 4217 code of the prices; None where the symbol says it (crypto and currency pairs)."""
    ticks: tuple[tuple[float, float], ...] = ((0.0, 0.01),)
    """From which price (inclusive) on which tick, ascending; empty: not known or not fixed."""
    lot: float = 1.0
    """Shares per board lot; 0: fractions trade, or lots differ by share."""
    boards: tuple[Board, ...] = ()
    """Daily price limits; the first board that matches, with the latest `since`, holds."""
    t_plus_one: bool = False
    """Shares bought in a session cannot be sold in it."""
    taxes: tuple[Tax, ...] = ()
    """Stamp duties, transaction taxes and levies, by date, ascending."""
    commission_bps: float = 0.0
    """A discount broker's usual commission, both sides, with exchange fees."""
    commission_per_share: float = 0.0
    min_fee: float = 0.0
    """Least commission of an order, in `currency`."""
    note: str = ""
    """What these figures leave out."""
    source: str = ""
    """The published rules they rest on."""

    @property
    def always_open(self) -> bool:
        return self.code == ALWAYS_OPEN

    def tick(self, price: float) -> float:
        """The tick that prices like this one are quoted in; 0 where none is known."""
        return next((tick for least, tick in reversed(self.ticks) if price >= least), 0.0)

    def board(self, symbol: str, day: date) -> Board | None:
        """The board a symbol trades on at a date; None where no daily limit is known."""
        code = bare_code(symbol)
        for name in dict.fromkeys(each.name for each in self.boards):
            same = [each for each in self.boards if each.name == name]
            if re.match(same[0].codes, code):
                begun = [each for each in same if each.since <= day]
                return max(begun, key=lambda each: each.since) if begun else None
        return None

    def tax(self, day: date) -> Tax:
        """The taxes of a date."""
        begun = [each for each in self.taxes if each.since <= day]
        return begun[-1] if begun else Tax()

    def taxes_in(self, first: date, last: date) -> tuple[Tax, ...]:
        """All taxes in force on some day from first to last, in order; at least one."""
        later = [each for each in self.taxes if first < each.since <= last]
        return (self.tax(first), *later)

    def limits_in(self, symbol: str, first: date, last: date) -> tuple[float, ...]:
        """All daily limits a symbol has had from first to last, in order; empty without any."""
        days = sorted({first, *(each.since for each in self.boards if first < each.since <= last)})
        found = [self.board(symbol, day) for day in days]
        return tuple(each.limit for each in found if each is not None)

    def limit_prices(self, symbol: str, day: date, reference: float) -> tuple[float, float] | None:
        """Lowest and highest price of a session: reference × (1 ± limit), half up to the tick.

        reference: the close before, adjusted for what goes ex that day. None without a limit.
        """
        board = self.board(symbol, day)
        if board is None:
            return None
        low, high = (
            _to_tick(reference, factor, self.tick(reference * float(factor)))
            for factor in (1 - Decimal(str(board.limit)), 1 + Decimal(str(board.limit)))
        )
        return low, high

    def words(self, day: date) -> str:
        """One line for a page: what these defaults are."""
        tax = self.tax(day)
        parts = [f"{self.code}: {self.currency or 'currency of the pair'}"]
        if self.lot > 1:
            parts.append(f"lots of {self.lot:g}")
        if self.t_plus_one:
            parts.append("T+1")
        if self.boards:
            limits = sorted({each.limit for each in self.boards if each.since <= day})
            parts.append("price limits " + "/".join(f"{limit:.0%}" for limit in limits))
        commission = f"{self.commission_bps:g} bps"
        if self.commission_per_share:
            commission = f"{self.commission_per_share:g} per share"
        least = f" and at least {self.min_fee:g}" if self.min_fee else ""
        parts.append(f"commission {commission}{least} (a typical one: check your broker's)")
        if tax.buy_bps or tax.sell_bps:
            parts.append(f"taxes {tax.buy_bps:g} bps buying, {tax.sell_bps:g} bps selling")
        return ", ".join(parts)


def bare_code(symbol: str) -> str:
    """The code without exchange: 600519 of 600519.SH, sh600519 and SH600519."""
    digits = re.fullmatch(r"(?:[A-Za-z]{2}[._]?)?(\d{4,6})(?:[._][A-Za-z]+)?", symbol.strip())
    return digits[1] if digits else symbol.strip().upper()


def _to_tick(reference: float, factor: Decimal, tick: float) -> float:
    price = Decimal(str(reference)) * factor
    if not tick:
        return float(price)
    size = Decimal(str(tick))
    return float((price / size).to_integral_value(ROUND_HALF_UP) * size)
