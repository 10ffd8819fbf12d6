"""Shards through an actor pool, watched from outside. Knows Ray Data; nothing of tables or dates.

The pipeline runs in a thread of its own; the caller's thread counts what replicas report and gives
up when nothing moves. Restarts and retries are finite: work that kills its process every time ends
the pipeline. The shards it left unfinished are submitted again, and the notes of the dead say
which series to leave out.
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
from dataclasses import replace
from functools import partial
from typing import Any

import ray
from ray.data import ActorPoolStrategy
from ray.exceptions import RayError, RayTaskError, UserCodeException
from ray.util.annotations import RayDeprecationWarning

from cluster.forecasting.activity import Activity
from cluster.forecasting.counting import Counts
from cluster.forecasting.replica import Replica
from cluster.forecasting.shards import Shard
from cluster.forecasting.staging import FinishedShard
from cluster.forecasting.stream import shard_dataset
from cluster.forecasting.weights import SharedWeights
from cluster.forecasting.work import ReplicaJob
from cluster.session import REPLICA_CPUS, Pool
from market import errors
from market.errors import CandlecastError
from market.lake.history import MarketHistory

_MAX_RESTARTS = 3
_MAX_RETRIES = 2
_MAX_PASSES = 20
_POLL_SECONDS = 0.25
_STOP_SECONDS = 15.0
_LOOK_SECONDS = 5.0
_REPLICAS_PER_READER = 4  # reading a shard takes milliseconds, forecasting it seconds


_RAISED = re.compile(r"^(?:\w+\.)*(\w+): (.+)$", re.MULTILINE)
"""The unindented line that ends a traceback; the first one is the root of a chain."""


class ForecastRunError(CandlecastError):
    """The cluster could not finish the work; running the same command again resumes it."""


def run_shards(
    history: MarketHistory,
    shards: Sequence[Shard],
    job: ReplicaJob,
    weights: SharedWeights | None,
    *,
    pool: Pool,
    timeout_s: float,
    report: Callable[[int], None],
) -> Activity:
    """Forecast every shard into staging; returns when all have a manifest, with who did what when.

    report is called with the number of forecasts done. Raises ForecastRunError where replicas
    keep dying without the culprit being found, one raises an error, or nothing finishes for
    timeout_s.
    """
    counts, activity = Counts(job.submission.driver), Activity()
    reference = [] if weights is None else [ray.put(weights)]
    todo, total = list(shards), sum(shard.n_forecasts for shard in shards)
    error: BaseException | None = None
    try:
        for _ in range(_MAX_PASSES):
            done = total - sum(shard.n_forecasts for shard in todo)
            told = partial(_add, report, done)
            error = _submit(history, todo, job, reference, counts, pool, timeout_s, told)
            todo = _unfinished(job, todo, activity)
            if not todo or error is None or _raised_by_us(error):
                break
            job = replace(job, submission=job.submission.next())
    finally:
        with contextlib.suppress(RayError):
            counts.forget()
    if todo:
        raise _explained(error) from error
    report(total)
    return activity


def _unfinished(job: ReplicaJob, shards: Sequence[Shard], activity: Activity) -> list[Shard]:
    """The shards without a manifest; when the others were made is added to the activity."""
    left = []
    for shard in shards:
        finished = FinishedShard.read(job.staging, shard.key)
        if finished is None:
            left.append(shard)
        elif finished.times is not None:
            activity.add(finished.times)
    return left


def _add(report: Callable[[int], None], before: int, done: int) -> None:
    report(before + done)


def _submit(
    history: MarketHistory,
    shards: Sequence[Shard],
    job: ReplicaJob,
    weights: Sequence[Any],
    counts: Counts,
    pool: Pool,
    timeout_s: float,
    report: Callable[[int], None],
) -> BaseException | None:
    """One pass of the pipeline over some shards; what ended it early."""
    most = min(pool.most, len(shards))
    least = min(pool.least, most)
    with warnings.catch_warnings():
        # Ray names no successor yet to the two arguments that make restarts and retries finite.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = shard_dataset(history, shards, -(-most // _REPLICAS_PER_READER)).map_batches(
            Replica,
            fn_constructor_args=(job, weights),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=REPLICA_CPUS,
            num_gpus=pool.gpus or None,
            compute=ActorPoolStrategy(
                min_size=least, max_size=most, max_tasks_in_flight_per_actor=2
            ),
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
        return _watch(finished, counts, timeout_s, report)
    except BaseException:
        _stop(pipeline)
        raise


def _watch(
    finished: queue.SimpleQueue[BaseException | None],
    counts: Counts,
    timeout_s: float,
    report: Callable[[int], None],
) -> BaseException | None:
    """Report progress until the pipeline ends; how it ended."""
    before, last_change = _done(counts) or 0, time.monotonic()
    done, last_look = before, last_change
    while True:
        with contextlib.suppress(queue.Empty):
            return finished.get(timeout=_POLL_SECONDS)
        if time.monotonic() - last_look > _LOOK_SECONDS:
            last_look = time.monotonic()
            if not _own_node_alive():
                raise ForecastRunError(
                    "the Ray node this driver runs on has died; what was finished is kept, and "
                    "the same command resumes it"
                )
        now_done = _done(counts)
        if now_done is not None and now_done != done:
            done, last_change = now_done, time.monotonic()
            report(max(done - before, 0))
        elif time.monotonic() - last_change > timeout_s:
            raise ForecastRunError(
                f"no replica finished anything for {timeout_s:g} s "
                f"(no_progress_timeout_s){_idle(counts)}; what was finished is kept, and the same "
                "command resumes it"
            )


def _own_node_alive() -> bool:
    """Whether the node this driver belongs to is up: without it, Ray would wait forever."""
    own = ray.get_runtime_context().get_node_id()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return any(node["NodeID"] == own and node["Alive"] for node in nodes)


def _done(counts: Counts) -> int | None:
    """Forecasts done; None while Ray's head does not answer."""
    try:
        return sum(counts.read().values())
    except RayError:
        return None


def _idle(counts: Counts) -> str:
    """Whether replicas ever started, and what they may be waiting for."""
    with contextlib.suppress(RayError):
        if not counts.read():
            available: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
            free = {k: v for k, v in available.items() if k in ("CPU", "GPU")}
            told = ", ".join(f"{amount:g} {name}" for name, amount in sorted(free.items()))
            return (
                f". No replica ever started: free are {told or 'no CPUs'}, and each needs "
                f"{REPLICA_CPUS:g} CPU; other jobs may hold the rest"
            )
    return ""


def _raised_by_us(error: BaseException) -> bool:
    """Whether a worker raised an error, rather than died."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, UserCodeException):
            return True
        if isinstance(chain, RayTaskError) and not isinstance(chain.cause, RayError):
            return True
        chain = chain.__cause__
    return not isinstance(error, RayError) and not isinstance(error.__cause__, RayError)


class _Stopped(BaseException):
    """Ends a pipeline that nobody is waiting for any more."""


def _stop(pipeline: threading.Thread) -> None:
    """End the pipeline's thread, and with it the pipeline: Ray closes one whose consumer raises.

    Leaving it alive would let it call Ray after a shutdown, which starts a second cluster.
    """
    if pipeline.is_alive() and pipeline.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(pipeline.ident), ctypes.py_object(_Stopped)
        )
    pipeline.join(timeout=_STOP_SECONDS)


def _explained(error: BaseException | None) -> ForecastRunError:
    """One line about what went wrong in a worker, from the traceback that Ray sends as text."""
    if error is None:
        return ForecastRunError(
            "the replicas ended without an error but left shards unfinished; is the folder of "
            "--out visible to every node? The same command resumes what was finished"
        )
    raised = _RAISED.findall(str(error))
    ours = [each for each in raised if hasattr(errors, each[0])]  # these name file and remedy
    name, text = (ours or raised or [(type(error).__name__, "")])[0]
    cause = f"{name}: {text}".removesuffix(": ")
    return ForecastRunError(
        f"the replicas could not finish ({cause}); what was finished is kept, and the same command "
        "resumes it"
    )
