"""Progress of workers elsewhere, read from the file they write. Knows metrics; nothing of Ray."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.training.places import RunPlace
from forecaster.training.run_log import METRICS, progress, read_metrics
from market.errors import StoreError

_POLL_SECONDS = 0.5
_REMOTE_POLL_SECONDS = 3.0


@contextmanager
def following(place: RunPlace, steps: int, report: Callable[[str], None]) -> Iterator[None]:
    """Inside the block, every new line of the run's metrics is told; and where workers went back
    to a checkpoint, the step of it. Of a run at a URL, those that came with a checkpoint."""
    folder, poll_seconds = place.local, _REMOTE_POLL_SECONDS if place.remote else _POLL_SECONDS
    ended = threading.Event()
    told = [_last_step(folder)]
    seen: list[tuple[int, int]] = [(-1, -1)]

    def look() -> None:
        with suppress(StoreError):  # the next look may get through
            place.fetch_file(METRICS)
        path = folder / METRICS
        if not path.is_file():
            return
        stat = path.stat()
        if seen[0] == (stat.st_size, stat.st_mtime_ns):
            return
        seen[0] = (stat.st_size, stat.st_mtime_ns)
        lines = read_metrics(folder)
        last = int(lines[-1]["step"]) if lines else 0
        if last < told[0]:
            report(f"back to the last checkpoint: going on after step {last}")
            told[0] = last
        for line in lines:
            if line["step"] > told[0]:
                report(progress(line, steps))
                told[0] = int(line["step"])

    def watch() -> None:
        while not ended.wait(poll_seconds):
            look()

    thread = threading.Thread(target=watch, name="training-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        look()


def _last_step(folder: Path) -> int:
    """Step of the last line that is there already."""
    lines = read_metrics(folder) if (folder / METRICS).is_file() else []
    return int(lines[-1]["step"]) if lines else 0
