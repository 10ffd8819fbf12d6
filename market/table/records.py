"""What lies beside the forecast tables: run records, pointers, and which version showed what when.

Knows folders and their JSON; nothing of how rows are committed.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from market.errors import StoreError
from market.storage import Folder
from market.table.opening import open_table
from market.table.schema import FORMAT, KINDS, Kind, Published, RunRecord

RecordT = TypeVar("RecordT", bound=BaseModel)
_PUBLISH_ATTEMPTS = 100
"""Of two publishers at once one moves the pointer, so that each attempt lost is a night newer."""


def runs(root: Folder) -> list[RunRecord]:
    """Records of all runs of a table, oldest first."""
    here = root / "runs"
    found = [decode(RunRecord, here, name) for name in here.names(".json")]
    return sorted(found, key=lambda record: (record.started_at, record.run_id))


def run(root: Folder, run_id: str) -> RunRecord | None:
    """The record of one run, or None."""
    here, name = root / "runs", f"{run_id}.json"
    return decode(RunRecord, here, name) if here.exists(name) else None


def pointer(model_id: str, venue: str | None, freq: str) -> str:
    """Name of the file that points to the newest night of a model, venue and frequency."""
    return f"latest/{model_id}/{quote(venue or 'unknown', safe='')}-{freq}.json"


def published(root: Folder) -> list[Published]:
    """The newest night of every model, venue and frequency."""
    found = []
    for model_id in (root / "latest").names():
        here = root / f"latest/{model_id}"
        found += [decode(Published, here, name) for name in here.names(".json")]
    return found


def latest(root: Folder, model_id: str, freq: str, venue: str | None) -> Published | None:
    """The newest night; StoreError where several venues published and none is named."""
    found = [p for p in published(root) if (p.model_id, p.freq) == (model_id, freq)]
    if venue is not None:
        found = [each for each in found if each.venue == venue]
    if len(found) > 1:
        venues = ", ".join(str(each.venue) for each in found)
        raise StoreError(f"{root}: several venues published {freq} ({venues}); name one")
    return found[0] if found else None


def publish(root: Folder, night: Published) -> bool:
    """Move a pointer forward; False where it points to this night, or to a later one."""
    name, content = (
        pointer(night.model_id, night.venue, night.freq),
        night.model_dump_json(indent=1).encode(),
    )
    for _ in range(_PUBLISH_ATTEMPTS):
        try:
            there = root.read(name)
        except FileNotFoundError:
            there = None
        if there is not None:
            before = decode_content(Published, there, root.at(name))
            if before == night or before.as_of > night.as_of:
                return False
        if root.swap(name, there, content):
            return True
    raise StoreError(
        f"{root.at(name)}: {_PUBLISH_ATTEMPTS} attempts to move it lost against other writers; "
        "run the same command again"
    )


def versions_at(root: Folder, version: int | None, time: datetime | None) -> dict[Kind, int]:
    """The version of each table at a version of `steps`, or at a moment (UTC without time zone).

    Raises StoreError where there was nothing yet, or no such version.
    """
    if (version is None) == (time is None):
        raise StoreError("name a version of the steps table or a time, not both")
    versions: dict[Kind, int] = {}
    cutoff = None if time is None else _milliseconds(time)
    for kind in reversed(KINDS):
        newest = open_table(root.at(kind))
        if newest is None:
            continue
        if (
            "steps" in versions
            and newest.metadata().configuration.get("delta.appendOnly") == "true"
        ):
            # Holds what any version of steps shows; the clocks of its writers need not agree.
            versions[kind] = newest.version()
            continue
        commits = {int(each["version"]): int(each["timestamp"]) for each in newest.history()}
        if cutoff is None:
            if version not in commits:
                raise StoreError(
                    f"{root.at(kind)}: no version {version}; there are {min(commits)} to "
                    f"{max(commits)}"
                )
            versions["steps"], cutoff = version, commits[version]
            continue
        known = [each for each, moment in commits.items() if moment <= cutoff]
        if known:
            versions[kind] = max(known)
    if "steps" not in versions:
        raise StoreError(f"{root}: no forecasts were committed by {time}")
    return versions


def decode(model: type[RecordT], folder: Folder, name: str) -> RecordT:
    """A stored record. Raises StoreError where it is damaged or written by newer code."""
    return decode_content(model, folder.read(name), folder.at(name))


def decode_content(model: type[RecordT], content: bytes, place: str) -> RecordT:
    """A record from its bytes; see decode."""
    try:
        found = int(json.loads(content).get("format", 1))
        if found > FORMAT:
            raise StoreError(
                f"{place}: format {found}, written by a newer candlecast; this one reads "
                f"up to {FORMAT}: update it"
            )
        return model.model_validate_json(content)
    except StoreError:
        raise
    except (ValidationError, ValueError, TypeError, AttributeError, RecursionError) as error:
        where, what = "the whole file", str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or where
            what = first["msg"]
        raise StoreError(
            f"{place}: not a run record ({where}: {what}); it was damaged or written "
            "by another version of candlecast. Move it away to run again"
        ) from error


def _milliseconds(moment: datetime) -> int:
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return int(aware.timestamp() * 1000)
