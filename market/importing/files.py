"""From files to the history lake: CSV and Parquet in, checked bars and quarantine out.

All files are read and checked before anything is written. What was inferred is said in the report.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from market.bars import CheckedBars, check_bars
from market.calendars import canonical_venue, venue_tz
from market.errors import SourceError, StoreError
from market.fields import FEATURES, PRICES
from market.flags import Flag
from market.importing.columns import find_columns, read_number, read_times
from market.importing.inference import infer_freq, infer_label
from market.importing.sql_source import read_query
from market.lake.history import ImportReport, MarketHistory, OnConflict
from market.lake.manifest import current_version
from market.spec import DAILY, Label, StoreSpec, parse_freq

_PARQUET = {".parquet", ".pq", ".parq"}
_CSV = {".csv", ".txt", ".tsv"}
_TAIL = re.compile(r"[_\-. ](data|daily|hourly|bars?|ohlcv?|history|prices?|\d+(m|min|h|d))$", re.I)
"""Endings of file names that say what is in them rather than which symbol."""


@dataclass(frozen=True)
class ImportOptions:
    """What the user says about the sources; None is inferred where that is honest."""

    venue: str | None = None
    """Calendar code, "24/7", or None for unknown."""
    freq: str | None = None
    tz: str | None = None
    label: Label | None = None
    columns: dict[str, str] = field(default_factory=dict)
    """Field to column name, for columns without a usual name."""
    symbol: str | None = None
    """Symbol of files that have no symbol column; otherwise the file's name."""
    price_basis: str | None = None


def import_files(
    patterns: str | Path | Sequence[str | Path],
    store: str | Path,
    options: ImportOptions | None = None,
    *,
    on_conflict: OnConflict | str = OnConflict.ERROR,
) -> ImportReport:
    """Import files, folders and globs (one or several) into a store, made where there is none.

    Raises SourceError, StoreError or ConfigError, each one line, with nothing written.
    """

    def read(told: ImportOptions) -> _Read:
        files = find_files(patterns)
        rows, notes = _read_all(files, told)
        return _Read(rows, notes, [str(each) for each in files])

    return _import(read, store, options, on_conflict)


def import_query(
    source: str,
    query: str,
    store: str | Path,
    options: ImportOptions | None = None,
    *,
    on_conflict: OnConflict | str = OnConflict.ERROR,
) -> ImportReport:
    """Import what a query over a database finds, such as `duckdb:///file.db`; see read_query.

    Its columns are found by their usual names, as those of files are. Raises as import_files does.
    """

    def read(told: ImportOptions) -> _Read:
        rows, unused = as_rows(read_query(source, query), source, told, told.symbol)
        notes = [f"columns not used: {', '.join(unused)}"] if unused else []
        return _Read(rows, notes, [source])

    return _import(read, store, options, on_conflict)


class _Read(NamedTuple):
    """Rows for check_bars, what to tell the user, and where they came from."""

    rows: pl.DataFrame
    notes: list[str]
    sources: list[str]


def _import(
    read: Callable[[ImportOptions], _Read],
    store: str | Path,
    options: ImportOptions | None,
    on_conflict: OnConflict | str,
) -> ImportReport:
    existing = MarketHistory.open(store).spec if current_version(Path(store).resolve()) else None
    told, notes = with_defaults(options or ImportOptions(), existing)
    rows, read_notes, sources = read(told)
    spec, spec_notes = infer_spec(rows, told, existing)
    checked = check_bars(rows)
    del rows  # as large as everything that follows
    report = _store(checked, store, spec, sources, OnConflict(on_conflict))
    filled = describe_filled(checked.good)
    return replace(report, notes=(*read_notes, *notes, *spec_notes, *filled))


def import_frame(
    frame: pl.DataFrame,
    store: str | Path,
    spec: StoreSpec,
    *,
    source: str = "frame",
    on_conflict: OnConflict | str = OnConflict.ERROR,
) -> ImportReport:
    """Import bars that are in memory: symbol, timestamp (naive labels), prices, volume, amount."""
    named = frame if "source" in frame.columns else frame.with_columns(source=pl.lit(source))
    return _store(check_bars(named), store, spec, [source], OnConflict(on_conflict))


def find_files(patterns: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files that paths, folders and globs name, each once, in order."""
    found: dict[Path, None] = {}
    patterns = [patterns] if isinstance(patterns, str | Path) else patterns
    for pattern in map(str, patterns):
        path = Path(pattern).expanduser()
        if path.is_dir():
            matches = sorted(each for each in path.iterdir() if _kind(each) is not None)
            if not matches:
                raise SourceError(f"{pattern}: the folder holds no .csv or .parquet file")
        elif path.exists():
            matches = [path]
        else:
            matches = sorted(Path(each) for each in glob.glob(str(path), recursive=True))
            matches = [each for each in matches if each.is_file()]
        if not matches:
            raise SourceError(f"{pattern}: no such file, and no file matches it as a pattern")
        found.update(dict.fromkeys(matches))
    return list(found)


def read_source(path: Path, options: ImportOptions) -> tuple[pl.DataFrame, list[str]]:
    """One file as rows for check_bars, with the names of columns that were not used.

    Raises SourceError naming the file where it cannot be bars.
    """
    return as_rows(_read_raw(path), str(path), options, options.symbol or symbol_from_name(path))


def as_rows(
    raw: pl.DataFrame, source: str, options: ImportOptions, symbol_name: str | None
) -> tuple[pl.DataFrame, list[str]]:
    columns = find_columns(raw.columns, options.columns, source)
    if not raw.height:
        raise SourceError(f"{source}: it has a header but no rows; leave the file out")
    label = raw[columns.of["timestamp"]]
    if "time_of_day" in columns.of:
        clock = raw[columns.of["time_of_day"]].cast(pl.String)
        label = (label.cast(pl.String) + " " + clock).rename(label.name)
    if "symbol" in columns.of:
        if options.symbol is not None:
            raise SourceError(
                f"{source}: it has a symbol column, {columns.of['symbol']!r}; leave --symbol out"
            )
        symbol = raw[columns.of["symbol"]].cast(pl.String).str.strip_chars().alias("symbol")
    else:
        if symbol_name is None:
            raise SourceError(
                f"{source}: the query has no symbol column; select one, or name it with --symbol"
            )
        symbol = pl.Series("symbol", [symbol_name]).new_from_index(0, raw.height)
    values = [
        read_number(raw[columns.of[name]], source, optional=name not in PRICES).alias(name)
        if name in columns.of
        else pl.Series(name, [None], pl.Float64).new_from_index(0, raw.height)
        for name in FEATURES
    ]
    times = read_times(label, options.tz, source).alias("timestamp")
    rows = pl.DataFrame(
        [
            pl.Series("source", [source]).new_from_index(0, raw.height),
            pl.Series("row", np.arange(1, raw.height + 1)),
            symbol,
            times,
            label.set(times.is_not_null(), None).cast(pl.String).alias("time_text"),
            *values,
        ]
    )
    return rows, list(columns.unused)


def symbol_from_name(path: Path) -> str:
    """The symbol a file name gives: AAPL_data.csv gives AAPL, BRK.B.csv gives BRK.B."""
    stem = path.name
    for suffix in (".gz", *_CSV, *_PARQUET):
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
    return _TAIL.sub("", stem) or stem


def _kind(path: Path) -> str | None:
    suffixes = [each.lower() for each in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes = suffixes[:-1]
    last = suffixes[-1] if suffixes else ""
    return "parquet" if last in _PARQUET else "csv" if last in _CSV else None


def _read_raw(path: Path) -> pl.DataFrame:
    kind = _kind(path)
    if kind is None:
        raise SourceError(f"{path}: neither .csv nor .parquet; convert it to one of them")
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty; expected bars as {kind}")
    if kind == "parquet":
        with path.open("rb") as handle:
            magic = handle.read(4)
        if magic != b"PAR1":
            raise SourceError(f"{path}: not a Parquet file (it begins with {magic!r}, not b'PAR1')")
    try:
        return pl.read_parquet(path) if kind == "parquet" else _read_csv(path)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SourceError(f"{path}: cannot be read as {kind} ({reason[:200]})") from None


def _read_csv(path: Path) -> pl.DataFrame:
    """All columns as text, whatever the separator, skipping a banner above the header."""
    if path.suffix.lower() == ".gz":
        return pl.read_csv(path, infer_schema=False)
    with path.open(encoding="utf-8-sig", errors="replace") as handle:
        lines = [handle.readline() for _ in range(3)]
    separator = max(",;\t|", key=lambda sign: max(line.count(sign) for line in lines))
    wide = max(line.count(separator) for line in lines)
    banner = next(i for i, line in enumerate(lines) if line.count(separator) * 2 >= wide)
    return pl.read_csv(path, infer_schema=False, separator=separator, skip_rows=banner)


def _read_all(files: list[Path], options: ImportOptions) -> tuple[pl.DataFrame, list[str]]:
    frames, unused, named = [], dict[str, None](), []
    for path in files:
        rows, left = read_source(path, options)
        frames.append(rows)
        unused.update(dict.fromkeys(left))
        if rows["symbol"][0] == symbol_from_name(path) and rows["symbol"].n_unique() == 1:
            named.append(f"{path.name} is {rows['symbol'][0]}")
    notes = []
    if named and options.symbol is None:
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        notes.append(f"symbols from file names: {', '.join(named[:3])}{more}")
    if unused:
        notes.append(f"columns not used: {', '.join(unused)}")
    return pl.concat(frames), notes


def with_defaults(
    options: ImportOptions, existing: StoreSpec | None
) -> tuple[ImportOptions, list[str]]:
    """Fill what the store or the venue already says; complain where it contradicts the options."""
    venue = canonical_venue(options.venue) if options.venue else None
    freq = parse_freq(options.freq) if options.freq else None
    if existing is not None:
        for name, given, stored in (
            ("--venue", venue, existing.venue),
            ("--freq", freq, existing.freq),
            ("--tz", options.tz, existing.tz),
            ("--label", options.label, existing.label),
            ("--price-basis", options.price_basis, existing.price_basis),
        ):
            if given is not None and given != stored:
                raise StoreError(
                    f"{name} {given}: the store holds {existing}; one store holds one kind of "
                    "bars, choose another --store"
                )
        return replace(
            options,
            venue=existing.venue,
            freq=existing.freq,
            tz=existing.tz,
            label=existing.label,
            price_basis=existing.price_basis,
        ), []
    if options.tz is None and venue is not None:
        tz = venue_tz(venue)
        note = f"time zone {tz} (that of {venue})"
        return replace(options, venue=venue, freq=freq, tz=tz), [note]
    return replace(options, venue=venue, freq=freq), []


def infer_spec(
    rows: pl.DataFrame, options: ImportOptions, existing: StoreSpec | None
) -> tuple[StoreSpec, list[str]]:
    """The spec of these bars, and what about it was inferred."""
    notes = []
    found = infer_freq(rows)
    if found is not None and options.freq is not None and found.step < found.step_of(options.freq):
        raise SourceError(
            f"{rows['source'][0]}: bars are {found} apart, not {options.freq} as the store or "
            "--freq says; resample them, or choose another --store"
        )
    freq = options.freq
    if freq is None:
        if found is None:
            raise SourceError(
                f"{rows['source'][0]}: too few bars to see their frequency; say it, for example "
                "--freq 1d"
            )
        freq = parse_freq(str(found))
        notes.append(f"frequency {freq} (the usual step between labels)")
    if existing is not None:
        return existing, []
    tz = options.tz
    if tz is None:
        if freq != DAILY:
            raise SourceError(
                f"{rows['source'][0]}: intraday bars need their time zone; say --venue (such as "
                "XNYS), --venue 24/7 for crypto in UTC, or --tz (such as Asia/Kolkata)"
            )
        tz = "UTC"
        notes.append(
            "no --venue: days end at midnight UTC, and future sessions follow the weekdays seen; "
            "--venue XNYS (say) brings the exchange's calendar"
        )
    elif options.venue is None:
        notes.append("no --venue: future sessions follow the weekdays and times of day seen")
    label = options.label
    if label is None:
        label, why = infer_label(rows, options.venue, freq, tz)
        notes.append(f"labels name the bar's {label} ({why})")
    basis = options.price_basis or "as given"
    return StoreSpec(options.venue, freq, tz, label, basis), notes


def describe_filled(good: pl.DataFrame) -> list[str]:
    """Say how many bars had no volume or amount, and what was stored for them."""
    stored = {
        Flag.VOLUME_MISSING: "no volume: 0 is stored",
        Flag.AMOUNT_MISSING: "no traded amount: volume × mean(open, high, low, close) is stored",
    }
    notes = []
    for flag, text in stored.items():
        count = int((good["flags"].to_numpy() & int(flag) != 0).sum())
        if count:
            whose = "the bars have" if count == good.height else f"{count:,} bars have"
            notes.append(f"{whose} {text}, and flagged")
    return notes


def _store(
    checked: CheckedBars,
    store: str | Path,
    spec: StoreSpec,
    sources: list[str],
    on_conflict: OnConflict,
) -> ImportReport:
    history = MarketHistory.create(store, spec)
    return history.append(
        checked.good, checked.quarantine, on_conflict=on_conflict, sources=sources
    )
