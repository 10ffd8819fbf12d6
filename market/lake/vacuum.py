"""Tidying a lake: data files that killed imports left. Knows files, the writer's lock, leases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from market.errors import StoreError
from market.lake.lock import LEASES, writer_lock
from market.lake.versions import TABLES, current_version, lake_folder
from market.leases import remove_dead
from market.storage import Folder
from market.table.orphans import ORPHAN_AGE, orphans_of


@dataclass(frozen=True)
class Tidied:
    """What was removed, or would be."""

    orphans: tuple[str, ...]
    """Data files that no version of the store shows, relative to it."""
    leases: tuple[str, ...]
    """Leases of dead imports."""
    bytes: int


def vacuum(
    place: str | Path | Folder, *, dry_run: bool = False, orphan_age: timedelta = ORPHAN_AGE
) -> Tidied:
    """Remove data files that no version of a store shows, and leases of dead imports.

    Every version stays readable. Raises StoreError where there is no store, or while an import
    writes to it.
    """
    root = lake_folder(place)
    if current_version(root) is None:
        raise StoreError(f"{place}: no history store here; name one with bars in it")
    with writer_lock(root):
        found = {
            f"{table}/{name}": size
            for table in TABLES
            for name, size in orphans_of(root / table, orphan_age)
        }
        if not dry_run:
            for name in found:
                root.remove(name)
    dead = remove_dead(root / LEASES, dry_run=dry_run)
    return Tidied(tuple(found), tuple(dead), sum(found.values()))
