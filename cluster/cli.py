"""The command line's front door: knows which commands exist and how errors leave the program.

Imports nothing heavy: torch, ray, polars, duckdb and vectorbt load inside the command that needs
them, so that `candlecast --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from market.errors import CandlecastError

EXIT_BAD_INPUT = 2

COMMANDS = (
    "data",
    "train",
    "forecast",
    "calibrate",
    "evaluate",
    "nightly",
    "runs",
    "backtest",
    "sweep",
    "demo",
)
"""Modules of cluster.commands."""

app = typer.Typer(
    name="candlecast",
    help="Probabilistic candle forecasts for large market universes, and honest backtests.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"candlecast {version('candlecast')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options that every command shares."""


for _name in COMMANDS:
    import_module(f"cluster.commands.{_name}").register(app)


def main() -> None:
    """Run the command line: bad input is one line on stderr and exit code 2, never a traceback."""
    try:
        app()
    except CandlecastError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}")


def _fail(message: str) -> NoReturn:
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    prefix = "\x1b[1;31merror:\x1b[0m" if colour else "error:"
    print(prefix, " ".join(message.split()), file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)
