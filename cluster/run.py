"""Shards through an actor pool, watched from outside. Knows Ray Data; nothing of tables or dates.

The pipeline runs in a thread of its own; the caller's thread counts what replicas report and gives
up when nothing moves. Restarts and retries are finite: work that kills its process every time
ends the run instead of repeating for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import queue
import re
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.data import ActorPoolStrategy
from ray.util.annotations import RayDeprecationWarning

from cluster.plan import Shard
from cluster.replica import Replica
from cluster.rows import ReplicaJob
from cluster.session import REPLICA_CPUS
from cluster.stream import shard_dataset
from cluster.tally import Tally
from market.errors import CandlecastError

if TYPE_CHECKING:
    from market.history import MarketHistory

_MAX_RESTARTS = 3
_MAX_RETRIES = 2
_POLL_SECONDS = 0.25
_STOP_SECONDS = 15.0
_REPLICAS_PER_READER = 4  # reading a shard takes milliseconds, forecasting it seconds


_RAISED = re.compile(r"^(?:\w+\.)*(\w+): (.+)$", re.MULTILINE)
"""The unindented line that ends a traceback; the first one is the root of a chain."""


class ForecastRunError(CandlecastError):
    """The cluster could not finish the work; running the same command again resumes it."""


def run_shards(
    history: MarketHistory,
    shards: Sequence[Shard],
    job: ReplicaJob,
    *,
    replicas: int,
    timeout_s: float,
    report: Callable[[int], None],
) -> None:
    """Forecast every shard into staging; returns when all have a manifest.

    report is called with the number of forecasts done. Raises ForecastRunError where replicas
    keep dying, one raises an error, or nothing finishes for timeout_s.
    """
    tally: Any = ray.remote(num_cpus=0)(Tally).remote()
    with warnings.catch_warnings():
        # Ray names no successor yet to the two arguments that make restarts and retries finite.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = shard_dataset(history, shards, -(-replicas // _REPLICAS_PER_READER)).map_batches(
            Replica,
            fn_constructor_args=(job, tally),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=REPLICA_CPUS,
            compute=ActorPoolStrategy(size=replicas, max_tasks_in_flight_per_actor=2),
            max_restarts=_MAX_RESTARTS,
            max_task_retries=_MAX_RETRIES,
        )
    finished: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def drain() -> None:
        try:
            for _ in dataset.iter_internal_ref_bundles():
                pass
        except BaseException as error:
            finished.put(error)
        else:
            finished.put(None)

    pipeline = threading.Thread(target=drain, name="forecast-pipeline", daemon=True)
    pipeline.start()
    try:
        error = _watch(finished, tally, timeout_s, report)
    except BaseException:
        _stop(pipeline)
        raise
    if error is not None:
        raise _explained(error) from error
    report(sum(shard.n_forecasts for shard in shards))


def _watch(
    finished: queue.SimpleQueue[BaseException | None],
    tally: Any,
    timeout_s: float,
    report: Callable[[int], None],
) -> BaseException | None:
    """Report progress until the pipeline ends; how it ended."""
    done, last_change = 0, time.monotonic()
    while True:
        with contextlib.suppress(queue.Empty):
            return finished.get(timeout=_POLL_SECONDS)
        now_done = ray.get(tally.read.remote())
        if now_done != done:
            done, last_change = now_done, time.monotonic()
            report(done)
        elif time.monotonic() - last_change > timeout_s:
            raise ForecastRunError(
                f"no replica finished anything for {timeout_s:g} s (no_progress_timeout_s); "
                "what was finished is kept, and the same command resumes it"
            )


class _Stopped(BaseException):
    """Ends a pipeline that nobody waits for any more."""


def _stop(pipeline: threading.Thread) -> None:
    """End the pipeline's thread, and with it the pipeline: Ray closes one whose consumer raises.

    Leaving it alive would let it call Ray after a shutdown, which starts a second cluster.
    """
    if pipeline.is_alive() and pipeline.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(pipeline.ident), ctypes.py_object(_Stopped)
        )
    pipeline.join(timeout=_STOP_SECONDS)


def _explained(error: BaseException) -> ForecastRunError:
    """One line about what went wrong in a worker, from the traceback that Ray sends as text."""
    found = _RAISED.search(str(error))
    cause = f"{found[1]}: {found[2]}" if found else type(error).__name__
    return ForecastRunError(
        f"the replicas could not finish ({cause}); what was finished is kept, and the same command "
        "resumes it"
    )
