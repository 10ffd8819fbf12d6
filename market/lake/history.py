"""The history lake: one venue's bars, versioned, queried by symbol, date and as_of.

Knows the lake's files and the bar schema; nothing of models or clusters. A MarketHistory is pinned
to one version: imports that happen meanwhile do not change what it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from market.actions.adjust import actions_by_symbol, adjust_bars
from market.actions.factors import NO_ACTIONS, Basis, SymbolActions
from market.actions.suspects import mark_suspects
from market.actions.table import ACTION_SCHEMA, checked
from market.bars import BAR_SCHEMA, QUARANTINE_SCHEMA
from market.calendars import local_to_utc
from market.errors import AsOfError, StoreError
from market.fields import FEATURES
from market.lake.appending import ImportReport, OnConflict, add_actions, import_bars, require_spec
from market.lake.asof import (
    as_of_row,
    is_range,
    parse_moment,
    range_closes,
    require_inside,
    session_close,
)
from market.lake.contents import Contents
from market.lake.files import bucket_of, buckets_for, read_files, scan_bars, verified
from market.lake.lock import writer_lock
from market.lake.versions import create, current_version, lake_folder, load, named
from market.select import select
from market.spec import AsOf, Label, StoreSpec
from market.storage import Folder
from market.windows import SymbolSeries

__all__ = ["AsOf", "ImportReport", "Label", "MarketHistory", "OnConflict", "StoreSpec"]


@dataclass(frozen=True)
class MarketHistory:
    """One version of a history lake. Cheap to pickle: files are listed when first needed."""

    root: Folder
    spec: StoreSpec
    version: str

    @classmethod
    def open(cls, root: str | Path | Folder, *, version: str | None = None) -> MarketHistory:
        """The newest version of a store, or the one named; StoreError where there is none."""
        folder = lake_folder(root)
        newest = current_version(folder)
        if newest is None:
            raise StoreError(
                f"{root}: no history store here; make one with "
                f"'candlecast data import FILES --store {root}'"
            )
        chosen = newest if version is None else named(folder, version)
        contents = load(folder, chosen)
        if folder.path is not None:
            files = [*contents.bars, *contents.quarantine, *contents.actions]
            absent = [each.path for each in files if not (folder.path / each.path).is_file()]
            if absent:
                raise StoreError(
                    f"{root}: {len(absent)} of {len(files)} data files are missing, the first is "
                    f"{absent[0]}; restore the folder, or import the sources again into a new store"
                )
        return cls(folder, contents.spec, chosen)

    @classmethod
    def create(
        cls, root: str | Path | Folder, spec: StoreSpec, *, symbols: int = 0
    ) -> MarketHistory:
        """An empty store, or the one that is there if its spec is the same.

        symbols: how many it is likely to hold, which decides in how many buckets they lie.
        """
        folder = lake_folder(root)
        if current_version(folder) is None:
            with writer_lock(folder):
                if current_version(folder) is None:
                    create(folder, Contents(spec, buckets_for(symbols)))
        history = cls.open(folder)
        require_spec(folder, history.spec, spec)
        return history

    @property
    def contents(self) -> Contents:
        """The files of this version, and what it was made of."""
        return load(self.root, self.version)

    def bucket_of(self, symbol: str) -> int:
        """Number of the files a symbol lives in: symbols of one bucket are best read together."""
        return bucket_of(symbol, self.contents.buckets)

    def symbols(self) -> pl.DataFrame:
        """symbol, n_bars, first_session, last_session; sorted by symbol."""
        return _symbol_table(self)

    def sessions(self, start: date | None = None, end: date | None = None) -> list[date]:
        """Sessions on which at least one symbol has a bar, both ends inclusive, sorted."""
        found = _session_closes(self)["session"].to_list()
        return [each for each in found if (not start or each >= start) and (not end or each <= end)]

    def scan(
        self,
        *,
        symbols: Iterable[str] | None = None,
        start: date | None = None,
        as_of: datetime | None = None,
    ) -> pl.LazyFrame:
        """Bars in BAR_SCHEMA, in no promised order; files that cannot match are not opened.

        start: first session to return. as_of: only bars whose close is at or before it; without
        time zone it counts as UTC. Raises StoreError naming the file where one is damaged.
        """
        own = self.contents
        return scan_bars(
            self.root, own.bars, own.buckets, symbols=symbols, start=start, as_of=as_of
        )

    def sql(self, query: str) -> pl.DataFrame:
        """The rows of one SELECT over the view `bars`, in DuckDB's SQL."""
        import duckdb

        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            files = verified(self.root, self.contents.bars)
            if files and self.root.path is not None:
                connection.from_parquet([str(file) for file in files]).create_view("bars")
            else:
                connection.register("bars", self.scan().collect().to_arrow())
            try:
                return select(connection, query)
            except duckdb.Error as error:
                raise StoreError(
                    f"the query failed: {str(error).splitlines()[0]} (the view is named bars; its "
                    f"columns are {', '.join(BAR_SCHEMA)})"
                ) from None

    def series(
        self, symbols: Iterable[str] | None = None, *, as_of: datetime | None = None
    ) -> list[SymbolSeries]:
        """One series per symbol that has bars, sorted by symbol; all symbols without a list."""
        wanted = None if symbols is None else list(symbols)
        own = actions_by_symbol(self.actions(wanted))
        bars = self.scan(symbols=wanted, as_of=as_of).sort("symbol", "close_utc").collect()
        return series_of(bars, own, self.spec)

    def quarantine(self, symbol: str | None = None) -> pl.DataFrame:
        """Rows that broke a rule, with the rule and what was wrong."""
        rows = read_files(self.root, self.contents.quarantine, QUARANTINE_SCHEMA)
        return rows if symbol is None else rows.filter(pl.col("symbol") == symbol)

    def actions(self, symbols: Iterable[str] | None = None) -> pl.DataFrame:
        """Corporate actions in ACTION_SCHEMA, sorted by symbol and ex-date."""
        rows = read_files(self.root, self.contents.actions, ACTION_SCHEMA)
        return rows if symbols is None else rows.filter(pl.col("symbol").is_in(list(symbols)))

    def traded_actions(self) -> pl.DataFrame | None:
        """Splits and dividends of raw prices as a backtest reads them: symbol, session, split,
        dividend. None where there are none, or where the prices hold them already."""
        known = self.actions()
        if not known.height or self.spec.price_basis == "adjusted":
            return None
        return known.select("symbol", pl.col("ex_date").alias("session"), "split", "dividend")

    def prices(
        self,
        basis: Basis,
        as_of: AsOf,
        *,
        symbols: Iterable[str] | None = None,
        start: date | None = None,
    ) -> pl.DataFrame:
        """Bars up to as_of in raw, split-adjusted or total-return prices, as known then.

        They come in the raw unit of as_of: actions that are later, or not announced by then, change
        nothing. Sorted by symbol and close. Raises ConfigError for an unknown basis.
        """
        wanted = None if symbols is None else list(symbols)
        bars = self.scan(symbols=wanted, start=start, as_of=as_of.close_utc).collect()
        moment = np.datetime64(as_of.session, "D")
        return adjust_bars(bars.sort("symbol", "close_utc"), self.actions(wanted), moment, basis)

    def record_actions(self, actions: pl.DataFrame, source: str = "actions") -> str:
        """Add actions in ACTION_SCHEMA, as one atomic step; returns the new version.

        Of a symbol and ex-date that are known, the new row wins; older versions keep theirs.
        """
        return add_actions(self.root, checked(actions, source), source)

    def resolve_as_of(self, value: str | date | datetime) -> AsOf:
        """The last close at or before a date or a moment.

        A bare date is that session's close; one without a session rolls back to the session
        before it. A moment without time zone is wall time in the store's zone.
        Raises AsOfError outside the history, or where the text is not a date.
        """
        parsed = parse_moment(value) if isinstance(value, str) else value
        closes = _session_closes(self)
        if not isinstance(parsed, datetime):
            return session_close(parsed, closes, self.root)
        utc = local_to_utc(parsed, self.spec.tz)
        require_inside(utc.astimezone(ZoneInfo(self.spec.tz)).date(), closes, self.root)
        known = self.scan(as_of=utc).select("session", "close_utc")
        last = known.sort("close_utc", "session").tail(1).collect()
        if not last.height:
            raise AsOfError(f"as_of {value}: no bar of {self.root} has closed by then")
        return as_of_row(last.row(0))

    def resolve_as_of_range(self, text: str) -> list[AsOf]:
        """The as_of dates of "START:END:STEP", both ends inclusive, of a single date, or of several
        with commas between.

        STEP: daily (default), weekly (last session of each ISO week), monthly (last session of
        each month), or a number n for every n-th session from START. A week or month counts only
        when its last session is in the history and between the ends. The ends may lie outside the
        history as long as a session lies between them.
        """
        if is_range(text):
            return range_closes(text, _session_closes(self), self.spec, self.root)
        found = {self.resolve_as_of(part) for part in text.split(",")}
        return sorted(found, key=lambda as_of: as_of.close_utc)

    def append(
        self,
        good: pl.DataFrame,
        quarantine: pl.DataFrame,
        *,
        on_conflict: OnConflict | str = OnConflict.ERROR,
        sources: Sequence[str] = (),
    ) -> ImportReport:
        """Add checked bars to the newest version of the store, as one atomic step.

        good, quarantine: the halves of check_bars. session and close_utc are computed here.
        A stored bar with other values is a conflict: `error` writes nothing and raises StoreError,
        `keep` leaves the stored bar, `replace` takes the new one (old versions keep theirs).
        """
        return import_bars(
            self.root, self.spec, good, quarantine, on_conflict=OnConflict(on_conflict),
            sources=sources,
        )  # fmt: skip


def series_of(
    bars: pl.DataFrame,
    actions: Mapping[str, SymbolActions] | None = None,
    spec: StoreSpec | None = None,
) -> list[SymbolSeries]:
    """One series per symbol of bars in BAR_SCHEMA, which are sorted by symbol and close.

    actions: of the symbols that have any. spec: of the bars; with it, moves that look like splits
    are flagged.
    """
    known = actions or {}
    columns = {name: bars[name].to_numpy() for name in ("timestamp", "session", "flags")}
    closes = bars["close_utc"].dt.replace_time_zone(None).to_numpy()
    values = np.ascontiguousarray(bars.select(FEATURES).to_numpy())
    lengths = bars["symbol"].rle().struct.unnest()
    ends = np.cumsum(lengths["len"].to_numpy())
    made = []
    for symbol, first, last in zip(
        lengths["value"], [0, *ends[:-1].tolist()], ends.tolist(), strict=False
    ):
        own = known.get(symbol, NO_ACTIONS)
        session_N, flags_N = columns["session"][first:last], columns["flags"][first:last]
        if spec is not None:
            flags_N = mark_suspects(flags_N, values[first:last], session_N, own, spec)
        made.append(
            SymbolSeries(
                symbol=symbol,
                timestamps_N=columns["timestamp"][first:last],
                sessions_N=session_N,
                close_utc_N=closes[first:last],
                values_NF=values[first:last],
                flags_N=flags_N,
                actions=own,
            )
        )
    return made


@lru_cache(maxsize=16)
def _session_closes(history: MarketHistory) -> pl.DataFrame:
    """session, close_utc: every session with its last close, sorted; a version never changes."""
    closes = history.scan().group_by("session").agg(pl.col("close_utc").max())
    return closes.sort("session").collect(engine="streaming")


@lru_cache(maxsize=16)
def _symbol_table(history: MarketHistory) -> pl.DataFrame:
    return (
        history.scan()
        .group_by("symbol")
        .agg(
            pl.len().cast(pl.Int64).alias("n_bars"),
            pl.col("session").min().alias("first_session"),
            pl.col("session").max().alias("last_session"),
        )
        .sort("symbol")
        .collect(engine="streaming")
    )
