"""`candlecast calibrate`: past dates forecast, and what they say about tonight's. Prints only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import Console

from cluster.calibration.settings import CalibrateSettings
from cluster.commands.options import add, from_settings
from cluster.commands.output import Output

if TYPE_CHECKING:
    from cluster.calibration.job import CalibrationReport


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add(app, calibrate)


@from_settings(
    "candlecast calibrate --store store --out forecasts --as-of 2024-06-28",
    "candlecast calibrate --store store --out forecasts --as-of 2024-01-05:2024-06-28:weekly "
    "--dates 120",
)
def calibrate(settings: CalibrateSettings, output: Output) -> None:
    """Forecast past dates to calibrate by, and say what should be published and why.

    'candlecast forecast --calibration on' with the same settings then uses them; so does a night.
    """
    from cluster.calibration.job import run_calibrate

    with output.console.status("forecasting past dates"):
        report = run_calibrate(settings)
    output.result(
        {
            "recipe": report.recipe,
            "hindcasts": 0 if report.hindcast is None else report.hindcast.record.n_forecasts,
            "fits": {str(a.session): fitted.as_dict() for a, fitted in report.fitted.items()},
        },
        lambda console: show(console, settings, report),
    )


def show(console: Console, settings: CalibrateSettings, report: CalibrationReport) -> None:
    """What was forecast, and per date what the past says."""

    def line(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False, highlight=False)

    if report.hindcast is None:
        line("no past date was missing")
    else:
        record = report.hindcast.record
        line(
            f"forecast {record.n_forecasts:,} windows of {len(record.dates)} past dates "
            f"({record.dates[0].as_of_date} … {record.dates[-1].as_of_date})"
        )
    for as_of, fitted in report.fitted.items():
        line(f"{as_of.session}: {fitted.status}")
    line(f"beside {settings.out}; use it with: candlecast forecast --calibration on")
