"""`candlecast evaluate`: how good the forecasts of a table were. Prints and writes only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from cluster.commands.options import add, from_settings
from cluster.commands.output import Output
from cluster.evaluation.settings import EvaluateSettings

if TYPE_CHECKING:
    from cluster.evaluation.job import EvaluationReport


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add(app, evaluate)


@from_settings(
    "candlecast evaluate --store store --forecasts forecasts --report evaluation",
    "candlecast evaluate --store store --forecasts forecasts --models nano --baselines fhs,ewma",
)
def evaluate(settings: EvaluateSettings, output: Output) -> None:
    """Score forecasts by what happened, beside baselines, and say how sure that is."""
    from cluster.evaluation.job import as_json, run_evaluate

    with output.console.status("scoring"):
        made = run_evaluate(settings)
    found = as_json(settings, made)
    output.result(found, lambda console: show(console, made))
    if settings.report is None:
        return
    from cluster.evaluation.page import write_evaluation_page

    page = write_evaluation_page(made, settings.report / "evaluation.html", title="Evaluation")
    content = json.dumps(found, indent=1, default=str)
    (settings.report / "evaluation.json").write_text(content, encoding="utf-8")
    for name in ("steps", "models", "against", "parts"):
        getattr(made.evaluation, name).write_parquet(settings.report / f"{name}.parquet")
    output.line(f"report: {page}")


def show(console: Console, report: EvaluationReport) -> None:
    """Models over all steps, and what to know about the figures."""
    from rich.table import Table

    made = report.evaluation
    table = Table(box=None, pad_edge=False)
    for title in ("model", "CRPS", f"ratio to {made.best_baseline}", "t, last step",
                  "80% covers, step 1", "last step"):  # fmt: skip
        table.add_column(title, justify="left" if title == "model" else "right")
    last = report.horizon
    at = {(row["model"], row["step"]): row for row in made.steps.to_dicts()}
    t_of = {
        row["model"]: row["t"]
        for row in made.against.to_dicts()
        if row["baseline"] == made.best_baseline and row["step"] == last
    }
    for row in made.models.sort("crps").to_dicts():
        name = row["model"]
        cover = [f"{at[name, s]['coverage_80']:.1%}" if (name, s) in at else "" for s in (1, last)]
        t = f"{t_of[name]:+.1f}" if name in t_of else ""
        table.add_row(name + (" *" if row["baseline"] else ""), f"{row['crps']:.4f}",
                      f"{row['crps_ratio']:.3f}", t, *cover)  # fmt: skip
    console.print(
        f"{made.windows:,} windows on {made.dates} dates, {report.first} to {report.last}; "
        f"* baseline; CRPS in volatilities, plus t is worse, {made.comparisons:,} comparisons",
        highlight=False,
    )
    console.print(table)
    if report.in_sample:
        what = "judged; they prove nothing" if report.judged_in_sample else "left out"
        console.print(f"IN-SAMPLE: {report.in_sample:,} windows of a training period {what}")
    if report.missing or report.other_close:
        console.print(
            f"left out: {report.missing:,} windows without outcome, {report.other_close:,} from "
            "another close than the store's",
            highlight=False,
        )
    for note in report.notes:
        console.print(note, highlight=False)
