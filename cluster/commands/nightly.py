"""`candlecast nightly`: one night from the drop folder to the published table. Prints only."""

from __future__ import annotations

import sys

import typer

from cluster.commands.options import add, from_settings
from cluster.commands.output import Output
from cluster.exit_codes import ExitCode
from cluster.night.settings import NightlySettings


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add(app, nightly)


@from_settings(
    "candlecast nightly --config nightly.yaml",
    "candlecast nightly --config nightly.yaml --as-of 2024-06-28 --json",
    "candlecast nightly --config nightly.yaml --set forecast.paths=64 --set gate.min_symbols=400",
    config=True,
)
def nightly(settings: NightlySettings, output: Output) -> None:
    """Import new bars, check them, forecast, commit, publish, report. Safe to repeat.

    Twice does the work once; of two at once, one works and the other reports what it did.
    """
    from cluster.night.job import run_nightly

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
        if stage != last:
            output.line(titles[stage], style="dim")
        last = stage

    night = run_nightly(settings, report)
    summary = night.summary()
    line = f"{summary['as_of']}: {night.status}"
    if night.forecast is not None:
        line += f", {summary['forecasts']:,} forecasts by run {summary['run_id']}"
    if summary["new_bars"]:
        line += f", {summary['new_bars']:,} new bars from {night.files} file(s)"
    output.result(summary, f"{line}, {night.seconds:.1f} s")
    if night.unread:
        output.line(f"not read, no kind of file that holds bars: {', '.join(night.unread)}")
    if night.page is not None:
        output.line(f"report: {night.page}")
    if night.status == "stopped":
        print(f"error: quality gate: {night.stop}", file=sys.stderr)
        raise typer.Exit(ExitCode.GATE)
    if night.status == "running elsewhere":
        output.line(f"running elsewhere: {night.stop}")
