"""Who can be forecast from when, and the hash of the bars that takes: symbol by symbol.

One function over parts of a universe, one after the other in this process or as Ray tasks; what it
finds does not depend on which, nor on how the universe is cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.forecasting.identity import bars_digest, bars_read
from cluster.session import replica_pool
from cluster.settings import ForecastSettings
from market.lake.history import MarketHistory
from market.spec import AsOf
from market.windows import eligibility

SYMBOLS_PER_READ = 256
_TASKS_FROM = 10_000
"""Symbols from which on starting Ray before the plan pays on a single machine."""
_TASK_CPUS = 0.5

Wanted = tuple[str, tuple[AsOf, ...]]
"""A symbol and the moments it is wanted at."""


class Looked(NamedTuple):
    """What was found of one symbol."""

    symbol: str
    eligible: tuple[AsOf, ...]
    reasons: tuple[tuple[AsOf, str], ...]
    """Why not, of the other moments."""
    digest: bytes
    """Of everything its windows read; empty where there are none."""
    first_session: date | None
    """Of its windows."""


@dataclass(frozen=True)
class Look:
    """How to look at a part of the universe."""

    history: MarketHistory
    last: AsOf
    """The latest moment of the run."""
    sessions: npt.NDArray[np.datetime64]
    """Of the history up to it."""
    lookback: int
    max_gap_sessions: int
    allow_suspected_splits: bool

    def __call__(self, part: Sequence[Wanted]) -> list[Looked]:
        """In the order of the part; its bars are in memory meanwhile."""
        symbols = [symbol for symbol, _ in part]
        found = {s.symbol: s for s in self.history.series(symbols, as_of=self.last.close_utc)}
        looked = []
        for symbol, as_ofs in part:
            series = found.get(symbol)
            reasons = [
                f"too short: no bar up to {as_of.session}"
                if series is None
                else eligibility(
                    series,
                    as_of,
                    self.lookback,
                    sessions=self.sessions,
                    max_gap_sessions=self.max_gap_sessions,
                    allow_suspected_splits=self.allow_suspected_splits,
                )
                for as_of in as_ofs
            ]
            told = list(zip(as_ofs, reasons, strict=True))
            eligible = tuple(as_of for as_of, reason in told if reason is None)
            hashed, first = b"", None
            if series is not None and eligible:
                read_N = bars_read(series, eligible, self.lookback)
                hashed = bars_digest(series, read_N, list(eligible), self.lookback)
                first = series.sessions_N[read_N.argmax()].item()
            why = tuple((as_of, reason) for as_of, reason in told if reason is not None)
            looked.append(Looked(symbol, eligible, why, hashed, first))
        return looked


Looking = Callable[[Look, Sequence[Wanted]], Iterator[Looked]]


def one_by_one(look: Look, wanted: Sequence[Wanted]) -> Iterator[Looked]:
    """In this process, a few hundred symbols in memory at a time."""
    for first in range(0, len(wanted), SYMBOLS_PER_READ):
        yield from look(wanted[first : first + SYMBOLS_PER_READ])


def on_the_cluster(stack: ExitStack, settings: ForecastSettings) -> Looking:
    """As Ray tasks, where a cluster is joined or the universe is large.

    Ray stays up as long as the stack, for the run that follows.
    """

    def looking(look: Look, wanted: Sequence[Wanted]) -> Iterator[Looked]:
        if settings.address is None and len(wanted) < _TASKS_FROM:
            yield from one_by_one(look, wanted)
            return
        stack.enter_context(
            replica_pool(
                settings.replicas, len(wanted), settings.address, settings.gpus_per_replica
            )
        )
        if settings.address is not None:
            from cluster.forecasting.visibility import require_visible

            require_visible(look.history)  # before a task on a node without it ends in an error
        yield from by_tasks(look, wanted)

    return looking


def by_tasks(look: Look, wanted: Sequence[Wanted]) -> Iterator[Looked]:
    """As Ray tasks, several at a time, in the order given; needs a Ray that is up."""
    import ray

    task = ray.remote(num_cpus=_TASK_CPUS, max_retries=3)(_look)
    shared = ray.put(look)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    most = max(2, int(resources.get("CPU", 1) / _TASK_CPUS))
    running: deque[Any] = deque()
    for first in range(0, len(wanted), SYMBOLS_PER_READ):
        if len(running) >= most:
            yield from ray.get(running.popleft())
        running.append(task.remote(shared, wanted[first : first + SYMBOLS_PER_READ]))
    while running:
        yield from ray.get(running.popleft())


def _look(look: Look, part: Sequence[Wanted]) -> list[Looked]:
    return look(part)
