"""`candlecast data`: bars in, and a look at what is there. Prints; the work is done in market."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from market.fields import FEATURES

if TYPE_CHECKING:
    from datetime import datetime

    import polars as pl
    from rich.console import Console
    from rich.table import Table

    from market import ImportReport, MarketHistory

Store = Annotated[Path, typer.Option("--store", help="Folder of the history store.")]

_MANY = 20
"""A store with more symbols than this is summarised."""


class LabelChoice(StrEnum):
    START = "start"
    END = "end"
    SESSION = "session"


class ConflictChoice(StrEnum):
    ERROR = "error"
    KEEP = "keep"
    REPLACE = "replace"


class BasisChoice(StrEnum):
    RAW = "raw"
    ADJUSTED = "adjusted"


def register(app: typer.Typer) -> None:
    """Add `data` and its commands to the command line."""
    data = typer.Typer(
        help="Import bars into a history store, and look at them.", no_args_is_help=True
    )
    data.command("import")(import_)
    data.command("ls")(ls)
    data.command("show")(show)
    data.command("quarantine")(quarantine)
    app.add_typer(data, name="data")


def import_(
    store: Store,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH]...", help="CSV or Parquet files, folders, or globs."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="A database instead of files: duckdb:///file.db.")
    ] = None,
    query: Annotated[str | None, typer.Option(help="SQL that selects its bars.")] = None,
    venue: Annotated[
        str | None,
        typer.Option(help="Exchange calendar (XNYS, XSHG, …) or 24/7. Without: learned from bars."),
    ] = None,
    freq: Annotated[
        str | None, typer.Option(help="Bar length: 1d, 1h, 5min, … Without: from the labels.")
    ] = None,
    tz: Annotated[
        str | None, typer.Option(help="Time zone of the labels. Without: the venue's.")
    ] = None,
    label: Annotated[
        LabelChoice | None, typer.Option(help="Which instant of a bar its label names.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="Column of a field, e.g. close=Px."),
    ] = None,
    symbol: Annotated[
        str | None,
        typer.Option(help="Symbol of files without a symbol column. Without: the file's name."),
    ] = None,
    on_conflict: Annotated[
        ConflictChoice, typer.Option(help="When a bar differs from the stored one.")
    ] = ConflictChoice.ERROR,
    price_basis: Annotated[
        BasisChoice | None,
        typer.Option(
            help="Whether prices are adjusted for splits and dividends; noted in forecasts."
        ),
    ] = None,
) -> None:
    """Check bars row by row and add them to a history store.

    Columns are found by their usual names. Rows that break a rule go to the store's quarantine;
    importing the same bars again changes nothing.
    """
    from market import ImportOptions, Label, MarketHistory, import_files
    from market.errors import ConfigError
    from market.importing.files import import_query

    if (source is None) != (query is None) or bool(paths) == bool(source):
        raise ConfigError("name files to import, or --source duckdb:///file.db with --query")

    pairs = [pair.partition("=") for pair in columns or []]
    if any(not (field and sign and column) for field, sign, column in pairs):
        raise ConfigError(f"--map {' '.join(columns or [])}: write it as FIELD=COLUMN")
    options = ImportOptions(
        venue=venue,
        freq=freq,
        tz=tz,
        label=Label(label) if label else None,
        columns={field.strip().lower(): column for field, _, column in pairs},
        symbol=symbol,
        price_basis=price_basis,
    )
    if source is not None and query is not None:
        report = import_query(source, query, store, options, on_conflict=str(on_conflict))
    else:
        report = import_files(paths or [], store, options, on_conflict=str(on_conflict))
    _print_report(report, MarketHistory.open(store), store)


def ls(
    store: Store,
    version: Annotated[str | None, typer.Option(help="An older version of the store.")] = None,
    all_symbols: Annotated[
        bool, typer.Option("--all", help="List every symbol, however many.")
    ] = False,
) -> None:
    """Show what a history store holds."""
    from market import MarketHistory

    history = MarketHistory.open(store, version=version)
    symbols = history.symbols()
    _print_store(history, symbols, store)
    shown = symbols if all_symbols else symbols.head(_MANY)
    table = _table("symbol", "bars", "first session", "last session", numbers={"bars"})
    for name, bars, first, last in shown.iter_rows():
        table.add_row(name, f"{bars:,}", str(first), str(last))
    _console().print(table)
    if shown.height < symbols.height:
        _console().print(f"… and {symbols.height - shown.height:,} more; --all lists them.")


def show(
    symbol: Annotated[str, typer.Argument(help="The symbol.")],
    store: Store,
    tail: Annotated[int, typer.Option(min=1, help="How many of the last bars.")] = 10,
    version: Annotated[str | None, typer.Option(help="An older version of the store.")] = None,
) -> None:
    """Show a symbol's last bars."""
    from market import MarketHistory
    from market.errors import StoreError

    history = MarketHistory.open(store, version=version)
    bars = history.scan(symbols=[symbol]).sort("timestamp").collect()
    if not bars.height:
        raise StoreError(_unknown_symbol(history, symbol, store))
    numbers = FEATURES
    shown = bars.tail(tail)
    notes = {_note(flags) for flags in shown["flags"]}
    columns = ("time", *numbers) if len(notes) == 1 else ("time", *numbers, "note")
    table = _table(*columns, numbers=set(numbers))
    for row in shown.iter_rows(named=True):
        prices = [f"{row[name]:,.10g}" for name in numbers[:4]]
        sizes = [f"{row[name]:,.0f}" if row[name] >= 1e4 else f"{row[name]:.6g}"
                 for name in numbers[4:]]  # fmt: skip
        cells = [_when(row["timestamp"], history), *prices, *sizes, _note(row["flags"])]
        table.add_row(*cells[: len(columns)])
    console = _console()
    console.print(f"{symbol}: {bars.height:,} bars, {history.spec}", highlight=False)
    console.print(table)
    if len(notes) == 1 and notes != {""}:
        console.print(f"These bars: {notes.pop()}.")


def quarantine(
    store: Store,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol's rows.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many rows to show.")] = 40,
    version: Annotated[str | None, typer.Option(help="An older version of the store.")] = None,
) -> None:
    """Show the rows that broke a rule, and which."""
    from market import MarketHistory

    history = MarketHistory.open(store, version=version)
    rows = history.quarantine(symbol)
    whose = f" for {symbol}" if symbol else ""
    if not rows.height:
        _console().print(f"The quarantine holds nothing{whose}.")
        return
    counts = dict(rows["rule"].value_counts(sort=True).iter_rows())
    _console().print(f"{rows.height:,} rows in quarantine{whose}")
    _console().print(_rule_table(counts))
    shown = rows.head(limit)
    sources = [Path(source).name for source in shown["source"].unique()]
    headings = ["symbol", "time", "rule", "what is wrong", "row", "file"]
    if len(sources) == 1:
        headings.pop()
        _console().print(f"rows are those of {sources[0]}")
    table = _table(*headings, numbers={"row"})
    for row in shown.iter_rows(named=True):
        cells = [
            *(row["symbol"] or "", _when(row["timestamp"], history), row["rule"], row["detail"]),
            *(str(row["row"]), Path(row["source"]).name),
        ]
        table.add_row(*cells[: len(headings)])
    _console().print(table)
    if rows.height > limit:
        _console().print(f"… and {rows.height - limit:,} more; --limit or --symbol shows others.")


def _print_report(report: ImportReport, history: MarketHistory, store: Path) -> None:
    console = _console()
    for note in report.notes:
        console.print(f"[dim]·[/dim] {note}", highlight=False, soft_wrap=True)
    if report.nothing_new:
        console.print(
            f"Nothing new: all {report.known_bars:,} bars are in {store} already."
            if not report.conflicts.height
            else f"Nothing new in {store}; {report.known_bars:,} bars were there already."
        )
    else:
        known = f", {report.known_bars:,} were there already" if report.known_bars else ""
        console.print(f"{report.new_bars:,} new bars{known}.")
    if report.conflicts.height:
        one = report.conflicts.height == 1
        done = "kept" if report.on_conflict == "keep" else "replaced"
        console.print(
            f"{report.conflicts.height:,} stored {'bar differs' if one else 'bars differ'} and "
            f"{'was' if one else 'were'} {done}, for example:"
        )
        table = _table("symbol", "time", "stored close", "imported close",
                       numbers={"stored close", "imported close"})  # fmt: skip
        for name, when, stored, imported in report.conflicts.head(5).iter_rows():
            table.add_row(name, _when(when, history), f"{stored:,.10g}", f"{imported:,.10g}")
        console.print(table)
    if report.quarantined:
        console.print(_rule_table(report.quarantined))
        console.print(f"See them with: candlecast data quarantine --store {store}", soft_wrap=True)
    if report.known_quarantine:
        console.print(f"{report.known_quarantine:,} bad rows were in quarantine already.")
    symbols = history.symbols()
    _print_store(history, symbols, store)


def _print_store(history: MarketHistory, symbols: pl.DataFrame, store: Path) -> None:
    span = (
        f"{symbols['first_session'].min()!s} to {symbols['last_session'].max()!s}"
        if symbols.height
        else "no sessions"
    )
    noun = "symbol" if symbols.height == 1 else "symbols"
    console = _console()
    console.print(
        f"{store}: {symbols.height:,} {noun}, {symbols['n_bars'].sum():,} bars, {span}",
        soft_wrap=True,
    )
    console.print(
        f"{history.spec}; version {history.version}", style="dim", highlight=False, soft_wrap=True
    )


def _rule_table(counts: dict[str, int]) -> Table:
    table = _table("rule broken", "rows in quarantine", numbers={"rows in quarantine"})
    for rule, count in counts.items():
        table.add_row(rule, f"{count:,}")
    return table


def _when(label: datetime | None, history: MarketHistory) -> str:
    if label is None:
        return ""
    return f"{label:%Y-%m-%d}" if history.spec.daily else f"{label:%Y-%m-%d %H:%M}"


def _note(flags: int) -> str:
    from market import Flag

    notes = {Flag.VOLUME_MISSING: "no volume", Flag.AMOUNT_MISSING: "amount estimated"}
    return ", ".join(text for flag, text in notes.items() if flags & flag)


def _unknown_symbol(history: MarketHistory, symbol: str, store: Path) -> str:
    import difflib

    bad = history.quarantine(symbol).height
    if bad:
        return (
            f"{symbol}: no good bar in {store}, but {bad} rows in quarantine; see "
            f"'candlecast data quarantine --symbol {symbol} --store {store}'"
        )
    names = history.symbols()["symbol"].to_list()
    near = difflib.get_close_matches(symbol.upper(), names, n=3) or names[:3]
    return f"{symbol}: not in {store}, which holds {len(names)} symbols, such as {', '.join(near)}"


def _console() -> Console:
    """A console that does not fold tables into 80 columns where nobody watches a terminal."""
    import sys

    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160)


def _table(*headings: str, numbers: set[str]) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1))
    for heading in headings:
        is_number = heading in numbers
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=is_number)
    return table
