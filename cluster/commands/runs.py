"""`candlecast runs`: what was forecast, when, by which run; and tidying up. Prints only."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console

from cluster.commands.options import add, examples
from cluster.commands.output import AsJson, Output, Quiet, facts, table
from cluster.forecasting.comparison import compare_runs, find_run
from market.secrets import hidden
from market.table.forecasts import ForecastTable
from market.table.schema import RunRecord

Out = Annotated[str, typer.Option("--out", help="Folder or URL of the forecast table.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its first digits.")]

_MANY = 20


def register(app: typer.Typer) -> None:
    """Add `runs` and its commands to the command line."""
    runs = typer.Typer(help="Look at runs of a forecast table, and tidy it.", no_args_is_help=True)
    for command in (ls, show, diff, vacuum):
        add(runs, command)
    app.add_typer(runs, name="runs")


@examples("candlecast runs ls --out forecasts", "candlecast runs ls --out forecasts --json")
def ls(out: Out, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the runs of a table, and which one each `latest` points to."""
    from market.leases import live_leases
    from market.table.vacuum import lease_name

    output = Output(as_json=as_json, quiet=quiet)
    forecasts = ForecastTable(out)
    working = live_leases(forecasts.leases)
    newest = {each.run_id for each in forecasts.published()}

    def status(record: RunRecord) -> str:
        if record.status == "running":
            return "at work" if lease_name(record.run_id) in working else "interrupted"
        return "latest" if record.run_id in newest else "finished"

    runs = [
        {
            "run_id": record.run_id,
            "model": record.model,
            "venue": record.history["venue"] or "unknown",
            "freq": record.history["freq"],
            "dates": _span(record),
            "forecasts": record.n_forecasts,
            "status": status(record),
            "started_at": f"{record.started_at:%Y-%m-%d %H:%M}",
        }
        for record in forecasts.runs()
    ]
    shown = table(
        "run", "model", "venue, freq", "dates", "forecasts", "status", "started (UTC)",
        numbers=("run", "forecasts"),
    )  # fmt: skip
    shown.columns[0].justify = "left"
    for run in runs:
        cells = [run["run_id"], run["model"], f"{run['venue']}, {run['freq']}", run["dates"],
                 f"{run['forecasts']:,}", run["status"], run["started_at"]]  # fmt: skip
        shown.add_row(*map(str, cells))
    nothing = f"{out}: no runs yet; make one with 'candlecast forecast … --out {out}'"
    output.result({"runs": runs}, (lambda c: c.print(shown)) if runs else nothing)


@examples("candlecast runs show 3f2a --out forecasts")
def show(run: RunId, out: Out, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Show one run: what was asked, what was left out and why, and where its rows are."""
    output = Output(as_json=as_json, quiet=quiet)
    forecasts = ForecastTable(out)
    record = find_run(forecasts, run)
    plan = forecasts.plan(record.run_id)
    told = facts()
    told.add_row("run", f"{record.run_id} ({record.status})")
    told.add_row("model", f"{record.model}, {record.model_id}")
    told.add_row(
        "history", ", ".join(f"{key} {value}" for key, value in record.history.items() if value)
    )
    asked = {k: v for k, v in record.settings.items() if k not in ("store", "out")}
    settings = ", ".join(f"{k}={v}" for k, v in asked.items() if v is not None)
    told.add_row("settings", hidden(settings))
    told.add_row("versions", ", ".join(f"{k} {v}" for k, v in record.versions.items()))
    if plan is not None:
        eligible = plan.filter(plan["reason"].is_null())
        told.add_row(
            "plan",
            f"{eligible.height:,} forecasts in {eligible['shard'].n_unique():,} shards, "
            f"{plan.height - eligible.height:,} excluded",
        )
    numbers = ("eligible", "forecast", "steps version")
    dates = table("as_of (UTC)", *numbers, "", numbers=numbers)
    for each in record.dates[-_MANY:]:
        dates.add_row(
            f"{each.as_of:%Y-%m-%d %H:%M}",
            f"{each.eligible:,}",
            f"{each.forecast:,}",
            str(each.versions.get("steps", "")),
            "IN-SAMPLE" if each.in_sample else "",
        )

    def shown(console: Console) -> None:
        console.print(told)
        console.print(dates)
        if len(record.dates) > _MANY:
            console.print(f"… and {len(record.dates) - _MANY} earlier dates")
        for title, notes in (("excluded", record.skipped), ("failed", record.failed)):
            for note in notes[:_MANY]:
                names = ", ".join(note.symbols[:5]) + (" …" if len(note.symbols) > 5 else "")
                output.line(f"{title} {note.as_of:%Y-%m-%d}: {names}: {note.reason}")

    output.result(record.model_dump(mode="json"), shown)


@examples("candlecast runs diff 3f2a 91bc --out forecasts")
def diff(
    first: RunId,
    second: Annotated[str, typer.Argument(metavar="OTHER")],
    out: Out,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare two runs: what was asked differently, and how their forecasts differ.

    Rows that another run replaced are read from the table version that still shows them.
    """
    output = Output(as_json=as_json, quiet=quiet)
    forecasts = ForecastTable(out)
    one, other = find_run(forecasts, first), find_run(forecasts, second)
    found = compare_runs(forecasts, one, other)
    asked = found["identity"]

    def shown(console: Console) -> None:
        rows = table("identity", one.run_id, other.run_id)
        for key, values in asked.items():
            cells = (text if len(text) <= 40 else f"{text[:37]}…" for text in values)
            rows.add_row(key, *cells)
        console.print(rows if asked else "The two runs were asked for the same.")
        output.line(
            f"rows: {found['rows_in_both']:,} in both, {found['rows_only_in_first']:,} only in the "
            f"first, {found['rows_only_in_second']:,} only in the second"
        )
        if found["rows_in_both"]:
            output.line(
                f"median close differs by up to {found['median_close_differs_at_most']:.2%} (mean "
                f"{found['median_close_differs_on_average']:.2%}), p_up by up to "
                f"{found['p_up_differs_at_most']:.3f}; {found['equal_medians']:,} rows have equal "
                "medians"
            )

    output.result(found, shown)


@examples("candlecast runs vacuum --out forecasts --dry-run")
def vacuum(
    out: Out,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    staging_days: Annotated[
        float, typer.Option(min=0, help="Keep interrupted runs this long, to be resumed.")
    ] = 7.0,
    orphan_hours: Annotated[
        float, typer.Option(min=0.1, help="Keep stray data files this long.")
    ] = 1.0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Remove what dead runs left: staging, data files no version refers to, leases of the dead.

    Older table versions stay readable, and nothing of a run that somebody works on is touched.
    """
    from market.table.vacuum import vacuum as tidy

    found = tidy(
        ForecastTable(out),
        dry_run=dry_run,
        staging_age=timedelta(days=staging_days),
        orphan_age=timedelta(hours=orphan_hours),
    )
    verb = "would remove" if dry_run else "removed"
    Output(as_json=as_json, quiet=quiet).result(
        {
            "dry_run": dry_run,
            "staging": len(found.staging),
            "orphans": len(found.orphans),
            "leases": len(found.leases),
            "bytes": found.bytes,
            "kept": len(found.kept),
        },
        f"{verb} the staging of {len(found.staging)} run(s), {len(found.orphans)} orphaned data "
        f"file(s), {len(found.leases)} dead lease(s): {found.bytes / 1e6:.1f} MB; kept the staging "
        f"of {len(found.kept)} run(s) at work or to be resumed",
    )


def _span(record: RunRecord) -> str:
    first, last = record.dates[0].as_of_date, record.dates[-1].as_of_date
    return f"{first}" if first == last else f"{len(record.dates)}: {first} … {last}"
