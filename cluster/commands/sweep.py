"""`candlecast sweep`: many settings on one history, and what choosing among them is worth.

Computes nothing itself; heavy modules load inside the command.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.commands.options import Forecasts, Momentum, Scores, Store

if TYPE_CHECKING:
    from rich.console import Console

    from backtest.sweep import SweepResult

SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("sweep")(sweep)


def sweep(
    config: Annotated[
        Path | None, typer.Option(help="YAML file with the grid; see configs/sweep.yaml.")
    ] = None,
    store: Store = None,
    forecasts: Forecasts = None,
    scores: Scores = None,
    momentum: Momentum = None,
    samples: Annotated[
        int | None, typer.Option(help="Random combinations to try. Default: all.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to run on.")] = None,
    page: Annotated[Path | None, typer.Option(help="Page to write. Default sweep.html.")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Parquet or CSV of all figures. Default sweep.parquet.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Tear sheet of the best. Default tearsheet.html.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other key of configs/sweep.yaml, as key=value."),
    ] = None,
) -> None:
    """Backtest a grid of settings; say how likely the best one is luck."""
    given: dict[str, Any] = {
        name: value for name, value in locals().items() if name not in ("config", "option")
    }
    import time

    from rich.console import Console

    from backtest import run_backtest, write_tear_sheet
    from backtest.report.sweep_page import write_sweep_page
    from cluster.commands.backtest import load, pairs
    from cluster.settings import load_settings
    from cluster.sweep import SweepRequest, run_sweep

    console = Console()
    request = load_settings(config, SweepRequest, given | pairs(option or []))
    with console.status("reading"):
        loaded = load(request)
    begun = time.monotonic()
    with console.status("sweeping (the first run on a machine compiles for some 20 s)"):
        plan, result = run_sweep(request, loaded)
    seconds = time.monotonic() - begun
    request.table.parent.mkdir(parents=True, exist_ok=True)
    if request.table.suffix == ".csv":
        result.table.write_csv(request.table)
    else:
        result.table.write_parquet(request.table)
    best = plan.settings[result.best].model_copy(
        update={
            "trials": result.trials,
            "trials_variance": result.sharpe_variance,
            "title": f"{request.title}: the best of {result.trials:,}",
        }
    )
    page_path = write_sweep_page(result, plan, request.page, title=request.title, heat=request.heat)
    sheet = write_tear_sheet(run_backtest(**loaded | {"settings": best}), request.report)
    _show(result, console)
    console.print(
        f"{len(plan.points):,} combinations in {seconds:.1f} s\ntable: {request.table.resolve()}\n"
        f"page: {page_path.resolve()}\ntear sheet of the best: {sheet.resolve()}",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


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
    console.print(
        f"deflated Sharpe of the best: {percent(result.deflated_sharpe)} (probability that its "
        f"true ratio is above 0, {trials(result.trials)})\n"
        f"probability of backtest overfitting: {percent(result.overfitting.probability)} "
        f"({result.overfitting.splits:,} splits; 50% is choosing blindly)\n"
        f"Sharpe of always trading the best so far: {number(result.walk_forward_sharpe)}",
        highlight=False,
    )
