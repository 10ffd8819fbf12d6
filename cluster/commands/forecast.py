"""`candlecast forecast`: flags, progress and summary around a forecast run.

Heavy modules load inside the command.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from cluster.forecasting.job import ForecastReport
    from cluster.settings import ForecastSettings
    from market.table.schema import SymbolNote


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(forecast)


def forecast(
    store: Annotated[
        Path | None, typer.Option(help="Folder of the history, made by 'candlecast data import'.")
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            help="Date to forecast from (its close is known), or FROM:TO:STEP with STEP daily, "
            "weekly, monthly or a number of sessions."
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder or URL of the forecast table; made when missing.")
    ] = None,
    universe: Annotated[
        str | None,
        typer.Option(
            help="all, AAPL,MSFT, top:100 (by traded amount), or a file of members. [all]"
        ),
    ] = None,
    lookback: Annotated[int | None, typer.Option(help="Bars the model sees (default 256).")] = None,
    horizon: Annotated[int | None, typer.Option(help="Bars it forecasts (default 20).")] = None,
    paths: Annotated[
        int | None, typer.Option(help="Sampled futures per symbol and date (default 16).")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="nano (default), mini, small, base, random-walk, bootstrap, or a folder or hub id."
        ),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Tokenizer folder or hub id, where the alias has none.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Divides the logits (1).")] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Keep the k likeliest; 0 (default) keeps all.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Keep the likeliest up to this probability (default 1: all)."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="float32 (default), or bfloat16: faster where the processor has it."),
    ] = None,
    overflow: Annotated[
        str | None,
        typer.Option(
            help="Lookback + horizon beyond the model's context: trim (default) or recompute."
        ),
    ] = None,
    memory_mb: Annotated[
        int | None, typer.Option(help="Most memory for a replica's sampling caches, in MiB.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Keys all sampling noise (default 0).")] = None,
    repair: Annotated[
        bool | None,
        typer.Option("--repair/--no-repair", help="Repair impossible sampled bars (default yes)."),
    ] = None,
    max_gap_sessions: Annotated[
        int | None,
        typer.Option(help="Sessions that may miss in a row (default 5)."),
    ] = None,
    keep_paths: Annotated[
        bool | None, typer.Option("--keep-paths", help="Also keep every sampled bar.")
    ] = None,
    replicas: Annotated[
        str | None,
        typer.Option(help="Model copies at work: auto (one per core), a number, or min:max."),
    ] = None,
    gpus_per_replica: Annotated[
        float | None, typer.Option(help="Share of a GPU per replica, e.g. 0.5 (default 0: CPU).")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Join this Ray cluster instead of starting a local one.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Import bars from this database first: duckdb:///file.db.")
    ] = None,
    query: Annotated[str | None, typer.Option(help="SQL that selects those bars.")] = None,
    store_version: Annotated[
        str | None, typer.Option(help="Version of the store; repeats an older night exactly.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of settings; flags win over it.")
    ] = None,
) -> None:
    """Forecast a universe and commit the result as a table, exactly once."""
    from rich.console import Console

    from cluster.settings import ForecastSettings, load_settings

    flags = {
        "store": store,
        "as_of": as_of,
        "out": out,
        "universe": universe,
        "lookback": lookback,
        "horizon": horizon,
        "paths": paths,
        "model": model,
        "tokenizer": tokenizer,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "precision": precision,
        "overflow": overflow,
        "memory_mb": memory_mb,
        "seed": seed,
        "repair": repair,
        "max_gap_sessions": max_gap_sessions,
        "keep_paths": keep_paths,
        "replicas": replicas,
        "gpus_per_replica": gpus_per_replica,
        "source": source,
        "query": query,
        "store_version": store_version,
        "address": address,
    }
    settings = load_settings(config, ForecastSettings, flags)
    console = Console()
    try:
        report = run_with_progress(console, settings)
    except KeyboardInterrupt:
        console.print("interrupted; what was finished is kept, and the same command resumes it")
        raise
    show_summary(console, settings, report)


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
        for text in _by_kind(notes):
            line(title, text)
    if record.trimmed:
        line("trimmed", f"{record.trimmed:,} lookbacks shortened to fit the model's context")
    if record.repaired_bars:
        n_bars = record.n_forecasts * settings.paths * settings.horizon
        line("repaired", f"{record.repaired_bars:,} of {n_bars:,} sampled bars")
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
    line("table", f"{settings.out} (steps, path_stats{', paths' if settings.keep_paths else ''})")
    console.print(summary)


def _by_kind(notes: Sequence[SymbolNote]) -> list[str]:
    """Counts per kind of reason, the text before its colon, each with one example."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for note in notes:
        kind, _, detail = note.reason.partition(":")
        counts[kind] += len(note.symbols)
        examples.setdefault(kind, f"{note.symbols[0]}: {detail.strip()}")
    return [f"{n:,} {kind} (e.g. {examples[kind]})" for kind, n in counts.most_common()]
