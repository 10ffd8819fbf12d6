"""Which series kill the process that forecasts them. Knows notes in a folder; nothing of models.

A replica leaves a durable note before each tile and takes it away after. A shard that is begun
again in the same pass finds the notes of the attempt that died. After two deaths a tile is split
into single series; a series that has died three times in all is left out, with its history.

A note proves a death only through such a second attempt: replicas that are stopped because another
shard failed, or because the driver died, count against no series.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b

from market.storage import Folder

SPLIT_AFTER = 2
"""Deaths of a tile before its series are tried one by one."""
QUARANTINE_AFTER = 3
"""Deaths of a series, those of its tile included, before it is left out."""
_NOTE, _DEATH = ".note.json", ".death.json"

SeriesKey = tuple[str, str]
"""Symbol and as_of."""


@dataclass(frozen=True)
class Pass:
    """One submission of shards by one driver."""

    driver: str
    number: int

    @classmethod
    def first(cls) -> Pass:
        return cls(uuid.uuid4().hex[:12], 0)

    def next(self) -> Pass:
        return Pass(self.driver, self.number + 1)


class ShardNotes:
    """The notes of one attempt at one shard."""

    def __init__(self, staging: Folder, this: Pass, shard: str) -> None:
        self._folder = staging / "notes"
        self._stem = f"{this.driver}.{shard}."
        self._pass = this
        self._deaths: dict[str, list[str]] = {}
        own = [name for name in self._folder.names() if name.startswith(self._stem)]
        for name in own:
            if name.endswith(_NOTE) and name.startswith(f"{self._stem}{this.number}."):
                self._folder.write(name.replace(_NOTE, _DEATH), self._folder.read(name))
                self._folder.remove(name)
        for name in self._folder.names(_DEATH):
            if name.startswith(self._stem):
                note = json.loads(self._folder.read(name))
                self._deaths.setdefault(note["tile"], []).append(_told(note))

    @contextmanager
    def around(self, tile: Sequence[SeriesKey]) -> Iterator[None]:
        """Leave a note inside the block; it stays only where the process dies in there."""
        name = f"{self._stem}{self._pass.number}.{uuid.uuid4().hex}{_NOTE}"
        note = {
            "tile": _key(tile),
            "first": tile[0],
            "series": len(tile),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._folder.write(name, json.dumps(note).encode())
        try:
            yield
        finally:
            self._folder.remove(name)

    def must_split(self, tile: Sequence[SeriesKey]) -> bool:
        return len(tile) > 1 and len(self._deaths.get(_key(tile), [])) >= SPLIT_AFTER

    def verdict(self, series: SeriesKey, tile: Sequence[SeriesKey]) -> str | None:
        """Why a series must be left out, with its history; None where it may be tried.

        tile: the whole tile the series belongs to.
        """
        own = self._deaths.get(_key([series]), [])
        shared = self._deaths.get(_key(tile), []) if len(tile) > 1 else []
        if not own or len(own) + len(shared) < QUARANTINE_AFTER:
            return None
        return (
            f"process died: {len(own) + len(shared)} times while forecasting it "
            f"({'; '.join([*shared, *own])})"
        )


def _key(tile: Sequence[SeriesKey]) -> str:
    return blake2b(json.dumps(list(tile)).encode(), digest_size=8).hexdigest()


def _told(note: dict[str, object]) -> str:
    alone = note["series"] == 1
    company = "alone" if alone else f"among {note['series']} series"
    return f"{company}, pid {note['pid']} on {note['host']} at {note['at']}"
