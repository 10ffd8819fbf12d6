"""The next batches, built while the current one is computed. Knows a function of the step."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Calls `make(step)` for every step in order, in a thread, at most `depth` ahead."""

    def __init__(self, make: Callable[[int], T], steps: range, depth: int = 4) -> None:
        self._make, self._steps = make, steps
        self._made: queue.Queue[T | BaseException] = queue.Queue(depth)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="training-batches", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        while self._thread.is_alive():
            try:
                self._made.get_nowait()  # makes room for a thread that waits to hand over
            except queue.Empty:
                self._thread.join(0.01)

    def next(self) -> tuple[T, float]:
        """The next step's batch, and how long it was waited for in seconds.

        Raises what making it raised.
        """
        began = time.perf_counter()
        made = self._made.get()
        if isinstance(made, BaseException):
            raise made
        return made, time.perf_counter() - began

    def _run(self) -> None:
        for step in self._steps:
            if self._ended.is_set():
                return
            try:
                made: T | BaseException = self._make(step)
            except BaseException as error:
                made = error
            self._made.put(made)
            if isinstance(made, BaseException):
                return
