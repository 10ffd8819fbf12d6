"""Data files of a Delta table that no version shows. Knows logs and names; removes nothing."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import PurePosixPath
from urllib.parse import unquote

import polars as pl

from market.storage import Folder

ORPHAN_AGE = timedelta(hours=1)
"""A commit writes its file seconds before it counts; an older stray belongs to a dead writer."""
_LOG = "_delta_log/"


def orphans_of(table: Folder, age: timedelta = ORPHAN_AGE) -> Iterator[tuple[str, int]]:
    """Name, relative to the table, and bytes of every data file of that age that no version shows.

    None where there is no log to be sure by.
    """
    files = table.files()
    logs = [name for name in files if name.startswith(_LOG)]
    if not logs:  # no table, or listed by another name than Delta reads it by: nothing is known
        return
    shown = _referred(table, logs)
    for name, (size, written) in sorted(files.items()):
        old = time.time() - written > age.total_seconds()
        data = name.endswith(".parquet") and not name.startswith(_LOG)
        if data and old and PurePosixPath(name).name not in shown:
            yield name, size


def _referred(folder: Folder, logs: list[str]) -> set[str]:
    """Names of the files that any readable version shows: all that commits and checkpoints tell of,
    added or removed, since what a commit removed is shown by the version before.

    Names are unique, so they are compared without their folders: how the table's place is written
    plays no part.
    """
    told: set[str] = set()
    for name in logs:
        if name.endswith(".json"):
            for line in folder.read(name).splitlines():
                action = json.loads(line)
                told |= {action[key]["path"] for key in ("add", "remove") if action.get(key)}
        elif name.endswith(".parquet"):  # checkpoints, and what they were split into
            rows = pl.read_parquet(io.BytesIO(folder.read(name)))
            for key in ("add", "remove"):
                if key in rows.columns:
                    told |= set(rows[key].struct.field("path").drop_nulls())
    return {PurePosixPath(unquote(path)).name for path in told}
