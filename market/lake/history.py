"""The history lake: one venue's bars, versioned, queried by symbol, date and as_of.

Knows the lake's files and the bar schema; nothing of models or clusters. A MarketHistory is pinned
to one version: imports that happen meanwhile do not change what it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from market.bars import BAR_SCHEMA, QUARANTINE_SCHEMA
from market.calendars import local_to_utc
from market.errors import AsOfError, StoreError
from market.fields import FEATURES
from market.lake.appending import (
    ImportReport,
    OnConflict,
    compare,
    conflict_message,
    unseen,
    with_closes,
    write_bars,
)
from market.lake.asof import (
    as_of_row,
    is_range,
    parse_moment,
    range_closes,
    require_inside,
    session_close,
)
from market.lake.manifest import (
    Manifest,
    bucket_of,
    current_version,
    load_manifest,
    publish,
    verified,
    write_table,
    writer_lock,
)
from market.select import select
from market.spec import AsOf, Label, StoreSpec
from market.windows import SymbolSeries

__all__ = ["AsOf", "ImportReport", "Label", "MarketHistory", "OnConflict", "StoreSpec"]


@dataclass(frozen=True)
class MarketHistory:
    """One version of a history lake. Cheap to pickle: files are listed when first needed."""

    root: Path
    spec: StoreSpec
    version: str

    @classmethod
    def open(cls, root: str | Path, *, version: str | None = None) -> MarketHistory:
        """The newest version of a store, or the one named; StoreError where there is none."""
        folder = Path(root).resolve()
        chosen = version or current_version(folder)
        if chosen is None:
            raise StoreError(
                f"{root}: no history store here; make one with "
                f"'candlecast data import FILES --store {root}'"
            )
        manifest = load_manifest(folder, chosen)
        paths = [*(each.path for each in manifest.bars), *manifest.quarantine]
        absent = [path for path in paths if not (folder / path).is_file()]
        if absent:
            raise StoreError(
                f"{root}: {len(absent)} of {len(paths)} data files are missing, the first is "
                f"{absent[0]}; restore the folder, or import the sources again into a new store"
            )
        return cls(folder, manifest.spec, chosen)

    @classmethod
    def create(cls, root: str | Path, spec: StoreSpec) -> MarketHistory:
        """An empty store, or the one that is there if its spec is the same."""
        folder = Path(root).resolve()
        if current_version(folder) is None:
            with writer_lock(folder):
                if current_version(folder) is None:
                    publish(folder, Manifest(spec, None, (), (), ()))
        history = cls.open(folder)
        if history.spec != spec:
            raise StoreError(
                f"{root} holds {history.spec}; these bars are {spec}. One store holds one venue "
                "and frequency: choose another --store"
            )
        return history

    @property
    def manifest(self) -> Manifest:
        return load_manifest(self.root, self.version)

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
        files = self.manifest.bars
        moment = None if as_of is None else _aware(as_of)
        wanted = None if symbols is None else sorted(set(symbols))
        if wanted is not None:
            buckets = {bucket_of(symbol) for symbol in wanted}
            files = tuple(each for each in files if each.bucket in buckets)
        if moment is not None:
            files = tuple(f for f in files if datetime.fromisoformat(f.first_close) <= moment)
        if not files:
            return pl.LazyFrame(schema=BAR_SCHEMA)
        bars = pl.scan_parquet(verified(self.root, [each.path for each in files]))
        if wanted is not None:
            bars = bars.filter(pl.col("symbol").is_in(wanted))
        if start is not None:
            bars = bars.filter(pl.col("session") >= start)
        if moment is not None:
            bars = bars.filter(pl.col("close_utc") <= moment)
        return bars

    def sql(self, query: str) -> pl.DataFrame:
        """The rows of one SELECT over the view `bars`, in DuckDB's SQL."""
        import duckdb

        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            files = verified(self.root, [each.path for each in self.manifest.bars])
            if files:
                connection.from_parquet([str(file) for file in files]).create_view("bars")
            else:
                connection.register("bars", pl.DataFrame(schema=BAR_SCHEMA).to_arrow())
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
        return series_of(
            self.scan(symbols=symbols, as_of=as_of).sort("symbol", "timestamp").collect()
        )

    def quarantine(self, symbol: str | None = None) -> pl.DataFrame:
        """Rows that broke a rule, with the rule and what was wrong."""
        files = verified(self.root, self.manifest.quarantine)
        rows = pl.read_parquet(files) if files else pl.DataFrame(schema=QUARANTINE_SCHEMA)
        return rows if symbol is None else rows.filter(pl.col("symbol") == symbol)

    def resolve_as_of(self, value: str | date | datetime) -> AsOf:
        """The last close at or before a date or a moment.

        A bare date is that session's close; one without a session rolls back to the session
        before it. A moment without time zone is wall time in the store's zone.
        Raises AsOfError outside the history, or where the text is no date.
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
        policy = OnConflict(on_conflict)
        with writer_lock(self.root):
            current = MarketHistory.open(self.root)
            bars = with_closes(good, self.spec)
            near = current.scan(symbols=bars["symbol"].unique()).filter(
                pl.col("timestamp").is_between(bars["timestamp"].min(), bars["timestamp"].max())
            )
            compared = compare(bars, near.collect())
            if compared.conflicts.height and policy is OnConflict.ERROR:
                raise StoreError(conflict_message(compared.conflicts, self.root))
            fresh = unseen(quarantine, current.quarantine())
            report = ImportReport(
                version=current.version,
                previous=current.version,
                new_bars=compared.new.height,
                known_bars=compared.equal,
                conflicts=compared.conflicts.select("symbol", "timestamp", "close_stored", "close"),
                on_conflict=policy,
                quarantined=dict(fresh.group_by("rule").len().sort("rule").iter_rows()),
                known_quarantine=quarantine.height - fresh.height,
            )
            replaced = compared.conflicts.select(BAR_SCHEMA.names())
            if policy is not OnConflict.REPLACE:
                replaced = replaced.clear()
            if not (compared.new.height or replaced.height or fresh.height):
                return report
            manifest = current.manifest
            files = write_bars(self.root, manifest.bars, compared.new, replaced)
            rejected = manifest.quarantine
            if fresh.height:
                rejected = (*rejected, write_table(self.root, "quarantine", fresh))
            version = publish(
                self.root,
                Manifest(self.spec, current.version, files, rejected, tuple(sources)),
            )
            return replace(report, version=version)


def series_of(bars: pl.DataFrame) -> list[SymbolSeries]:
    """One series per symbol of bars in BAR_SCHEMA, which are sorted by symbol and timestamp."""
    columns = {name: bars[name].to_numpy() for name in ("timestamp", "session", "flags")}
    closes = bars["close_utc"].dt.replace_time_zone(None).to_numpy()
    values = np.ascontiguousarray(bars.select(FEATURES).to_numpy())
    lengths = bars["symbol"].rle().struct.unnest()
    ends = np.cumsum(lengths["len"].to_numpy())
    return [
        SymbolSeries(
            symbol=symbol,
            timestamps_N=columns["timestamp"][first:last],
            sessions_N=columns["session"][first:last],
            close_utc_N=closes[first:last],
            values_NF=values[first:last],
            flags_N=columns["flags"][first:last],
        )
        for symbol, first, last in zip(
            lengths["value"], [0, *ends[:-1].tolist()], ends.tolist(), strict=False
        )
    ]


@lru_cache(maxsize=16)
def _session_closes(history: MarketHistory) -> pl.DataFrame:
    """session, close_utc: every session with its last close, sorted; a version never changes."""
    closes = history.scan().group_by("session").agg(pl.col("close_utc").max())
    return closes.sort("session").collect()


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
        .collect()
    )


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
