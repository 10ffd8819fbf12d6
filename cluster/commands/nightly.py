"""`candlecast nightly`: one night from the drop folder to the published table. Prints only.

Exit codes: 0 done, already done or running elsewhere; 2 bad input; 3 stopped by the quality gate.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

EXIT_GATE = 3


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(nightly)


def nightly(
    config: Annotated[Path, typer.Option(help="YAML file, such as configs/nightly.yaml.")],
    as_of: Annotated[
        str | None, typer.Option(help="Date to forecast from; the newest session without.")
    ] = None,
    drop: Annotated[Path | None, typer.Option(help="Folder where new bars arrive.")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder of the history.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder or URL of the forecast table.")] = None,
    reports: Annotated[Path | None, typer.Option(help="Folder for reports.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON, for monitoring.")
    ] = False,
) -> None:
    """Import new bars, check them, forecast, commit, publish, report. Safe to run blindly.

    Twice does the work once; of two at once, one works and the other reports what it did.
    """
    from rich.console import Console

    from cluster.night.job import run_nightly
    from cluster.night.settings import NightlySettings
    from cluster.settings import load_settings

    flags = {"as_of": as_of, "drop": drop, "store": store, "out": out, "reports": reports}
    settings = load_settings(config, NightlySettings, flags)
    console = Console(stderr=as_json)
    last = ""

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        titles = {
            "import": "importing new bars",
            "plan": "planning",
            "wait": "another night is at work: waiting for it",
            "forecast": f"forecasting {total:,} symbols",
            "commit": "committing",
        }
        if not as_json and stage != last:
            console.print(titles[stage], style="dim", highlight=False)
        last = stage

    night = run_nightly(settings, report)
    summary = night.summary()
    if as_json:
        print(json.dumps(summary))
    else:
        line = f"{summary['as_of']}: {night.status}"
        if night.forecast is not None:
            line += f", {summary['forecasts']:,} forecasts by run {summary['run_id']}"
        if summary["new_bars"]:
            line += f", {summary['new_bars']:,} new bars from {night.files} file(s)"
        console.print(f"{line}, {night.seconds:.1f} s", soft_wrap=True, highlight=False)
        if night.page is not None:
            console.print(f"report: {night.page}", soft_wrap=True, highlight=False)
    if night.status == "stopped":
        print(f"error: quality gate: {night.stop}", file=sys.stderr)
        raise typer.Exit(EXIT_GATE)
    if night.status == "running elsewhere" and not as_json:
        console.print(f"running elsewhere: {night.stop}", soft_wrap=True, highlight=False)
