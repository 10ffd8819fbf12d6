"""The command line's front door: knows which commands exist and how errors leave the program.

Imports nothing heavy, and a command's module only when that command is called, so that
`candlecast --help` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from cluster.exit_codes import ExitCode
from market.errors import CandlecastError
from market.secrets import hidden

_LONGEST = 600
"""Characters of a message."""

COMMANDS = {
    "init": "Write a starter folder: commented settings of every command, and where things go.",
    "demo": "Simulate a market, import it, forecast half a year of it, backtest, draw the sheet.",
    "data": "Import bars into a history store, and look at them.",
    "store": "Bring a history store of an older format to this one; tidy one.",
    "forecast": "Forecast a universe and commit the result as a table, exactly once.",
    "calibrate": "Forecast past dates to calibrate by, and say what should be published and why.",
    "evaluate": "Score forecasts by what happened, beside baselines, and say how sure that is.",
    "audit": "Poison every bar after a moment; what was known by then must not change in one bit.",
    "backtest": "Trade forecasts, own scores or momentum after costs, and write the tear sheet.",
    "sweep": "Backtest a grid of settings; say how likely the best one is luck.",
    "train": "Train a tokenizer and a predictor on its tokens, or a Time-LLM. Repeat to resume.",
    "nightly": "Import new bars, check them, forecast, commit, publish, report. Safe to repeat.",
    "runs": "Look at runs of a forecast table, and tidy it.",
    "serve": "Serve the console: nights, symbols, runs, backtests, data, and forecasts on demand.",
}
"""Modules of cluster.commands, and what their commands do in a line."""


class _LazyGroup(TyperGroup):
    """Knows its commands by name, and loads the one that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name in COMMANDS:
            made = typer.Typer()
            made.callback()(lambda: None)
            import_module(f"cluster.commands.{name}").register(made)
            self.commands[name] = typer.main.get_group(made).commands[name]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="candlecast",
    cls=_LazyGroup,
    help="Probabilistic candle forecasts for large market universes, and honest backtests.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _name, _line in COMMANDS.items():
    app.command(_name, help=_line)(lambda: None)


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


def main() -> None:
    """Run the command line: bad input is one line on stderr and exit code 2, never a traceback.

    SIGTERM ends a command as Ctrl-C does, cleaning up, with a message and an exit code of its own,
    whatever the interrupted code makes of it.
    """
    terminated = False

    def terminate(*_: object) -> None:
        nonlocal terminated
        terminated = True
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: cleaning up must not be disturbed
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        app()
    except (Exception, SystemExit) as error:
        if terminated or (isinstance(error, SystemExit) and error.code == ExitCode.INTERRUPTED):
            print("stopped by", "SIGTERM" if terminated else "Ctrl-C", file=sys.stderr)
            sys.exit(ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED)
        if isinstance(error, CandlecastError):
            _fail(str(error))
        if isinstance(error, OSError) and error.filename is not None:
            _fail(f"{error.filename}: {error.strerror}")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(message: str) -> NoReturn:
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    prefix = "\x1b[1;31merror:\x1b[0m" if colour else "error:"
    line = hidden(" ".join(message.split()))
    if len(line) > _LONGEST:  # somebody's megabytes stand in the middle: say the ends
        line = f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"
    print(prefix, line, file=sys.stderr)
    sys.exit(ExitCode.BAD_INPUT)
