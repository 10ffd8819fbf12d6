"""Every symbol of a night as one sortable, searchable table, a page at a time, from DuckDB.

Knows nights and bars; nothing of HTTP. What a user types is a parameter of a query or one of a few
known words, never part of its text.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import duckdb
import polars as pl

from cluster.console.nights import Cache, Night
from market.errors import ConfigError
from market.flags import Flag
from market.lake.history import MarketHistory

PAGE = 100
SORTS = {
    "symbol": "symbol", "return": "expected", "median": "median", "width": "width",
    "p_up": "p_up", "volatility": "volatility", "drawdown": "drawdown", "close": "last_close",
}  # fmt: skip
SPARK = 40
"""Closes in a sparkline."""
WORDS = {
    Flag.VOLUME_MISSING: "no volume", Flag.AMOUNT_MISSING: "no amount", Flag.REPAIRED: "repaired",
    Flag.LOOKBACK_TRIMMED: "trimmed", Flag.IN_SAMPLE: "in-sample", Flag.CONTEXT_SLID: "slid",
    Flag.CUTOFF_UNKNOWN: "cut-off unknown", Flag.ROUNDED: "rounded",
    Flag.SUSPECTED_SPLIT: "split?",
}  # fmt: skip
_QUIET = Flag.VOLUME_MISSING | Flag.AMOUNT_MISSING | Flag.ROUNDED


@dataclass(frozen=True)
class Wanted:
    """Which part of the table."""

    sort: str = "symbol"
    """One of SORTS."""
    descending: bool = False
    search: str = ""
    """Part of a symbol's name."""
    flag: str = ""
    """Only symbols with a flag worth a look, where `flagged`."""
    page: int = 1

    def __post_init__(self) -> None:
        if self.sort not in SORTS:
            raise ConfigError(f"sort={self.sort!r}: must be one of {', '.join(SORTS)}")
        if self.flag not in ("", "flagged"):
            raise ConfigError(f"flag={self.flag!r}: must be flagged, or nothing")
        if not 1 <= self.page <= 1_000_000:
            raise ConfigError(f"page={self.page}: must be a number from 1 up")


@dataclass(frozen=True)
class Page:
    """Some rows, and how many there are."""

    rows: list[dict[str, Any]]
    found: int
    total: int
    number: int
    pages: int


class Universe:
    """Tables of the nights last looked at."""

    def __init__(self) -> None:
        self._tables = Cache(4)

    def page(self, night: Night, history: MarketHistory | None, wanted: Wanted) -> Page:
        """Rows of one page: returns are fractions from the last close to the last step."""
        table = self.table(night, history)
        where, given = "true", []
        if wanted.search:
            where += " and contains(lower(symbol), lower(?))"
            given.append(wanted.search)
        if wanted.flag:
            where += f" and (flags & ~{int(_QUIET)}) <> 0"
        found = table.rows(f"select count(*) as n from night where {where}", given)[0]["n"]
        pages = max(1, -(-found // PAGE))
        number = min(wanted.page, pages)
        order = f"{SORTS[wanted.sort]} {'desc' if wanted.descending else 'asc'} nulls last, symbol"
        rows = table.rows(
            f"select * from night where {where} order by {order} limit {PAGE} offset ?",
            [*given, (number - 1) * PAGE],
        )
        for row in rows:
            row["notes"] = notes(row["flags"])
        return Page(rows, found, table.total, number, pages)

    def table(self, night: Night, history: MarketHistory | None) -> _Table:
        """The night's table, made on first use."""
        key = (night.key, None if history is None else history.version)
        return self._tables.get(key, lambda: _Table(summary(night, history)))


class _Table:
    """One DuckDB of its own, without a way to files."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.total = frame.height
        self.frame = frame
        self._lock = threading.Lock()
        self._connection = duckdb.connect(
            config={"enable_external_access": "false", "threads": "1"}
        )
        self._connection.register("given", frame.to_arrow())
        self._connection.execute("create table night as select * from given")
        self._connection.unregister("given")
        self._connection.execute("set lock_configuration = true")

    def rows(self, query: str, given: list[Any]) -> list[dict[str, Any]]:
        with self._lock:
            cursor = self._connection.execute(query, given)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def summary(night: Night, history: MarketHistory | None) -> pl.DataFrame:
    """One row per symbol: what the last step says, path statistics, and recent closes."""
    last = night.steps.group_by("symbol", maintain_order=True).last()
    change = {
        name: (pl.col(column) / pl.col("last_close") - 1)
        for name, column in (
            ("expected", "close_mean"), ("low", "close_q10"), ("median", "close_q50"),
            ("high", "close_q90"),
        )
    }  # fmt: skip
    rows = last.select(
        "symbol", "last_close", "step", "n_paths", "flags", "published", "p_up",
        *(value.alias(name) for name, value in change.items()),
    ).with_columns((pl.col("high") - pl.col("low")).alias("width"))  # fmt: skip
    stats = night.path_stats.select(
        "symbol", pl.col("path_volatility").alias("volatility"),
        pl.col("expected_drawdown").alias("drawdown"),
    )  # fmt: skip
    return rows.join(stats, on="symbol", how="left").join(
        _recent(night, history), on="symbol", how="left"
    )


def _recent(night: Night, history: MarketHistory | None) -> pl.DataFrame:
    """The last closes of every symbol up to the night."""
    if history is None:
        return pl.DataFrame(schema={"symbol": pl.String(), "closes": pl.List(pl.Float64)})
    days = 2 * SPARK if history.spec.daily else 10
    bars = history.scan(
        start=night.key.as_of_date - timedelta(days=days), as_of=night.as_of
    ).select("symbol", "close_utc", "close")
    return (
        bars.sort("symbol", "close_utc")
        .group_by("symbol")
        .agg(pl.col("close").tail(SPARK).alias("closes"))
        .collect()
    )


def notes(flags: int | None) -> list[str]:
    """A row's flags worth a reader's eye, in words."""
    return [word for flag, word in WORDS.items() if (flags or 0) & flag and not flag & _QUIET]
