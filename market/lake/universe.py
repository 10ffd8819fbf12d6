"""Which symbols to look at, on which day. Knows the history's symbols and traded amounts only.

Membership is point in time: nothing here depends on bars after as_of.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from pathlib import Path

import polars as pl

from market.errors import ConfigError
from market.lake.history import MarketHistory
from market.spec import AsOf

_LIQUIDITY_SESSIONS = 60
"""Over how many sessions, up to as_of, "top:N" adds up the traded amount."""


@dataclass(frozen=True)
class Membership:
    """One symbol's stay in a universe, both ends inclusive; None is open-ended."""

    symbol: str
    start: date | None = None
    end: date | None = None

    def holds(self, day: date) -> bool:
        return (self.start is None or self.start <= day) and (self.end is None or day <= self.end)


@dataclass(frozen=True)
class Universe:
    """A rule that names symbols at an as_of. Made by parse_universe."""

    text: str
    """As the user wrote it."""
    members_of: Callable[[MarketHistory, AsOf], list[str]]

    def members(self, history: MarketHistory, as_of: AsOf) -> list[str]:
        """Symbols at as_of, sorted. Those from a file may lack bars; a list's must be known."""
        return sorted(set(self.members_of(history, as_of)))


def parse_universe(text: str) -> Universe:
    """Read "all", "top:100", "sample:32", "AAPL,MSFT", or the path of a file.

    A file holds one symbol per line, or CSV with the columns symbol, start, end (dates, inclusive,
    empty for open-ended; several rows per symbol are several stays). "top:100" is the 100 symbols
    with the largest traded amount over the last 60 sessions up to as_of; "sample:32" draws as many
    of those with bars by a hash of name and date, so that dates together cover the market.
    Raises ConfigError for anything else.
    """
    cleaned = text.strip()
    if cleaned == "all":
        return Universe(cleaned, _Everything())
    if cleaned.startswith("top:"):
        number = cleaned.removeprefix("top:")
        if not number.isdigit() or int(number) < 1:
            raise ConfigError(f"universe {text!r}: write top:N with a whole number N >= 1")
        return Universe(cleaned, _MostTraded(int(number)))
    if cleaned.startswith("sample:"):
        number = cleaned.removeprefix("sample:")
        if not number.isdigit() or int(number) < 1:
            raise ConfigError(f"universe {text!r}: write sample:N with a whole number N >= 1")
        return Universe(cleaned, _Sample(int(number)))
    path = Path(cleaned)
    if path.is_file():
        return Universe(cleaned, _Members(_read_members(path)))
    if path.suffix.lower() in {".csv", ".txt"}:
        raise ConfigError(f"universe {text!r}: there is no such file")
    symbols = tuple(part.strip() for part in cleaned.split(",") if part.strip())
    if not symbols:
        raise ConfigError("universe is empty; write all, top:100, AAPL,MSFT or a file's path")
    return Universe(cleaned, _Named(symbols))


@dataclass(frozen=True)
class _Everything:
    def __call__(self, history: MarketHistory, as_of: AsOf) -> list[str]:
        known = history.symbols().filter(pl.col("first_session") <= as_of.session)
        return known["symbol"].to_list()


@dataclass(frozen=True)
class _MostTraded:
    n: int

    def __call__(self, history: MarketHistory, as_of: AsOf) -> list[str]:
        recent = history.sessions(end=as_of.session)[-_LIQUIDITY_SESSIONS:]
        if not recent:
            return []
        amounts = (
            history.scan(start=recent[0], as_of=as_of.close_utc)
            .sort("symbol", "timestamp")  # a fixed order of addition: ties and sums repeat exactly
            .group_by("symbol", maintain_order=True)
            .agg(pl.col("amount").sum())
            .sort(["amount", "symbol"], descending=[True, False])
            .head(self.n)
            .collect()
        )
        return amounts["symbol"].to_list()


@dataclass(frozen=True)
class _Sample:
    n: int

    def __call__(self, history: MarketHistory, as_of: AsOf) -> list[str]:
        tonight = history.scan(start=as_of.session, as_of=as_of.close_utc)
        trading = tonight.select(pl.col("symbol").unique()).collect()["symbol"]
        return draw(trading.to_list(), as_of, self.n)


def draw(symbols: list[str], as_of: AsOf, n: int) -> list[str]:
    """At most n of the symbols, by a hash of name and date: the same wherever it is asked, and
    whatever the other symbols are among the n smallest hashes."""

    def mark(symbol: str) -> bytes:
        return blake2b(f"{symbol}\x1f{as_of.close_utc}".encode(), digest_size=8).digest()

    return sorted(symbols, key=mark)[:n]


@dataclass(frozen=True)
class _Named:
    symbols: tuple[str, ...]

    def __call__(self, history: MarketHistory, as_of: AsOf) -> list[str]:
        known = set(history.symbols()["symbol"])
        unknown = [symbol for symbol in self.symbols if symbol not in known]
        if unknown:
            some = ", ".join(sorted(known)[:5])
            raise ConfigError(
                f"universe: {', '.join(unknown[:5])} is not in {history.root} ({len(known)} symbols"
                f" such as {some}); 'candlecast data ls' lists them"
            )
        return list(self.symbols)


@dataclass(frozen=True)
class _Members:
    stays: tuple[Membership, ...]

    def __call__(self, history: MarketHistory, as_of: AsOf) -> list[str]:
        return [stay.symbol for stay in self.stays if stay.holds(as_of.session)]


def _read_members(path: Path) -> tuple[Membership, ...]:
    with path.open(newline="", encoding="utf-8-sig") as handle:
        rows = [[cell.strip() for cell in row] for row in csv.reader(handle)]
    rows = [row for row in rows if row and row[0] and not row[0].startswith("#")]
    header = [cell.lower() for cell in rows[0]] if rows else []
    if header and header[0] == "symbol":
        unknown = [name for name in header if name not in {"symbol", "start", "end"}]
        if unknown:
            raise ConfigError(
                f"{path}: unknown columns {', '.join(unknown)}; a universe has symbol, start, end"
            )
        rows = rows[1:]
    else:
        header = ["symbol", "start", "end"]
    if not rows:
        raise ConfigError(f"{path}: names no symbol; write one per line, or symbol,start,end")
    stays = []
    for row in rows:
        if len(row) > len(header):
            raise ConfigError(f"{path}: {','.join(row)!r} has more than {len(header)} cells")
        cells = dict(zip(header, row, strict=False))
        stays.append(
            Membership(
                cells["symbol"], _day(path, cells.get("start")), _day(path, cells.get("end"))
            )
        )
    return tuple(stays)


def _day(path: Path, text: str | None) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{path}: {text!r} is not a date; write it as 2016-06-30") from None
