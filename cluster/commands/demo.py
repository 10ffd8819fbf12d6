"""`candlecast demo`: the whole product on a simulated market. Calls what the other commands call.

Heavy modules load inside the command.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import add, examples
from cluster.commands.output import AsJson, Output, Quiet
from market.lake.history import MarketHistory

SEED = 7
"""Of the demo's market; candlecast-nano never trained on it."""
START = date(2015, 1, 2)
"""Puts the forecast dates in 2017, after nano's training bars end."""
N_DATES = 26
LOOKBACK, HORIZON, PATHS = 256, 20, 16


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add(app, demo)


@examples("candlecast demo", "candlecast demo --out /tmp/demo --symbols 200")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path(
        "candlecast-demo"
    ),
    model: Annotated[str, typer.Option(help="Model to forecast with.")] = "nano",
    symbols: Annotated[int, typer.Option(min=10, help="Simulated symbols.")] = 60,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Simulate a market, import it, forecast half a year of it, backtest, draw the sheet.

    Needs no data, no network and no GPU. Running it again redoes nothing that is already there.
    """
    import time

    from backtest import write_tear_sheet
    from backtest.settings import BacktestRequest
    from backtest.weights.settings import StrategySettings
    from cluster.commands import backtest as backtest_command
    from cluster.commands.forecast import run_with_progress, show_summary
    from cluster.settings import ForecastSettings

    begun = time.monotonic()
    output = Output(as_json=as_json, quiet=quiet)
    console = output.console
    console.rule("1/3  simulate a market and import it", align="left")
    history = _simulated(out, symbols, output)

    console.rule("2/3  forecast", align="left")
    dates = _forecast_dates(history)
    settings = ForecastSettings(
        store=out / "store",
        out=out / "forecasts",
        as_of=f"{dates[0]}:{dates[-1]}:weekly",
        model=model,
        lookback=LOOKBACK,
        horizon=HORIZON,
        paths=PATHS,
    )
    report = run_with_progress(console, settings)
    show_summary(console, settings, report)

    console.rule("3/3  backtest", align="left")
    request = BacktestRequest(
        store=out / "store",
        forecasts=out / "forecasts",
        model_id=model,
        report=out / "tearsheet.html",
        strategy=StrategySettings(k=10),
        title="candlecast demo: a simulated market, volatile by turns, without direction",
    )
    with console.status("backtesting (the first run on a machine compiles for some 20 s)"):
        result = backtest_command.run(request)
        path = write_tear_sheet(result, request.report)
    backtest_command.show(result, console)
    console_command = [
        *(_own_name(), "serve", "--store", str(out / "store")),
        *("--forecasts", str(out / "forecasts"), "--reports", str(out)),
    ]
    output.result(
        {
            "forecast": report.summary(),
            "backtest": result.summary(),
            "report": str(path.resolve()),
            "console": shlex.join(console_command),
            "seconds": round(time.monotonic() - begun, 1),
        },
        "The simulated market has no direction to predict: a fair test finds a rank IC near 0.\n"
        "Its volatility can be: wider intervals on the page are followed by larger moves.\n"
        f"tear sheet: {path.resolve()}\n"
        f"done in {time.monotonic() - begun:.0f} s\n"
        f"look around in it: {shlex.join(console_command)}",
    )


def _own_name() -> str:
    """The program as a shell finds it: by name where that leads to this one, or by its path."""
    found = shutil.which("candlecast")
    this = Path(sys.argv[0])
    same = found is not None and this.exists() and Path(found).samefile(this)
    return "candlecast" if same or this.stem != "candlecast" else str(this)


def _simulated(out: Path, symbols: int, output: Output) -> MarketHistory:
    """The simulated bars as a file a user could have brought, and the store made from it."""
    from market.importing.files import ImportOptions, import_files
    from market.lake.history import MarketHistory
    from market.spec import Label
    from market.synthetic import SimulatorParams, simulate_market

    bars = simulate_market(SimulatorParams(seed=SEED, n_symbols=symbols, start=START))
    source = out / "bars.csv"
    out.mkdir(parents=True, exist_ok=True)
    bars.write_csv(source, datetime_format="%Y-%m-%d")
    options = ImportOptions(venue="XNYS", freq="1d", label=Label.SESSION)
    import_files([str(source)], out / "store", options, on_conflict="replace")
    history = MarketHistory.open(out / "store")
    sessions = history.sessions()
    output.line(
        f"{source}: {bars.height:,} bars of {symbols} symbols, {sessions[0]} … {sessions[-1]}; "
        f"store version {history.version}"
    )
    return history


def _forecast_dates(history: MarketHistory) -> list[date]:
    """The last weeks whose whole horizon has already happened, so that every forecast is judged."""
    sessions = history.sessions()
    last_judged = sessions[-1 - HORIZON]
    weeks = history.resolve_as_of_range(f"{sessions[0]}:{last_judged}:weekly")
    return [as_of.session for as_of in weeks[-N_DATES:]]
