"""`candlecast forecast`: flags, progress and summary around a forecast run.

Heavy modules load inside the command.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from cluster.commands.options import add, from_settings
from cluster.commands.output import Output
from cluster.settings import ForecastSettings
from market.secrets import hidden

if TYPE_CHECKING:
    from cluster.forecasting.job import ForecastReport


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add(app, forecast)


@from_settings(
    "candlecast forecast --store store --as-of 2024-06-28 --out forecasts",
    "candlecast forecast --store store --as-of 2024-01-05:2024-06-28:weekly --out forecasts "
    "--universe top:100 --paths 64",
    "candlecast forecast --config forecast.yaml --model small --replicas 4",
)
def forecast(settings: ForecastSettings, output: Output) -> None:
    """Forecast a universe and commit the result as a table, exactly once."""
    try:
        report = run_with_progress(output.console, settings)
    except KeyboardInterrupt:
        output.line("interrupted; what was finished is kept, and the same command resumes it")
        raise
    output.result(
        report.summary() | {"table": str(settings.out)},
        lambda console: show_summary(console, settings, report),
    )


def run_with_progress(console: Console, settings: ForecastSettings) -> ForecastReport:
    """Run a forecast with a progress bar on the console."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from cluster.forecasting.job import run_forecast

    titles = {
        "plan": "planning",
        "wait": "waiting for a driver",
        "forecast": "forecasting",
        "commit": "committing dates",
    }
    with Progress(
        TextColumn("{task.description:<17}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        bars = {
            stage: progress.add_task(title, total=None, start=False, visible=False, rate="")
            for stage, title in titles.items()
        }
        begun: dict[str, int] = {}

        def report(stage: str, done: int, total: int) -> None:
            bar = bars[stage]
            if stage not in begun:
                begun[stage] = done
                progress.start_task(bar)
            task = progress.tasks[progress.task_ids.index(bar)]
            per_second = (done - begun[stage]) * settings.paths / max(task.elapsed or 0.0, 1e-9)
            rate = f"{per_second:,.0f} paths/s" if stage == "forecast" and per_second else ""
            progress.update(bar, completed=done, total=total or None, visible=True, rate=rate)

        return run_forecast(settings, report)


def show_summary(console: Console, settings: ForecastSettings, report: ForecastReport) -> None:
    """What was forecast, what was not and why, how fast, and where it is."""
    from rich.markup import escape
    from rich.table import Table

    from cluster.forecasting.reasons import kinds

    record = report.record
    n_dates = sum(each.forecast > 0 for each in record.dates)
    first, last = record.dates[0].as_of_date, record.dates[-1].as_of_date
    span = f"{first}" if first == last else f"{first} … {last}"
    summary = Table.grid(padding=(0, 2))

    def line(title: str, text: str) -> None:
        summary.add_row(f"[bold]{title}[/bold]", escape(text))

    line("run", f"{record.run_id} ({record.model}, model {record.model_id})")
    line("dates", f"{n_dates} of {len(record.dates)} ({span})")
    line("forecasts", f"{record.n_forecasts:,} (symbol and date), {settings.paths} paths each")
    for title, notes in (("skipped", record.skipped), ("failed", record.failed)):
        for kind in kinds(notes):
            line(title, str(kind))
    if record.trimmed:
        line("trimmed", f"{record.trimmed:,} lookbacks shortened to fit the model's context")
    if record.repaired_bars:
        n_bars = record.n_forecasts * settings.paths * settings.horizon
        line("repaired", f"{record.repaired_bars:,} of {n_bars:,} sampled bars")
    for text in calibration_words(record.identity.get("calibration")):
        line("published", text)
    in_sample = sum(each.in_sample for each in record.dates)
    if in_sample:
        line("IN-SAMPLE", f"{in_sample} of {len(record.dates)} dates lie in the training period")
    if record.cutoff_unknown:
        line("cut-off", "unknown: the model does not state it, so any date may be in-sample")
    for run_id in record.replaced_runs:
        line("replaced", f"rows of run {run_id}; older table versions still hold them")
    if report.already_done:
        line("speed", "already done, nothing was computed")
    else:
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in report.seconds.items())
        resumed = f", {report.resumed:,} forecasts taken over" if report.resumed else ""
        total = sum(report.seconds.values())
        line("speed", f"{report.paths_per_second:,.0f} paths/s, {total:.1f} s ({stages}){resumed}")
    tables = f"steps, path_stats{', paths' if settings.keep_paths else ''}"
    line("table", f"{hidden(str(settings.out))} ({tables})")
    console.print(summary)


def calibration_words(calibration: dict[str, Any] | None) -> list[str]:
    """Which kind of paths was published on how many dates, and the newest date's reason."""
    fits = (calibration or {}).get("fits", {})
    if not fits:
        return []
    words = Counter(
        fit["published"] if fit["calibration"] else "uncalibrated" for fit in fits.values()
    )
    counts = ", ".join(f"{kind} on {n} date(s)" for kind, n in words.most_common())
    return [counts, fits[max(fits)]["status"]]
