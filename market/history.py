"""The history lake: one venue's bars, versioned, queried by symbol, date and as_of.

Knows the lake's files and the bar schema; nothing of models or clusters. A MarketHistory is pinned
to one version: imports that happen meanwhile do not change what it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from market.asof import (
    as_of_row,
    is_range,
    parse_moment,
    range_closes,
    require_inside,
    session_close,
)
from market.bars import BAR_SCHEMA, FEATURES, QUARANTINE_SCHEMA
from market.calendars import local_to_utc, sessions_and_closes
from market.errors import AsOfError, StoreError
from market.manifest import (
    BarFile,
    Manifest,
    bucket_of,
    current_version,
    load_manifest,
    publish,
    write_table,
    writer_lock,
)
from market.spec import AsOf, Label, StoreSpec
from market.windows import SymbolSeries

__all__ = ["AsOf", "ImportReport", "Label", "MarketHistory", "OnConflict", "StoreSpec"]

_KEY = ("symbol", "timestamp")
_FILES_PER_BUCKET = 8
"""A bucket of more files than this is rewritten into one at the next import that touches it."""
_QUARANTINE_CONTENT = ("symbol", "timestamp", "rule", "detail", *FEATURES)
"""What makes two quarantined rows the same, wherever they were read."""


class OnConflict(StrEnum):
    """What happens when an imported bar differs from the stored one."""

    ERROR = "error"
    KEEP = "keep"
    REPLACE = "replace"


@dataclass(frozen=True)
class ImportReport:
    """What one import did."""

    version: str
    """The store's version after it."""
    previous: str
    new_bars: int
    known_bars: int
    """Bars that were already there, equal."""
    conflicts: pl.DataFrame
    """symbol, timestamp, and both closes of every bar that differed from the stored one."""
    on_conflict: OnConflict
    quarantined: dict[str, int]
    """New quarantine rows by rule."""
    known_quarantine: int
    """Quarantine rows that were already there."""
    notes: tuple[str, ...] = field(default=())
    """What was inferred or left out on the way, for the user to read."""

    @property
    def nothing_new(self) -> bool:
        return self.version == self.previous


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
        return (
            self.scan()
            .group_by("symbol")
            .agg(
                pl.len().cast(pl.Int64).alias("n_bars"),
                pl.col("session").min().alias("first_session"),
                pl.col("session").max().alias("last_session"),
            )
            .sort("symbol")
            .collect()
        )

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
        time zone it counts as UTC.
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
        bars = pl.scan_parquet([self.root / each.path for each in files])
        if wanted is not None:
            bars = bars.filter(pl.col("symbol").is_in(wanted))
        if start is not None:
            bars = bars.filter(pl.col("session") >= start)
        if moment is not None:
            bars = bars.filter(pl.col("close_utc") <= moment)
        return bars

    def sql(self, query: str) -> pl.DataFrame:
        """Run a DuckDB query over the view `bars`."""
        import duckdb

        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            files = [str(self.root / each.path) for each in self.manifest.bars]
            if files:
                connection.from_parquet(files).create_view("bars")
            else:
                connection.register("bars", pl.DataFrame(schema=BAR_SCHEMA).to_arrow())
            try:
                return pl.DataFrame(connection.sql(query).to_arrow_table())
            except duckdb.Error as error:
                raise StoreError(
                    f"the query failed: {str(error).splitlines()[0]} (the view is named bars; its "
                    f"columns are {', '.join(BAR_SCHEMA)})"
                ) from None

    def series(
        self, symbols: Iterable[str] | None = None, *, as_of: datetime | None = None
    ) -> list[SymbolSeries]:
        """One series per symbol that has bars, sorted by symbol; all symbols without a list."""
        bars = self.scan(symbols=symbols, as_of=as_of).sort(*_KEY).collect()
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

    def quarantine(self, symbol: str | None = None) -> pl.DataFrame:
        """Rows that broke a rule, with the rule and what was wrong."""
        files = [self.root / path for path in self.manifest.quarantine]
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
        """The as_of dates of "START:END:STEP", both ends inclusive, or of a single date.

        STEP: daily (default), weekly (last session of each ISO week), monthly (last session of
        each month), or a number n for every n-th session from START. A week or month counts only
        when its last session is in the history and between the ends. The ends may lie outside the
        history as long as a session lies between them.
        """
        if is_range(text):
            return range_closes(text, _session_closes(self), self.spec, self.root)
        return [self.resolve_as_of(text)]

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
            bars = _with_closes(good, self.spec)
            new, conflicts, known = current._compare(bars)
            if conflicts.height and policy is OnConflict.ERROR:
                raise StoreError(_conflict_message(conflicts, self.root))
            replaced = conflicts if policy is OnConflict.REPLACE else conflicts.clear()
            fresh = current._unseen(quarantine)
            report = ImportReport(
                version=current.version,
                previous=current.version,
                new_bars=new.height,
                known_bars=known,
                conflicts=conflicts.select(*_KEY, "close_stored", "close"),
                on_conflict=policy,
                quarantined=dict(fresh.group_by("rule").len().sort("rule").iter_rows()),
                known_quarantine=quarantine.height - fresh.height,
            )
            if not (new.height or replaced.height or fresh.height):
                return report
            manifest = current.manifest
            if new.height or replaced.height:
                written = pl.concat([new, replaced.select(BAR_SCHEMA.names())])
                manifest = replace(manifest, bars=current._write_bars(written, replaced))
            if fresh.height:
                path = write_table(self.root, "quarantine", fresh)
                manifest = replace(manifest, quarantine=(*manifest.quarantine, path))
            manifest = replace(manifest, parent=current.version, sources=tuple(sources))
            return replace(report, version=publish(self.root, manifest))

    def _compare(self, bars: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, int]:
        """Split bars into new ones, ones that differ from the stored bar, and a count of equals."""
        if not bars.height:
            return bars, bars.with_columns(close_stored=pl.lit(None, pl.Float64)), 0
        stored = (
            self.scan(symbols=bars["symbol"].unique())
            .filter(
                pl.col("timestamp").is_between(bars["timestamp"].min(), bars["timestamp"].max())
            )
            .select(*_KEY, *FEATURES, "flags")
            .collect()
        )
        new = bars.join(stored, on=_KEY, how="anti")
        both = bars.join(stored, on=_KEY, how="inner", suffix="_stored")
        differs = pl.any_horizontal(
            pl.col(name) != pl.col(f"{name}_stored") for name in (*FEATURES, "flags")
        )
        conflicts = both.filter(differs).sort(*_KEY)
        return new, conflicts, both.height - conflicts.height

    def _unseen(self, quarantine: pl.DataFrame) -> pl.DataFrame:
        """The rows that are not in the quarantine yet; equal rows are matched one to one."""
        rows = quarantine.select(pl.col(n).cast(t) for n, t in QUARANTINE_SCHEMA.items())
        nth = pl.int_range(pl.len()).over(*_QUARANTINE_CONTENT).alias("nth")
        content = [*_QUARANTINE_CONTENT, "nth"]
        return (
            rows.with_columns(nth)
            .join(self.quarantine().with_columns(nth), on=content, how="anti", nulls_equal=True)
            .drop("nth")
        )

    def _write_bars(self, bars: pl.DataFrame, replaced: pl.DataFrame) -> tuple[BarFile, ...]:
        """The files of the next version: new ones beside the old, or instead of them."""
        files = list(self.manifest.bars)
        buckets = {symbol: bucket_of(symbol) for symbol in bars["symbol"].unique()}
        numbered = bars.with_columns(
            pl.col("symbol").replace_strict(buckets, return_dtype=pl.Int32).alias("bucket")
        )
        rewritten = {buckets[symbol] for symbol in replaced["symbol"].unique()}
        for (bucket,), rows in numbered.partition_by("bucket", as_dict=True).items():
            part = rows.select(BAR_SCHEMA.names())
            old = [each for each in files if each.bucket == bucket]
            if bucket in rewritten or len(old) >= _FILES_PER_BUCKET:
                stored = pl.read_parquet([self.root / each.path for each in old])
                part = pl.concat([stored.join(part, on=_KEY, how="anti"), part])
                files = [each for each in files if each.bucket != bucket]
            part = part.sort(*_KEY)
            closes = part["close_utc"]
            files.append(
                BarFile(
                    path=write_table(self.root, f"bars/{bucket:02d}", part),
                    bucket=int(bucket),
                    rows=part.height,
                    first_close=_iso(closes.min()),
                    last_close=_iso(closes.max()),
                )
            )
        return tuple(sorted(files, key=lambda each: (each.bucket, each.first_close, each.path)))


@lru_cache(maxsize=16)
def _session_closes(history: MarketHistory) -> pl.DataFrame:
    """session, close_utc: every session with its last close, sorted; a version never changes."""
    closes = history.scan().group_by("session").agg(pl.col("close_utc").max())
    return closes.sort("session").collect()


def _with_closes(good: pl.DataFrame, spec: StoreSpec) -> pl.DataFrame:
    sessions, closes = sessions_and_closes(spec, good["timestamp"].to_numpy())
    return good.with_columns(
        pl.Series("session", sessions.astype("datetime64[D]"), pl.Date),
        pl.Series("close_utc", closes, pl.Datetime("us")).dt.replace_time_zone("UTC"),
    ).select(pl.col(name).cast(dtype) for name, dtype in BAR_SCHEMA.items())


def _conflict_message(conflicts: pl.DataFrame, root: Path) -> str:
    rows = conflicts.select(*_KEY, "close_stored", "close").head(3).iter_rows()
    examples = "; ".join(
        f"{symbol} {timestamp}: close {stored:g} stored, {close:g} imported"
        if stored != close
        else f"{symbol} {timestamp}: same close {close:g}, other values differ"
        for symbol, timestamp, stored, close in rows
    )
    return (
        f"{conflicts.height} bars differ from those in {root} ({examples}). Nothing was written; "
        "choose --on-conflict keep (stored bars stay) or --on-conflict replace (imported ones win)"
    )


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _iso(moment: object) -> str:
    assert isinstance(moment, datetime)
    return moment.astimezone(UTC).isoformat()
