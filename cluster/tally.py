"""A counter that replicas report to and the driver reads. Knows nothing, and so starts fast."""

from __future__ import annotations


class Tally:
    """How many forecasts replicas have finished; runs as an actor of its own."""

    def __init__(self) -> None:
        self._done = 0

    def add(self, n: int) -> None:
        self._done += n

    def read(self) -> int:
        return self._done
