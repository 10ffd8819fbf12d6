"""What trading at a venue looks like: names, currency, ticks, lots, limits, taxes, usual costs.

Knows venue codes and numbers; no bars, no calendars (those of a venue are in market.calendars).
Figures are the exchanges' and tax offices' published ones and a discount broker's usual
commission. They are defaults to start from, said on every page that uses them: fees differ by
broker, and rules by share class.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from market.errors import ConfigError
from market.exchange_sessions import canonical_venue
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
        parts.append(f"commission {commission}, at least {self.min_fee:g}")
        if tax.buy_bps or tax.sell_bps:
            parts.append(f"taxes {tax.buy_bps:g} bps buying, {tax.sell_bps:g} bps selling")
        return ", ".join(parts)


def venue_preset(venue: str) -> VenuePreset:
    """The preset of a venue by any of its names (XNSE, NSE, XBOM, 24/7, …).

    Raises ConfigError for unknown venues, and for those whose costs are not known.
    """
    code = canonical_venue(venue)
    found = _PRESETS.get(code)
    if found is None:
        raise ConfigError(
            f"venue {venue}: no usual costs are known for {code}; known are "
            f"{', '.join(sorted(_PRESETS))}. Give commission, taxes, lot and limit yourself"
        )
    return found


def bare_code(symbol: str) -> str:
    """The code without exchange: 600519 of 600519.SH, sh600519 and SH600519."""
    digits = re.fullmatch(r"(?:[A-Za-z]{2}[._]?)?(\d{4,6})(?:[._][A-Za-z]+)?", symbol.strip())
    return digits[1] if digits else symbol.strip().upper()


def quote_currency(symbol: str) -> str | None:
    """The currency a pair is quoted in: USDT of BTC/USDT, ETH_USDT or BTCUSDT; None if unclear."""
    parts = re.split(r"[/_\-:]", symbol.strip().upper())
    if len(parts) > 1 and parts[1].isalnum():
        return parts[1]
    found = re.fullmatch(
        r"[A-Z0-9]{2,}?(USDT|USDC|FDUSD|BUSD|TUSD|USD|EUR|GBP|JPY|CHF|BTC|ETH|BNB)", parts[0]
    )
    return found[1] if found else None


def _to_tick(reference: float, factor: Decimal, tick: float) -> float:
    price = Decimal(str(reference)) * factor
    if not tick:
        return float(price)
    size = Decimal(str(tick))
    return float((price / size).to_integral_value(ROUND_HALF_UP) * size)


_CHINA_BOARDS = (
    Board("STAR", r"68[89]", 0.20),
    Board("ChiNext", r"30[012]", 0.10),
    Board("ChiNext", r"30[012]", 0.20, date(2020, 8, 24)),
    Board("Beijing", r"(43|8|92)", 0.30),
    Board("main", r"[069]\d{5}|2\d{5}", 0.10, date(1996, 12, 16)),
)
_EURO_TICKS = ((0.0, 0.001), (1.0, 0.002), (5.0, 0.005), (10.0, 0.01), (50.0, 0.05), (100.0, 0.1))
_HONG_KONG_TICKS = (
    *((0.0, 0.001), (0.25, 0.005), (0.5, 0.01), (10.0, 0.02), (20.0, 0.05), (100.0, 0.1)),
    *((200.0, 0.2), (500.0, 0.5), (1000.0, 1.0), (2000.0, 2.0), (5000.0, 5.0)),
)
_TOKYO_TICKS = (
    *((0.0, 1.0), (3_000.01, 5.0), (5_000.01, 10.0), (30_000.01, 50.0), (50_000.01, 100.0)),
    *((300_000.01, 500.0), (500_000.01, 1_000.0), (3_000_000.01, 5_000.0)),
)
_KOREA_TICKS = (
    *((0.0, 1.0), (2_000.0, 5.0), (5_000.0, 10.0), (20_000.0, 50.0), (50_000.0, 100.0)),
    *((200_000.0, 500.0), (500_000.0, 1_000.0)),
)
_TAIWAN_TICKS = ((0.0, 0.01), (10.0, 0.05), (50.0, 0.1), (100.0, 0.5), (500.0, 1.0), (1000.0, 5.0))

_PRESETS = {
    preset.code: preset
    for preset in (
        VenuePreset(ALWAYS_OPEN, None, ticks=(), lot=0.0, commission_bps=10.0,
                    note="spot taker fee of a large exchange; funding of perpetuals is not in it"),
        VenuePreset("24/5", None, ticks=(), lot=0.0, commission_bps=0.2,
                    note="spreads and swap points are not in it"),
        VenuePreset("XNYS", "USD", ticks=((0.0, 0.0001), (1.0, 0.01)),
                    taxes=(Tax(), Tax(0.0, 0.278, date(2024, 5, 22)), Tax(since=date(2025, 5, 14))),
                    commission_per_share=0.0035, min_fee=0.35),
        VenuePreset("XTSE", "CAD", ticks=((0.0, 0.005), (0.5, 0.01)), commission_per_share=0.01,
                    min_fee=1.0),
        VenuePreset("BVMF", "BRL", lot=100.0, commission_bps=3.0),
        VenuePreset("XMEX", "MXN", commission_bps=10.0),
        VenuePreset("XLON", "GBP", ticks=(), taxes=(Tax(50.0, 0.0),), commission_bps=5.0,
                    min_fee=1.0, note="London quotes most shares in pence: 100 to the pound; "
                    "ticks differ by share"),
        VenuePreset("XFRA", "EUR", ticks=_EURO_TICKS, commission_bps=5.0, min_fee=1.25),
        VenuePreset("XETR", "EUR", ticks=_EURO_TICKS, commission_bps=5.0, min_fee=1.25),
        VenuePreset("XPAR", "EUR", ticks=_EURO_TICKS, commission_bps=5.0, min_fee=1.25,
                    taxes=(Tax(), Tax(20.0, since=date(2012, 8, 1)),
                           Tax(30.0, since=date(2017, 1, 1)), Tax(40.0, since=date(2025, 4, 1))),
                    note="the purchase tax is that of French companies above 1 billion euros"),
        VenuePreset("XAMS", "EUR", ticks=_EURO_TICKS, commission_bps=5.0, min_fee=1.25),
        VenuePreset("XBRU", "EUR", ticks=_EURO_TICKS, commission_bps=5.0, min_fee=1.25),
        VenuePreset("XMAD", "EUR", ticks=_EURO_TICKS, commission_bps=5.0, min_fee=1.25,
                    taxes=(Tax(), Tax(20.0, since=date(2021, 1, 16)))),
        VenuePreset("XMIL", "EUR", ticks=_EURO_TICKS, commission_bps=5.0, min_fee=1.25,
                    taxes=(Tax(), Tax(10.0, since=date(2013, 3, 1)))),
        VenuePreset("XSWX", "CHF", ticks=_EURO_TICKS, taxes=(Tax(7.5, 7.5),), commission_bps=5.0,
                    min_fee=1.5),
        VenuePreset("XSTO", "SEK", ticks=(), commission_bps=5.0, min_fee=10.0),
        VenuePreset("XBOM", "INR", ticks=((0.0, 0.05),), taxes=(Tax(11.5, 10.0),),
                    commission_bps=3.0, note="delivery trades: transaction tax 10 bps each way and "
                    "stamp duty 1.5 bps buying; daily bands of single shares are not in it"),
        VenuePreset("XSHG", "CNY", lot=100.0, boards=_CHINA_BOARDS, t_plus_one=True,
                    taxes=(Tax(), Tax(0.0, 10.0, date(2008, 9, 19)),
                           Tax(0.0, 5.0, date(2023, 8, 28))),
                    commission_bps=2.5, min_fee=5.0,
                    note="shares under special treatment (ST) move 5% a day, and new listings are "
                    "free at first: their codes do not show it"),
        VenuePreset("XHKG", "HKD", ticks=_HONG_KONG_TICKS, lot=0.0,
                    taxes=(Tax(10.0, 10.0), Tax(13.0, 13.0, date(2021, 8, 1)),
                           Tax(10.0, 10.0, date(2023, 11, 17))),
                    commission_bps=5.0, min_fee=15.0, note="board lots differ by share"),
        VenuePreset("XTAI", "TWD", ticks=_TAIWAN_TICKS, lot=1000.0,
                    boards=(Board("main", "", 0.07), Board("main", "", 0.10, date(2015, 6, 1))),
                    taxes=(Tax(0.0, 30.0),), commission_bps=14.25, min_fee=20.0),
        VenuePreset("XTKS", "JPY", ticks=_TOKYO_TICKS, lot=100.0, commission_bps=5.0,
                    note="Tokyo's daily limits are amounts in yen by price, not fractions"),
        VenuePreset("XKRX", "KRW", ticks=_KOREA_TICKS,
                    boards=(Board("main", "", 0.15), Board("main", "", 0.30, date(2015, 6, 15))),
                    taxes=(Tax(0.0, 30.0), Tax(0.0, 25.0, date(2019, 6, 3)),
                           Tax(0.0, 23.0, date(2021, 1, 1)), Tax(0.0, 20.0, date(2023, 1, 1)),
                           Tax(0.0, 18.0, date(2024, 1, 1)), Tax(0.0, 15.0, date(2025, 1, 1))),
                    commission_bps=1.5),
        VenuePreset("XSES", "SGD", ticks=((0.0, 0.001), (0.2, 0.005), (1.0, 0.01)), lot=100.0,
                    commission_bps=8.0, min_fee=2.5),
        VenuePreset("XIDX", "IDR", ticks=((0.0, 1.0), (200.0, 2.0), (500.0, 5.0), (2000.0, 10.0),
                    (5000.0, 25.0)), lot=100.0, taxes=(Tax(0.0, 10.0),), commission_bps=15.0),
        VenuePreset("XBKK", "THB", ticks=((0.0, 0.01), (2.0, 0.02), (5.0, 0.05), (10.0, 0.1),
                    (25.0, 0.25), (100.0, 0.5), (200.0, 1.0), (400.0, 2.0)), lot=100.0,
                    boards=(Board("main", "", 0.30),), commission_bps=15.0),
        VenuePreset("XASX", "AUD", ticks=((0.0, 0.001), (0.1, 0.005), (2.0, 0.01)),
                    commission_bps=8.0, min_fee=5.0),
        VenuePreset("XIST", "TRY", ticks=((0.0, 0.01), (20.0, 0.02), (50.0, 0.05), (100.0, 0.1)),
                    boards=(Board("main", "", 0.20), Board("main", "", 0.10, date(2020, 3, 23))),
                    commission_bps=10.0),
        VenuePreset("XSAU", "SAR", boards=(Board("main", "", 0.10),), commission_bps=15.5),
        VenuePreset("XMOS", "RUB", ticks=(), commission_bps=5.0),
        VenuePreset("XJSE", "ZAR", ticks=((0.0, 0.01),), taxes=(Tax(25.0, 0.0),),
                    commission_bps=10.0, note="Johannesburg quotes in cents: 100 to the rand"),
        VenuePreset("CMES", "USD", ticks=(), commission_per_share=2.0,
                    note="per contract; multipliers and margins are not in it"),
    )
}  # fmt: skip
