"""`candlecast runs`: what was forecast, when, by which run; and tidying up. Prints only."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from market.table.forecasts import ForecastTable
    from market.table.schema import RunRecord

Out = Annotated[str, typer.Option("--out", help="Folder or URL of the forecast table.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its first digits.")]

_MANY = 20


def register(app: typer.Typer) -> None:
    """Add `runs` and its commands to the command line."""
    runs = typer.Typer(help="Look at runs of a forecast table, and tidy it.", no_args_is_help=True)
    runs.command("ls")(ls)
    runs.command("show")(show)
    runs.command("diff")(diff)
    runs.command("vacuum")(vacuum)
    app.add_typer(runs, name="runs")


def ls(out: Out) -> None:
    """List the runs of a table, and which one each `latest` points to."""
    from market.leases import live_leases
    from market.table.forecasts import ForecastTable
    from market.table.vacuum import lease_name

    table = ForecastTable(out)
    records = table.runs()
    console = _console()
    if not records:
        console.print(f"{out}: no runs yet; make one with 'candlecast forecast … --out {out}'")
        return
    working = live_leases(table.leases)
    newest = {each.run_id: each for each in table.published()}
    shown = _table("run", "model", "venue, freq", "dates", "forecasts", "status", "started (UTC)")
    for record in records:
        status = record.status
        if status == "running":
            status_text = "at work" if lease_name(record.run_id) in working else "interrupted"
        else:
            status_text = "latest" if record.run_id in newest else "finished"
        shown.add_row(
            record.run_id,
            record.model,
            f"{record.history['venue'] or 'unknown'}, {record.history['freq']}",
            _span(record),
            f"{record.n_forecasts:,}",
            status_text,
            f"{record.started_at:%Y-%m-%d %H:%M}",
        )
    console.print(shown)


def show(run: RunId, out: Out) -> None:
    """Show one run: what was asked, what was left out and why, and where its rows are."""
    from market.table.forecasts import ForecastTable

    table = ForecastTable(out)
    record = _find(table, run)
    console = _console()
    facts = _grid()
    facts.add_row("run", f"{record.run_id} ({record.status})")
    facts.add_row("model", f"{record.model}, {record.model_id}")
    facts.add_row(
        "history", ", ".join(f"{key} {value}" for key, value in record.history.items() if value)
    )
    asked = {k: v for k, v in record.settings.items() if k not in ("store", "out")}
    facts.add_row("settings", ", ".join(f"{k}={v}" for k, v in asked.items() if v is not None))
    facts.add_row("versions", ", ".join(f"{k} {v}" for k, v in record.versions.items()))
    plan = table.plan(record.run_id)
    if plan is not None:
        eligible = plan.filter(plan["reason"].is_null())
        facts.add_row(
            "plan",
            f"{eligible.height:,} forecasts in {eligible['shard'].n_unique():,} shards, "
            f"{plan.height - eligible.height:,} excluded",
        )
    console.print(facts)
    dates = _table("as_of (UTC)", "eligible", "forecast", "steps version", "")
    for each in record.dates[-_MANY:]:
        dates.add_row(
            f"{each.as_of:%Y-%m-%d %H:%M}",
            f"{each.eligible:,}",
            f"{each.forecast:,}",
            str(each.versions.get("steps", "")),
            "IN-SAMPLE" if each.in_sample else "",
        )
    console.print(dates)
    if len(record.dates) > _MANY:
        console.print(f"… and {len(record.dates) - _MANY} earlier dates")
    for title, notes in (("excluded", record.skipped), ("failed", record.failed)):
        for note in notes[:_MANY]:
            names = ", ".join(note.symbols[:5]) + (" …" if len(note.symbols) > 5 else "")
            console.print(
                f"{title} {note.as_of:%Y-%m-%d}: {names}: {note.reason}",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip


def diff(first: RunId, second: Annotated[str, typer.Argument(metavar="OTHER")], out: Out) -> None:
    """Compare two runs: what was asked differently, and how their forecasts differ.

    Rows that another run replaced are read from the table version that still shows them.
    """
    import polars as pl

    from market.table.forecasts import ForecastTable

    table = ForecastTable(out)
    one, other = _find(table, first), _find(table, second)
    console = _console()
    asked = _table("identity", one.run_id, other.run_id)
    for key in sorted({*one.identity, *other.identity}):
        values = [str(record.identity.get(key, "")) for record in (one, other)]
        if values[0] != values[1]:
            asked.add_row(key, *(text if len(text) <= 40 else f"{text[:37]}…" for text in values))
    console.print(asked if asked.row_count else "The two runs were asked for the same.")
    index = ["as_of", "symbol", "step"]
    columns = [*index, "close_q50", "p_up"]
    a, b = (table.rows_of(record).select(columns) for record in (one, other))
    both = a.join(b, on=index, how="inner", suffix="_other")
    console.print(
        f"rows: {both.height:,} in both, {a.height - both.height:,} only in the first, "
        f"{b.height - both.height:,} only in the second",
        highlight=False,
    )
    if both.height:
        change = both.select(
            (pl.col("close_q50_other") / pl.col("close_q50") - 1).abs().alias("median"),
            (pl.col("p_up_other") - pl.col("p_up")).abs().alias("p_up"),
        )
        median, p_up = (change[name].to_numpy() for name in ("median", "p_up"))
        equal = both.filter(pl.col("close_q50") == pl.col("close_q50_other")).height
        console.print(
            f"median close differs by up to {median.max():.2%} (mean {median.mean():.2%}), p_up by "
            f"up to {p_up.max():.3f}; {equal:,} rows have equal medians",
            highlight=False,
        )


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
) -> None:
    """Remove what dead runs left: staging, data files no version refers to, leases of the dead.

    Older table versions stay readable, and nothing of a run that somebody works on is touched.
    """
    from market.table.forecasts import ForecastTable
    from market.table.vacuum import vacuum as tidy

    found = tidy(
        ForecastTable(out),
        dry_run=dry_run,
        staging_age=timedelta(days=staging_days),
        orphan_age=timedelta(hours=orphan_hours),
    )
    verb = "would remove" if dry_run else "removed"
    _console().print(
        f"{verb} the staging of {len(found.staging)} run(s), {len(found.orphans)} orphaned data "
        f"file(s), {len(found.leases)} dead lease(s): {found.bytes / 1e6:.1f} MB; kept the staging "
        f"of {len(found.kept)} run(s) at work or to be resumed",
        highlight=False,
        soft_wrap=True,
    )


def _find(table: ForecastTable, run: str) -> RunRecord:
    from market.errors import StoreError

    found = [record for record in table.runs() if record.run_id.startswith(run)]
    if len(found) != 1:
        known = ", ".join(record.run_id for record in (found or table.runs())[:5]) or "none"
        what = "several runs begin so" if found else "no such run"
        raise StoreError(
            f"{table.folder}: {run}: {what}; 'candlecast runs ls' shows them ({known})"
        )
    return found[0]


def _span(record: RunRecord) -> str:
    first, last = record.dates[0].as_of_date, record.dates[-1].as_of_date
    return f"{first}" if first == last else f"{len(record.dates)}: {first} … {last}"


def _table(*headings: str) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1))
    for heading in headings:
        number = heading in ("forecasts", "eligible", "forecast", "steps version")
        table.add_column(heading, justify="right" if number else "left", no_wrap=heading == "run")
    return table


def _console() -> Console:
    """A console that does not fold tables into 80 columns where nobody watches a terminal."""
    import sys

    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160)


def _grid() -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    return grid
