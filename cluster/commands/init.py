"""`candlecast init`: a folder to start from. Copies the settings files; knows what is in none."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import add, examples
from cluster.commands.output import AsJson, Output, Quiet
from market.errors import ConfigError

STARTER = (
    "README.md",
    "*.yaml",
    "train/finetune_*.yaml",
    "train/returns_finetune.yaml",
    "train/walkforward.yaml",
    "cluster/*.yaml",
)
"""Files of the starter folder; recipes of the models in the package are left out."""
FOLDERS = ("bars", "drop")
"""What a user fills; the rest is made by the commands."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    add(app, init)


@examples("candlecast init", "candlecast init my-market")
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to fill; made when missing.")] = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a starter folder: commented settings of every command, and where things go.

    Files that are there already are left alone.
    """
    output = Output(as_json=as_json, quiet=quiet)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; name a folder")
    made, kept = [], []
    with as_file(files("cluster") / "starter") as starter:
        for pattern in STARTER:
            for source in sorted(starter.glob(pattern)):
                target = folder / source.relative_to(starter)
                if target.exists():
                    kept.append(str(target))
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
                made.append(str(target))
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    lines = [f"wrote {path}" for path in made] + [f"kept {path}, which was there" for path in kept]
    lines.append(f"next: put bars into {folder / 'bars'}, and read {folder / 'README.md'}")
    output.result({"folder": str(folder.resolve()), "made": made, "kept": kept}, "\n".join(lines))
