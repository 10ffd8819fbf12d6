"""Who worked when, as the manifests of shards tell it afterwards. Plain records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class ShardTimes(NamedTuple):
    """When a replica made a shard, in seconds of the system's clock."""

    replica: str
    ready: float
    """When the replica had its model."""
    tiles: list[tuple[float, float]]
    """(begin, end) of each tile."""


@dataclass
class Activity:
    """When replicas were ready and at work, in seconds of the system's clock."""

    ready: dict[str, float] = field(default_factory=dict)
    """Replica to when it had its model."""
    busy: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Replica to (begin, end) of each tile."""

    def add(self, times: ShardTimes) -> None:
        self.ready[times.replica] = times.ready
        self.busy.setdefault(times.replica, []).extend(times.tiles)

    @property
    def span(self) -> tuple[float, float] | None:
        """First replica ready to last tile done."""
        ends = [end for spans in self.busy.values() for _, end in spans]
        return (min(self.ready.values()), max(ends)) if ends and self.ready else None

    def utilisation(self, replicas: int) -> float:
        """Share of the span's replica seconds spent on tiles; 0 where nothing was done."""
        if self.span is None:
            return 0.0
        worked = sum(end - begin for spans in self.busy.values() for begin, end in spans)
        return worked / max(replicas * (self.span[1] - self.span[0]), 1e-9)

    def all_busy(self, replicas: int) -> float:
        """Share of the span in which at least that many replicas worked at once."""
        if self.span is None:
            return 0.0
        steps = sorted(
            event
            for spans in self.busy.values()
            for begin, end in spans
            for event in ((begin, 1), (end, -1))
        )
        together, at_work, since = 0.0, 0, 0.0
        for moment, change in steps:
            if at_work >= replicas:
                together += moment - since
            at_work, since = at_work + change, moment
        return together / max(self.span[1] - self.span[0], 1e-9)
