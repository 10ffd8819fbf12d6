"""`candlecast data ls|show|quarantine`: a look at what a history store holds. Prints only."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from cluster.commands.options import examples
from cluster.commands.output import AsJson, Output, Quiet, table
from market import ImportReport, MarketHistory
from market.fields import FEATURES

Store = Annotated[str, typer.Option("--store", help="Folder or URL of the history store.")]

_MANY = 20
"""A store with more symbols than this is summarised."""


@examples("candlecast data ls --store store", "candlecast data ls --store store --json")
def ls(
    store: Store,
    version: Annotated[str | None, typer.Option(help="An older version of the store.")] = None,
    all_symbols: Annotated[
        bool, typer.Option("--all", help="List every symbol, however many.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show what a history store holds."""
    from market import MarketHistory

    history = MarketHistory.open(store, version=version)
    symbols = history.symbols()
    listed = symbols if all_symbols or as_json else symbols.head(_MANY)
    output = Output(as_json=as_json, quiet=quiet)

    def shown(console: Console) -> None:
        print_store(output, history, symbols, store)
        rows = table("symbol", "bars", "first session", "last session", numbers={"bars"})
        for name, bars, first, last in listed.iter_rows():
            rows.add_row(name, f"{bars:,}", str(first), str(last))
        console.print(rows)
        if listed.height < symbols.height:
            console.print(f"… and {symbols.height - listed.height:,} more; --all lists them.")

    output.result(
        contents(history, symbols, store) | {"list": listed.to_dicts()},
        shown,
    )


@examples("candlecast data show AAPL --store store --tail 5")
def show(
    symbol: Annotated[str, typer.Argument(help="The symbol.")],
    store: Store,
    tail: Annotated[int, typer.Option(min=1, help="How many of the last bars.")] = 10,
    version: Annotated[str | None, typer.Option(help="An older version of the store.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
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
    rows = table(*columns, numbers=set(numbers))
    for row in shown.iter_rows(named=True):
        prices = [f"{row[name]:,.10g}" for name in numbers[:4]]
        sizes = [f"{row[name]:,.0f}" if row[name] >= 1e4 else f"{row[name]:.6g}"
                 for name in numbers[4:]]  # fmt: skip
        cells = [when(row["timestamp"], history), *prices, *sizes, _note(row["flags"])]
        rows.add_row(*cells[: len(columns)])

    def told(console: Console) -> None:
        console.print(
            f"{symbol}: {bars.height:,} bars, {history.spec}", highlight=False, markup=False
        )
        console.print(rows)
        if len(notes) == 1 and notes != {""}:
            console.print(f"These bars: {notes.pop()}.")

    Output(as_json=as_json, quiet=quiet).result(
        {"symbol": symbol, "bars": bars.height, "last": shown.to_dicts()}, told
    )


@examples("candlecast data quarantine --store store --symbol AAPL")
def quarantine(
    store: Store,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol's rows.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many rows to show.")] = 40,
    version: Annotated[str | None, typer.Option(help="An older version of the store.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show the rows that broke a rule, and which."""
    from market import MarketHistory

    history = MarketHistory.open(store, version=version)
    rows = history.quarantine(symbol)
    whose = f" for {symbol}" if symbol else ""
    counts = dict(rows["rule"].value_counts(sort=True).iter_rows())
    listed = rows.head(limit)

    def shown(console: Console) -> None:
        if not rows.height:
            console.print(f"The quarantine holds nothing{whose}.", markup=False)
            return
        console.print(f"{rows.height:,} rows in quarantine{whose}", markup=False)
        console.print(rule_table(counts))
        sources = [Path(source).name for source in listed["source"].unique()]
        headings = ["symbol", "time", "rule", "what is wrong", "row", "file"]
        if len(sources) == 1:
            headings.pop()
            console.print(f"rows are those of {sources[0]}", markup=False)
        lines = table(*headings, numbers={"row"})
        for row in listed.iter_rows(named=True):
            cells = [
                *(row["symbol"] or "", when(row["timestamp"], history), row["rule"]),
                *(row["detail"], str(row["row"]), Path(row["source"]).name),
            ]
            lines.add_row(*cells[: len(headings)])
        console.print(lines)
        if rows.height > limit:
            console.print(f"… and {rows.height - limit:,} more; --limit or --symbol shows others.")

    Output(as_json=as_json, quiet=quiet).result(
        {"rows": rows.height, "rules": counts, "shown": listed.to_dicts()}, shown
    )


def print_import(output: Output, report: ImportReport, store: str) -> None:
    """What an import did, for people or programs."""
    from market import MarketHistory

    history = MarketHistory.open(store)
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


def _print_report(output: Output, report: ImportReport, history: MarketHistory, store: str) -> None:
    console = output.console
    for note in report.notes:
        console.print(f"· {note}", highlight=False, soft_wrap=True, markup=False)
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
        console.print(
            f"See them with: candlecast data quarantine --store {store}",
            soft_wrap=True,
            markup=False,
        )
    if report.known_quarantine:
        console.print(f"{report.known_quarantine:,} bad rows were in quarantine already.")
    symbols = history.symbols()
    print_store(output, history, symbols, store)


def contents(history: MarketHistory, symbols: pl.DataFrame, store: str) -> dict[str, Any]:
    """What `print_store` says, for programs."""
    return {
        "store": str(store),
        "version": history.version,
        "symbols": symbols.height,
        "bars": int(symbols["n_bars"].sum()),
        "first_session": symbols["first_session"].min(),
        "last_session": symbols["last_session"].max(),
    }


def print_store(output: Output, history: MarketHistory, symbols: pl.DataFrame, store: str) -> None:
    span = (
        f"{symbols['first_session'].min()!s} to {symbols['last_session'].max()!s}"
        if symbols.height
        else "no sessions"
    )
    noun = "symbol" if symbols.height == 1 else "symbols"
    console = output.console
    console.print(
        f"{store}: {symbols.height:,} {noun}, {symbols['n_bars'].sum():,} bars, {span}",
        soft_wrap=True,
        markup=False,
    )
    console.print(
        f"{history.spec}; version {history.version}", style="dim", highlight=False, soft_wrap=True
    )


def rule_table(counts: dict[str, int]) -> Table:
    rows = table("rule broken", "rows in quarantine", numbers={"rows in quarantine"})
    for rule, count in counts.items():
        rows.add_row(rule, f"{count:,}")
    return rows


def when(label: datetime | None, history: MarketHistory) -> str:
    if label is None:
        return ""
    return f"{label:%Y-%m-%d}" if history.spec.daily else f"{label:%Y-%m-%d %H:%M}"


def _note(flags: int) -> str:
    from market import Flag

    notes = {
        Flag.VOLUME_MISSING: "no volume",
        Flag.AMOUNT_MISSING: "amount estimated",
        Flag.ROUNDED: "high or low widened",
    }
    return ", ".join(text for flag, text in notes.items() if flags & flag)


def _unknown_symbol(history: MarketHistory, symbol: str, store: str) -> str:
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
