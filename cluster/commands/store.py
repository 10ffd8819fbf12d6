"""`candlecast store migrate`: a history store of an older format into this one. Prints only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import add, examples
from cluster.commands.output import AsJson, Output, Quiet


def register(app: typer.Typer) -> None:
    """Add `store` and its command to the command line."""
    store = typer.Typer(
        help="Bring a history store of an older format to this one.", no_args_is_help=True
    )
    store.callback()(lambda: None)  # a group, though there is one command
    add(store, migrate)
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
