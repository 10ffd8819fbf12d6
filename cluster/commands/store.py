"""`candlecast store`: an older format into this one, and tidying. Prints only."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import add, examples
from cluster.commands.output import AsJson, Output, Quiet


def register(app: typer.Typer) -> None:
    """Add `store` and its commands to the command line."""
    store = typer.Typer(
        help="Bring a history store of an older format to this one; tidy one.",
        no_args_is_help=True,
    )
    for command in (migrate, vacuum):
        add(store, command)
    app.add_typer(store, name="store")


@examples(
    "candlecast store migrate store --to newstore",
    "candlecast store migrate store --to s3://bucket/store",
)
def migrate(
    old: Annotated[Path, typer.Argument(help="Folder of the store as it is; it is only read.")],
    to: Annotated[str, typer.Option("--to", help="Folder or URL of the new store.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Copy every version of a store into this format, compared bar by bar.

    Versions go on being found by their old names: a night can be repeated from them.
    """
    from market.lake.migrate import migrate as run

    output = Output(as_json=as_json, quiet=quiet)
    made = run(old, to)
    output.result(
        {
            "store": str(made.history.root),
            "version": made.history.version,
            "versions": made.versions,
            "bars": made.bars,
        },
        f"{made.versions:,} versions, the newest with {made.bars:,} bars, are in {to} (version "
        f"{made.history.version}); {old} is as it was",
    )


@examples("candlecast store vacuum store --dry-run", "candlecast store vacuum s3://bucket/store")
def vacuum(
    store: Annotated[str, typer.Argument(help="Folder or URL of the store.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    orphan_hours: Annotated[
        float, typer.Option(min=0.1, help="Keep stray data files this long.")
    ] = 1.0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Remove data files that no version of a store shows, left by imports that were killed.

    Every version stays readable, by its number or its name.
    """
    from market.lake.vacuum import vacuum as tidy

    found = tidy(store, dry_run=dry_run, orphan_age=timedelta(hours=orphan_hours))
    verb = "would remove" if dry_run else "removed"
    Output(as_json=as_json, quiet=quiet).result(
        {
            "dry_run": dry_run,
            "orphans": len(found.orphans),
            "leases": len(found.leases),
            "bytes": found.bytes,
        },
        f"{verb} {len(found.orphans)} orphaned data file(s) and {len(found.leases)} dead lease(s): "
        f"{found.bytes / 1e6:.1f} MB",
    )
