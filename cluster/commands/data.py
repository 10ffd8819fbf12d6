"""`candlecast data`: bars in, and a look at what is there. Prints; the work is done in market."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.commands.data_views import (
    Store,
    contents,
    ls,
    print_store,
    quarantine,
    rule_table,
    show,
    when,
)
from cluster.commands.options import add, examples
from cluster.commands.output import AsJson, Output, Quiet, table

if TYPE_CHECKING:
    from market import ImportReport, MarketHistory


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
    add(data, import_, "import")
    for command in (ls, show, quarantine):
        add(data, command)
    app.add_typer(data, name="data")


@examples(
    "candlecast data import 'bars/*.csv' --store store --venue XNYS --freq 1d",
    "candlecast data import more.parquet --store store --map close=Px --on-conflict replace",
    "candlecast data import --source duckdb:///bars.db --query 'select * from bars' --store store",
)
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
    as_json: AsJson = False,
    quiet: Quiet = False,
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
    output, history = Output(as_json=as_json, quiet=quiet), MarketHistory.open(store)
    output.result(
        {
            "new_bars": report.new_bars,
            "known_bars": report.known_bars,
            "conflicts": report.conflicts.height,
            "quarantined": report.quarantined,
            "notes": report.notes,
            **contents(history, history.symbols(), store),
        },
        lambda _: _print_report(output, report, history, store),
    )


def _print_report(
    output: Output, report: ImportReport, history: MarketHistory, store: Path
) -> None:
    console = output.console
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
        rows = table("symbol", "time", "stored close", "imported close",
                     numbers={"stored close", "imported close"})  # fmt: skip
        for name, label, stored, imported in report.conflicts.head(5).iter_rows():
            rows.add_row(name, when(label, history), f"{stored:,.10g}", f"{imported:,.10g}")
        console.print(rows)
    if report.quarantined:
        console.print(rule_table(report.quarantined))
        console.print(f"See them with: candlecast data quarantine --store {store}", soft_wrap=True)
    if report.known_quarantine:
        console.print(f"{report.known_quarantine:,} bad rows were in quarantine already.")
    symbols = history.symbols()
    print_store(output, history, symbols, store)
