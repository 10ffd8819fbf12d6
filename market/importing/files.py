"""Files, queries and frames into the history lake: where rows come from. Knows readers by kind.

All sources are read and checked before anything is written. What was inferred is said in the
report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from market.errors import SourceError
from market.importing.discover import (
    READABLE,
    find_files,
    kind_of,
    refuse_accidents,
    symbol_from_name,
)
from market.importing.job import Sources, cut, run_import
from market.importing.layouts import as_bars, unstack_names
from market.importing.options import ImportOptions
from market.importing.qlib_folder import read_qlib
from market.importing.rows import SourceRows, rows_of
from market.importing.sql_source import read_query
from market.importing.tables import as_table
from market.importing.text import read_table
from market.lake.appending import ImportReport, OnConflict
from market.spec import StoreSpec

__all__ = [
    "ImportOptions", "find_files", "import_files", "import_frame", "import_query", "read_source",
    "symbol_from_name",
]  # fmt: skip

_SMALL = 1 << 20
"""Bytes up to which a file is not worth several threads."""


def import_files(
    patterns: str | Path | Sequence[str | Path],
    store: str | Path,
    options: ImportOptions | None = None,
    *,
    on_conflict: OnConflict | str = OnConflict.ERROR,
) -> ImportReport:
    """Import files, folders and globs (one or several) into a store, made where there is none.

    Files count in the order of find_files: what on_conflict says holds between them as it holds
    between one import and the next. Raises SourceError, StoreError or ConfigError, each one line,
    with nothing written.
    """

    def read(told: ImportOptions) -> Sources:
        files = find_files(patterns)
        notes: list[str] = []
        return Sources([str(each) for each in files], _read_files(files, told, notes), notes)

    return run_import(read, store, options or ImportOptions(), OnConflict(on_conflict))


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

    def read(told: ImportOptions) -> Sources:
        found = rows_of(read_query(source, query), source, told, told.symbol)
        return Sources([source], iter([found]), _notes_of([found]))

    return run_import(read, store, options or ImportOptions(), OnConflict(on_conflict))


def import_frame(
    frame: Any,
    store: str | Path,
    spec: StoreSpec | None = None,
    *,
    options: ImportOptions | None = None,
    source: str = "frame",
    on_conflict: OnConflict | str = OnConflict.ERROR,
) -> ImportReport:
    """Import bars that are in memory, as data sources return them.

    frame: polars, Arrow or pandas (times in the index, yfinance's columns by field and ticker), or
    rows such as ccxt's fetch_ohlcv gives: [time, open, high, low, close, volume]. Columns are found
    by their usual names. spec: what the bars are; without, the store's, or inferred as for files,
    with what options say. Raises as import_files does.
    """

    def read(told: ImportOptions) -> Sources:
        table = as_table(frame, source)
        bars, notes = unstack_names(table, told.columns)
        found = rows_of(bars, source, told, told.symbol)
        for name in ("source", "row"):
            if name in table.columns and bars is table:
                found = found._replace(rows=found.rows.with_columns(table[name]))
        found = found._replace(unused=tuple(set(found.unused) - {"source", "row"}))
        return Sources([source], iter([found]), [*notes, *_notes_of([found])])

    return run_import(read, store, options or ImportOptions(), OnConflict(on_conflict), spec)


def read_source(path: Path, options: ImportOptions) -> SourceRows:
    """One file as rows for check_bars. Raises SourceError naming the file where it holds no
    bars."""
    kind = kind_of(path)
    if kind is None:
        raise SourceError(f"{path}: neither .csv nor .parquet; convert it to one of them")
    try:
        if path.stat().st_size == 0:
            raise SourceError(f"{path}: the file is empty; expected bars as {kind}")
        notes: list[str] = []
        if kind == "qlib":
            raw, notes = read_qlib(path, options.freq)
        elif kind == "parquet":
            raw, notes = unstack_names(_read_parquet(path), options.columns)
        else:
            table = read_table(path, frozenset(options.columns.values()), len(options.positions))
            raw, notes = as_bars(table, options.positions, str(path), options.columns)
        found = rows_of(raw, str(path), options, options.symbol or symbol_from_name(path))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from None
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{path}: cannot be read as {kind} ({_line(error)})") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Polars' own, which is no Exception
            raise
        raise SourceError(f"{path}: the file is damaged ({_line(error)})") from None
    return found._replace(notes=(*notes, *found.notes))


def _read_parquet(path: Path) -> pl.DataFrame:
    """A Parquet file, through Arrow: damaged pages are an error there, and a panic in Polars."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as handle:
        magic = handle.read(4)
    if magic != b"PAR1":
        raise SourceError(f"{path}: not a Parquet file (it begins with {magic!r}, not b'PAR1')")
    try:
        small = path.stat().st_size < _SMALL
        frame = pl.from_arrow(pq.ParquetFile(path).read(use_threads=not small))
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise SourceError(f"{path}: cannot be read as parquet ({_line(error)})") from None
    assert isinstance(frame, pl.DataFrame)
    decimals = [name for name, dtype in frame.schema.items() if dtype.is_decimal()]
    frame = frame.with_columns(pl.col(decimals).cast(pl.Float64))
    index = [name for name in frame.columns if name.startswith("__index_level_")]
    return frame.rename(dict.fromkeys(index[:1], "index"))


def _read_files(
    files: Sequence[Path], options: ImportOptions, notes: list[str]
) -> Iterator[SourceRows]:
    named: list[tuple[Path, str]] = []
    found_notes: list[str] = []
    unused: dict[str, None] = {}
    for path in files:
        if kind_of(path) is None:
            raise SourceError(f"{path}: neither .csv nor .parquet; {READABLE} can be read")
        found = read_source(path, options)
        symbols = found.rows["symbol"]
        by_name = options.symbol is None and symbols[0] == symbol_from_name(path)
        if by_name and symbols.n_unique() == 1:
            named.append((path, symbols[0]))
        found_notes += found.notes
        unused.update(dict.fromkeys(found.unused))
        yield found
    refuse_accidents(named)
    if named:
        shown = ", ".join(f"{_short(path)} is {symbol}" for path, symbol in named[:3])
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        notes.append(f"symbols from file names: {shown}{more}")
    if len(files) > 1:
        notes.append(f"{len(files)} files, in this order: {_short(files[0])} … {_short(files[-1])}")
    notes += cut(found_notes)
    if unused:
        notes.append(f"columns not used: {', '.join(unused)}")


def _short(path: Path) -> str:
    """A file's name, with its folder where that names the symbol."""
    return f"{path.parent.name}/{path.name}" if "=" in path.parent.name else path.name


def _notes_of(parts: Sequence[SourceRows]) -> list[str]:
    unused = [name for part in parts for name in part.unused]
    notes = [note for part in parts for note in part.notes]
    return [*notes, f"columns not used: {', '.join(unused)}"] if unused else notes


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
