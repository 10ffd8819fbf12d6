"""`candlecast data`: bars in, and a look at what is there. Prints; the work is done in market."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cluster.commands.data_tools import actions, export, fetch
from cluster.commands.data_views import Store, ls, print_import, quarantine, show
from cluster.commands.options import add, examples
from cluster.commands.output import AsJson, Output, Quiet


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


Positions = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="NAME,NAME,…",
        help="What the columns of a file without a header are: time,open,high,low,close,volume "
        "(_ leaves one out; date,time where they are apart).",
    ),
]
DayFirst = Annotated[
    bool | None,
    typer.Option(
        "--day-first/--month-first",
        help="Whether 03/04/2024 is in April or in March. Without: as most dates show.",
    ),
]
Decimal = Annotated[
    str | None, typer.Option(help="Decimal sign, . or , . Without: as the file shows.")
]
Thousands = Annotated[
    str | None,
    typer.Option(help="Sign between thousands: , . ' or a blank. Without: as the file shows."),
]
Earliest = Annotated[str, typer.Option(help="Labels before this day go to quarantine.")]
Latest = Annotated[
    str | None, typer.Option(help="Labels after this day go to quarantine. Without: tomorrow.")
]
MaxClosed = Annotated[
    float, typer.Option(help="Share of a file's bars that may lie on days the venue is closed.")
]
Buckets = Annotated[
    int | None,
    typer.Option(
        help="Files a new store's symbols are spread over, 64 to 4096: about a 64th of how many it "
        "will hold. Without: by this import's symbols."
    ),
]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN", help="Column of a field, e.g. close=Px."),
]
Basis = Annotated[
    BasisChoice | None,
    typer.Option(help="Whether prices are adjusted for splits and dividends; noted in forecasts."),
]


def register(app: typer.Typer) -> None:
    """Add `data` and its commands to the command line."""
    data = typer.Typer(
        help="Import bars into a history store, and look at them.", no_args_is_help=True
    )
    add(data, import_, "import")
    for command in (ls, show, quarantine, actions, fetch, export):
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
    columns: Map = None,
    positions: Positions = None,
    day_first: DayFirst = None,
    decimal: Decimal = None,
    thousands: Thousands = None,
    earliest: Earliest = "1900-01-01",
    latest: Latest = None,
    max_closed: MaxClosed = 0.35,
    buckets: Buckets = None,
    symbol: Annotated[
        str | None,
        typer.Option(help="Symbol of files without a symbol column. Without: the file's name."),
    ] = None,
    on_conflict: Annotated[
        ConflictChoice, typer.Option(help="When a bar differs from the stored one.")
    ] = ConflictChoice.ERROR,
    price_basis: Basis = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check bars row by row and add them to a history store.

    Columns are found by their usual names. Rows that break a rule go to the store's quarantine;
    importing the same bars again changes nothing.
    """
    from datetime import datetime

    from market import ImportOptions, Label, import_files, import_query
    from market.errors import ConfigError
    from market.lake.asof import parse_moment

    if (source is None) != (query is None) or bool(paths) == bool(source):
        raise ConfigError("name files to import, or --source duckdb:///file.db with --query")

    pairs = [pair.partition("=") for pair in columns or []]
    if any(not (field and sign and column) for field, sign, column in pairs):
        raise ConfigError(f"--map {' '.join(columns or [])}: write it as FIELD=COLUMN")
    days = [parse_moment(day) for day in (earliest, latest) if day is not None]
    if any(isinstance(day, datetime) for day in days):
        raise ConfigError("--earliest and --latest name days, such as 2024-03-11")
    options = ImportOptions(
        positions=tuple(positions.split(",")) if positions else (),
        day_first=day_first,
        decimal=decimal,
        thousands=thousands,
        earliest=days[0],
        latest=days[1] if latest is not None else None,
        max_closed=max_closed,
        buckets=buckets,
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
    print_import(Output(as_json=as_json, quiet=quiet), report, store)
