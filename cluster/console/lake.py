"""What the history holds: coverage by month, quarantine, suspected splits, versions.

Knows one version of a history; nothing of HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from cluster.console.nights import Cache
from market.actions.suspects import Suspect, find_suspects
from market.errors import StoreError
from market.lake.history import MarketHistory
from market.lake.versions import load, written

ROWS = 40
MONTHS = 36
_VERSIONS = 30
_ROWS_SHOWN = 100
_LOOKED_AT = ("symbol", "session", "close_utc", "open", "close", "volume")


@dataclass(frozen=True)
class Coverage:
    """How much of each month symbols have bars for."""

    months: list[date]
    rows: list[tuple[str, int, list[float | None]]]
    """Symbol, bars in all, and by month the share of the market's sessions; None before its first
    bar and after its last."""
    found: int
    page: int
    pages: int


class Lake:
    """Looks at histories; what a version holds never changes, so it is kept."""

    def __init__(self) -> None:
        self._months = Cache(2)
        self._suspects = Cache(2)

    def coverage(self, history: MarketHistory, search: str, page: int) -> Coverage:
        """The symbols with most missing come first."""
        by_month, sessions = self._months.get(history.version, lambda: _by_month(history))
        months: list[date] = sessions["month"].to_list()[-MONTHS:]
        symbols = history.symbols().with_columns(
            pl.col("first_session").dt.truncate("1mo").alias("from"),
            pl.col("last_session").dt.truncate("1mo").alias("to"),
        )
        if search:
            named = pl.col("symbol").str.to_lowercase().str.contains(search.lower(), literal=True)
            symbols = symbols.filter(named)
        symbols = symbols.sort("n_bars", "symbol")
        pages = max(1, -(-symbols.height // ROWS))
        number = max(1, min(page, pages))
        shown = symbols.slice((number - 1) * ROWS, ROWS)
        counted = by_month.filter(pl.col("symbol").is_in(shown["symbol"].implode()))
        have = {(s, m): n for s, m, n in counted.select("symbol", "month", "n").iter_rows()}
        of = dict(sessions.iter_rows())
        rows = [
            (
                row["symbol"],
                row["n_bars"],
                [
                    min(1.0, have.get((row["symbol"], month), 0) / of[month])
                    if row["from"] <= month <= row["to"]
                    else None
                    for month in months
                ],
            )
            for row in shown.iter_rows(named=True)
        ]
        return Coverage(months, rows, symbols.height, number, pages)

    def suspects(self, history: MarketHistory) -> list[Suspect]:
        """Moves that look like splits nobody told of, the newest first."""

        def find() -> list[Suspect]:
            if history.spec.price_basis == "adjusted":
                return []
            known, found = history.actions(), list[Suspect]()
            by_bucket: dict[int, list[str]] = {}
            for symbol in history.symbols()["symbol"]:
                by_bucket.setdefault(history.bucket_of(symbol), []).append(symbol)
            for symbols in by_bucket.values():  # a part at a time: histories may be large
                bars = history.scan(symbols=symbols).select(_LOOKED_AT).collect()
                found += find_suspects(bars, known)
            return sorted(found, key=lambda each: (each.session, each.symbol), reverse=True)

        return self._suspects.get(history.version, find)[:_ROWS_SHOWN]


def _by_month(history: MarketHistory) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Sessions with a bar per symbol and month, and sessions of the market per month."""
    days = history.scan().select(
        "symbol", "session", pl.col("session").dt.truncate("1mo").alias("month")
    )
    own = days.group_by("symbol", "month").agg(pl.col("session").n_unique().alias("n")).collect()
    market = days.group_by("month").agg(pl.col("session").n_unique().alias("n")).collect()
    return own, market.sort("month").select("month", pl.col("n").cast(pl.Float64))


def quarantine(history: MarketHistory) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rules broken with how often, and the newest rows that broke one."""
    rows = history.quarantine()
    rules = rows.group_by("rule").agg(pl.len().alias("n")).sort("n", descending=True)
    shown = (
        rows.tail(_ROWS_SHOWN).reverse().with_columns(pl.col("source").str.split("/").list.last())
    )
    return rules.to_dicts(), shown.to_dicts()


def versions(history: MarketHistory) -> list[dict[str, Any]]:
    """This version and those it came from, the newest first."""
    found: list[dict[str, Any]] = []
    version: str | None = history.version
    while version is not None and len(found) < _VERSIONS:
        try:
            contents, moment = load(history.root, version), written(history.root, version)
        except StoreError:
            break
        found.append(
            {
                "version": version,
                "written": moment,
                "rows": sum(each.rows for each in contents.bars),
                "files": len(contents.bars),
                "sources": len(contents.sources),
                "example": contents.sources[0].rsplit("/", 1)[-1] if contents.sources else "",
            }
        )
        version = contents.parent
    return found
