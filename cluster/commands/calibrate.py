"""`candlecast calibrate`: past dates forecast, and what they say about tonight's. Prints only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from cluster.calibration.job import CalibrationReport
    from cluster.calibration.settings import CalibrateSettings


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(calibrate)


def calibrate(
    store: Annotated[Path | None, typer.Option(help="Folder of the history.")] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder or URL of the forecast table to calibrate.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(help="Date, or range, that is to be forecast afterwards.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="As for 'candlecast forecast'.")] = None,
    lookback: Annotated[int | None, typer.Option(help="Bars the model sees.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Bars it forecasts.")] = None,
    paths: Annotated[int | None, typer.Option(help="Sampled futures per symbol and date.")] = None,
    dates: Annotated[int | None, typer.Option(help="Past dates to forecast (90).")] = None,
    stride: Annotated[
        str | None, typer.Option(help="Sessions between them: auto (up to 5) or a number.")
    ] = None,
    calibration_symbols: Annotated[
        int | None, typer.Option(help="Symbols drawn per past date (32).")
    ] = None,
    replicas: Annotated[
        str | None, typer.Option(help="Model copies at work: auto, a number, or min:max.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML of settings, those of 'candlecast forecast' too; flags win."),
    ] = None,
) -> None:
    """Forecast past dates to calibrate by, and say what should be published and why.

    'candlecast forecast --calibration on' with the same settings then uses them; so does a night.
    """
    from rich.console import Console

    from cluster.calibration.job import run_calibrate
    from cluster.calibration.settings import CalibrateSettings
    from cluster.settings import load_settings

    flags = {
        "store": store, "out": out, "as_of": as_of, "model": model, "lookback": lookback,
        "horizon": horizon, "paths": paths, "dates": dates, "stride": stride,
        "calibration_symbols": calibration_symbols, "replicas": replicas,
    }  # fmt: skip
    settings = load_settings(config, CalibrateSettings, flags)
    console = Console()
    with console.status("forecasting past dates"):
        report = run_calibrate(settings)
    show(console, settings, report)


def show(console: Console, settings: CalibrateSettings, report: CalibrationReport) -> None:
    """What was forecast, and per date what the past says."""
    from rich.markup import escape

    if report.hindcast is None:
        console.print("no past date was missing", highlight=False)
    else:
        record = report.hindcast.record
        console.print(
            f"forecast {record.n_forecasts:,} windows of {len(record.dates)} past dates "
            f"({record.dates[0].as_of_date} … {record.dates[-1].as_of_date})",
            highlight=False,
        )
    for as_of, fitted in report.fitted.items():
        console.print(f"{as_of.session}: {escape(fitted.status)}", soft_wrap=True, highlight=False)
    console.print(
        f"beside {settings.out}; use it with: candlecast forecast --calibration on", highlight=False
    )
