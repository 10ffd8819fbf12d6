"""`candlecast sweep`: many settings on one history, and what choosing among them is worth.

Computes nothing itself; heavy modules load inside the command.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

from backtest.sweep_result import SweepResult
from cluster.commands.options import add, from_settings
from cluster.commands.output import Output
from cluster.sweep_settings import SweepRequest

SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    add(app, sweep)


@from_settings(
    "candlecast sweep --config sweep.yaml --store store --forecasts forecasts",
    "candlecast sweep --store store --momentum 126 --set 'grid={k: [10, 20], lag: [1, 2]}'",
)
def sweep(request: SweepRequest, output: Output) -> None:
    """Backtest a grid of settings; say how likely the best one is luck."""
    from backtest import run_backtest, write_tear_sheet
    from backtest.report.caveats import suspected
    from backtest.report.sweep_page import write_sweep_page
    from cluster.commands.backtest import load
    from cluster.sweep import run_sweep

    with output.console.status("reading"):
        loaded = load(request)
    begun = time.monotonic()
    with _shown(output.console) as progress:
        plan, result = run_sweep(request, loaded, progress)
    seconds = time.monotonic() - begun
    request.table.parent.mkdir(parents=True, exist_ok=True)
    if request.table.suffix == ".csv":
        result.table.write_csv(request.table)
    else:
        result.table.write_parquet(request.table)
    best = plan.settings_at(result.best).model_copy(
        update={
            "trials": result.trials,
            "trials_variance": result.sharpe_variance,
            "title": f"{request.title}: the best of {result.trials:,}",
        }
    )
    caveats = suspected(loaded["bars"], loaded.get("actions"))
    page_path = write_sweep_page(
        result, plan, request.page, title=request.title, heat=request.heat,
        caveats=(*caveats, *_venue(loaded)),
    )  # fmt: skip
    sheet = write_tear_sheet(run_backtest(**loaded | {"settings": best}), request.report)
    files = {
        "table": request.table.resolve(),
        "page": page_path.resolve(),
        "tear sheet of the best": sheet.resolve(),
    }
    output.result(_summary(result) | {"files": files}, lambda console: _show(result, console))
    output.line(f"{len(plan.points):,} combinations in {seconds:.1f} s")
    for caveat in caveats:
        output.line(caveat)
    for name, path in files.items():
        output.line(f"{name}: {path}")


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, where there is a terminal; what was kept of an earlier run is told."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("sweeping", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("sweeping", total=None)
        told: list[int] = []

        def progress(done: int, total: int) -> None:
            if not told and done:
                console.print(f"{done:,} of {total:,} were done before", highlight=False)
            told.append(done)
            bar.update(task, completed=done, total=total)

        yield progress


def _venue(loaded: dict[str, Any]) -> tuple[str, ...]:
    words = loaded["provenance"].get("venue")
    return () if words is None else (f"Venue: {words}.",)


def _summary(result: SweepResult) -> dict[str, Any]:
    """The figures that `_show` prints, for programs."""
    best = result.table.row(result.best, named=True)
    return {
        "trials": result.trials,
        "identical": result.identical,
        "idle": result.idle,
        "best": best,
        "deflated_sharpe": result.deflated_sharpe,
        "probability_of_overfitting": result.overfitting.probability,
        "walk_forward_sharpe": result.walk_forward_sharpe,
    }


def _show(result: SweepResult, console: Console) -> None:
    """Print the best combinations and what choosing them is worth."""
    import polars as pl
    from rich.table import Table

    from backtest.report.words import number, percent, trials

    ranked = pl.col("sharpe").fill_nan(None)
    top = result.table.sort(ranked, descending=True, nulls_last=True).head(SHOWN)
    table = Table(title=f"best of {trials(result.trials)}, net of costs", title_justify="left")
    table.add_column("")
    for name in ("Sharpe", "return", "drawdown", "turnover"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in top.iter_rows(named=True):
        table.add_row(
            " ".join(f"{name}={row[name]}" for name in result.varied),
            number(row["sharpe"]),
            percent(row["total_return"]),
            percent(row["max_drawdown"]),
            number(row["turnover"]),
        )
    console.print(table)
    if result.identical or result.idle:
        console.print(
            f"not counted as trials: {result.identical} identical to another, {result.idle} that "
            "never traded",
            highlight=False,
        )
    console.print(
        f"deflated Sharpe of the best: {percent(result.deflated_sharpe)} (probability that its "
        f"true ratio is above 0, {trials(result.trials)})\n"
        f"probability of backtest overfitting: {percent(result.overfitting.probability)} "
        f"({result.overfitting.splits:,} splits; 50% is choosing blindly)\n"
        f"Sharpe of always trading the best so far: {number(result.walk_forward_sharpe)}",
        highlight=False,
    )
