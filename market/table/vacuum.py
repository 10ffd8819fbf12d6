"""Tidying a forecast table: what dead runs and dead commits left behind. Knows files and leases.

Nothing that a version of the table shows is ever removed, so time travel stays whole; nothing of a
run that somebody works on is touched.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

from market.leases import LeaseHeldError, hold, remove_dead
from market.table.forecasts import ForecastTable
from market.table.orphans import ORPHAN_AGE, orphans_of
from market.table.schema import KINDS

STAGING_AGE = timedelta(days=7)
"""An interrupted run younger than this may still be resumed."""


def lease_name(run_id: str) -> str:
    """The lease of a run's driver."""
    return f"forecast-{run_id}"


def commit_lease_name(model_id: str, venue: str | None, freq: str) -> str:
    """The lease of who commits: runs whose rows could replace each other's take turns."""
    return f"commit-{model_id}-{quote(venue or 'unknown', safe='')}-{freq}"


@dataclass(frozen=True)
class Vacuumed:
    """What was removed, or would be."""

    staging: tuple[str, ...]
    """Runs whose staging went."""
    orphans: tuple[str, ...]
    """Data files no version of any table refers to, relative to the table's folder."""
    leases: tuple[str, ...]
    """Leases of dead processes."""
    bytes: int
    kept: tuple[str, ...]
    """Runs whose staging stays: somebody works on them, or they are young enough to resume."""


def vacuum(
    table: ForecastTable,
    *,
    dry_run: bool = False,
    staging_age: timedelta = STAGING_AGE,
    orphan_age: timedelta = ORPHAN_AGE,
) -> Vacuumed:
    """Remove staging of runs that ended or were given up, orphaned data files and dead leases."""
    size = 0
    removed: list[str] = []
    kept: list[str] = []
    staging = table.folder / "staging"
    for run_id in staging.names():
        folder = table.staging(run_id)
        with _unused(table, run_id) as free:
            files = folder.files()
            newest = max((written for _, written in files.values()), default=0.0)
            record = table.run(run_id)
            ended = record is not None and record.status == "finished"
            if not free or not (ended or time.time() - newest > staging_age.total_seconds()):
                kept.append(run_id)
                continue
            size += sum(n for n, _ in files.values())
            removed.append(run_id)
            if not dry_run:
                folder.remove_all()
    orphans = dict(_orphans(table, orphan_age))
    if not dry_run:
        for name in orphans:
            table.folder.remove(name)
    dead = remove_dead(table.leases, dry_run=dry_run)
    return Vacuumed(
        tuple(removed), tuple(orphans), tuple(dead), size + sum(orphans.values()), tuple(kept)
    )


@contextmanager
def _unused(table: ForecastTable, run_id: str) -> Iterator[bool]:
    """Whether nobody works on the run, and nobody can begin to inside the block."""
    try:
        with hold(table.leases, lease_name(run_id)):
            yield True
    except LeaseHeldError:
        yield False


def _orphans(table: ForecastTable, age: timedelta) -> Iterator[tuple[str, int]]:
    for kind in KINDS:
        for name, size in orphans_of(table.folder / kind, age):
            yield f"{kind}/{name}", size
