"""`candlecast data actions|fetch|export`: splits and dividends, bars over the network, and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cluster.commands.data_views import Store, print_import
from cluster.commands.options import examples
from cluster.commands.output import AsJson, Output, Quiet, table

_MANY = 200


@examples(
    "candlecast data actions splits.csv --store store",
    "candlecast data actions --store store --suspects to-check.csv",
)
def actions(
    store: Store,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="CSV or Parquet: symbol, ex_date, split (4 or 4:1; 1 for none) and/or dividend "
            "(cash per share), announced. Without: show what is there."
        ),
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="Show only this symbol's.")] = None,
    suspects_to: Annotated[
        Path | None,
        typer.Option(
            "--suspects",
            help="Write what looks like a split to this CSV file, in the form that is recorded: "
            "check it, then give it back.",
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Record splits and dividends beside the raw bars, or show them and what looks like one.

    Readers adjust prices by what was known at their as_of; bars stay as they were traded.
    """
    from market import MarketHistory, read_actions
    from market.actions.suspects import describe, find_suspects, write_suspects

    output = Output(as_json=as_json, quiet=quiet)
    history = MarketHistory.open(store)
    recorded = 0
    if file is not None:
        rows = read_actions(file)
        recorded = rows.height
        history.record_actions(rows, str(file))
        history = MarketHistory.open(store)
        unknown = sorted(set(rows["symbol"]) - set(history.symbols()["symbol"]))
        if unknown:
            output.line(f"{len(unknown)} of the symbols have no bars here, such as {unknown[0]}")
    names = None if symbol is None else [symbol]
    known = history.actions(names)
    suspects = find_suspects(history.scan(symbols=names).collect(), known)
    if history.spec.price_basis == "adjusted":
        suspects = []
    if suspects_to is not None:
        write_suspects(suspects, suspects_to)

    def shown(console: Console) -> None:
        if file is not None:
            console.print(f"{recorded:,} corporate actions recorded; version {history.version}")
        elif known.height:
            lines = table("symbol", "ex-date", "split", "dividend", "announced",
                          numbers={"split", "dividend"})  # fmt: skip
            for name, ex_date, split, dividend, announced in known.head(_MANY).iter_rows():
                cells = (name, str(ex_date), f"{split:g}", f"{dividend:g}", str(announced or ""))
                lines.add_row(*cells)
            console.print(lines)
        else:
            console.print("No corporate actions are recorded.")
        if said := describe(suspects, limit=20):
            output.line(said)
        if suspects_to is not None:
            output.line(f"{len(suspects):,} suspected splits are in {suspects_to}")

    output.result(
        {
            "version": history.version,
            "recorded": recorded,
            "actions": known.to_dicts(),
            "suspected_splits": [str(each) for each in suspects],
        },
        shown,
    )


@examples(
    "candlecast data fetch yfinance AAPL MSFT --store store --start 2015-01-01 --venue XNYS",
    "candlecast data fetch ccxt:kraken BTC/USD --store crypto --start 2024-01-01 --freq 1h",
)
def fetch(
    source: Annotated[
        str, typer.Argument(help="yfinance, ccxt:EXCHANGE, or one an installed package offers.")
    ],
    symbols: Annotated[list[str], typer.Argument(help="As the source names them.")],
    store: Store,
    start: Annotated[str, typer.Option(help="First day, such as 2024-01-02.")],
    end: Annotated[
        str | None, typer.Option(help="Last day, inclusive. Without: up to now.")
    ] = None,
    freq: Annotated[str, typer.Option(help="Bar length: 1d, 1h, 5min, …")] = "1d",
    venue: Annotated[
        str | None, typer.Option(help="Exchange calendar. Without: what the source says.")
    ] = None,
    tz: Annotated[str | None, typer.Option(help="Time zone of the labels.")] = None,
    on_conflict: Annotated[
        str, typer.Option(help="When a bar differs from the stored one: error, keep or replace.")
    ] = "error",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fetch bars over the network and add them to a history store, checked like files."""
    from datetime import datetime

    from market import ImportOptions
    from market.errors import ConfigError
    from market.lake.appending import OnConflict
    from market.lake.asof import parse_moment
    from market.sources.protocol import Request, import_source

    days = [parse_moment(day) for day in (start, end) if day is not None]
    if any(isinstance(day, datetime) for day in days):
        raise ConfigError("--start and --end name days, such as 2024-03-11")
    if on_conflict not in list(OnConflict):
        raise ConfigError(f"--on-conflict {on_conflict}: must be error, keep or replace")
    request = Request(tuple(symbols), days[0], days[1] if end is not None else None, freq)
    options = ImportOptions(venue=venue, tz=tz)
    report = import_source(source, request, store, options, on_conflict=on_conflict)
    print_import(Output(as_json=as_json, quiet=quiet), report, store)


@examples("candlecast data export --store store --qlib qlib_folder")
def export(
    store: Store,
    qlib: Annotated[Path, typer.Option(help="New folder, in Qlib's binary format.")],
    version: Annotated[str | None, typer.Option(help="An older version of the store.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a store of daily bars as a folder that Qlib reads."""
    from market import MarketHistory
    from market.errors import ConfigError
    from market.importing.qlib_folder import write_qlib

    history = MarketHistory.open(store, version=version)
    if not history.spec.daily:
        raise ConfigError(f"{store} holds {history.spec.freq} bars; daily ones can be exported")
    bars = history.scan().collect()
    write_qlib(bars, history.actions(), qlib)
    Output(as_json=as_json, quiet=quiet).result(
        {"bars": bars.height, "folder": str(qlib)}, f"{bars.height:,} bars written to {qlib}"
    )
