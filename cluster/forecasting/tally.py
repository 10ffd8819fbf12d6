"""What replicas report to and the driver reads: counts and times. Knows nothing, so starts fast."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Activity:
    """When replicas were ready and at work, in seconds of the system's clock."""

    ready: dict[str, float] = field(default_factory=dict)
    """Replica to when it had its model."""
    busy: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Replica to (begin, end) of each tile."""

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


class Tally:
    """How many forecasts replicas have finished, and when; runs as an actor of its own."""

    def __init__(self) -> None:
        self._done = 0
        self._activity = Activity()

    def ready(self, replica: str, moment: float) -> None:
        self._activity.ready[replica] = moment

    def add(self, replica: str, n: int, begun: float, ended: float) -> None:
        self._done += n
        self._activity.busy.setdefault(replica, []).append((begun, ended))

    def read(self) -> int:
        return self._done

    def activity(self) -> Activity:
        return self._activity
