"""Forecasts on demand from a Ray cluster: the models as a deployment of Ray Serve. Knows no HTTP.

Serve's own doors stay shut: no proxy is started, the application has no route, and requests come
through the handle that the console holds. Every replica is the queue and the models of a console
without a cluster, so that requests which come together are computed together, and the numbers are
the same whichever replica answers.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from cluster.console.ondemand import (
    Ask,
    BusyError,
    Forecasts,
    LocalModels,
    Made,
    OnDemand,
    Shipped,
)
from cluster.console.settings import ServeSettings
from cluster.forecasting.weights import shared_weights
from cluster.forecasting.work import Task
from cluster.loopback import serve_at_own_address
from cluster.session import REPLICA_CPUS, Pool, ray_session, replica_pool
from forecaster.registry import LoadedModel
from market.errors import CandlecastError, CheckpointError, ConfigError
from market.windows import SymbolSeries, Window

_MOST_REPLICAS = 8
"""Without GPUs, where nobody says how many."""
_ONGOING = 64
"""Requests a replica takes at a time: as many as it computes together."""
_START_S = 180.0
_TRIES = 3
"""Of one request: a replica that dies with it is replaced, and the numbers do not change."""
_NAME = "model"


@dataclass(frozen=True)
class _ReplicaJob:
    """What every replica is told."""

    names: tuple[str, ...]
    tokenizer: str | None
    device: str
    most: int


class ModelReplica:
    """One copy of the models, on Ray."""

    def __init__(self, job: _ReplicaJob, shipped: Sequence[Any]) -> None:
        """shipped: a reference to Shipped, in a list."""
        import ray

        serve_at_own_address()
        self._broken: CandlecastError | None = None
        models = LocalModels(
            job.names, job.tokenizer, device=job.device, shipped=ray.get(shipped[0])
        )
        try:
            models.load(job.names[0])
        except Exception as error:
            # Told by the first call: Serve would start a replica that raises again and again.
            self._broken = CheckpointError(f"{type(error).__name__}: {error}")
        self._queue = OnDemand(models, job.most)

    async def ready(self) -> CandlecastError | None:
        """Why this replica cannot forecast; None where it can."""
        return self._broken

    async def __call__(self, ask: Ask, task: Task) -> Made | CandlecastError:
        """One forecast, or why there is none: raised, it would come with Ray's traceback."""
        if self._broken is not None:
            return self._broken
        try:
            return await asyncio.wrap_future(self._queue.submit(ask, task))
        except CandlecastError as error:
            return error


class _Remote:
    """A forecast that a replica is at work on."""

    def __init__(self, handle: Any, ask: Ask, task: Task) -> None:
        self._handle, self._asked = handle, (ask, task)
        self._response = handle.remote(ask, task)

    def result(self, timeout: float | None = None) -> Made:
        """See Answer. Raises CandlecastError where the cluster cannot answer."""
        from ray.exceptions import RayError
        from ray.serve.exceptions import BackPressureError, RayServeException

        until = None if timeout is None else time.monotonic() + timeout
        lost: Exception | None = None
        for _ in range(_TRIES):
            left = None if until is None else max(0.0, until - time.monotonic())
            try:
                found = self._response.result(timeout_s=left)
            except BackPressureError:
                raise BusyError(
                    "too many forecasts are waited for; try again in a moment"
                ) from None
            except TimeoutError:
                raise
            except (RayError, RayServeException) as error:
                lost = error
                self._response = self._handle.remote(*self._asked)
                continue
            if isinstance(found, CandlecastError):
                raise found
            return cast(Made, found)
        raise CandlecastError(
            f"the cluster lost the forecast {_TRIES} times ({type(lost).__name__}); look at "
            "'ray status', or start the console again"
        )


class OnCluster:
    """Forecasts of a deployment, as the console asks for them."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def submit(self, ask: Ask, task: Task) -> _Remote:
        """A forecast to come, of which the cluster gets the bars of the window alone."""
        return _Remote(self._handle, ask, _window_alone(task))

    def close(self) -> None:
        """Nothing of the console works in the background; the deployment ends with its block."""


def _window_alone(task: Task) -> Task:
    series, window = task
    rows = slice(window.first, window.last)
    cut = SymbolSeries(
        series.symbol, series.timestamps_N[rows], series.sessions_N[rows],
        series.close_utc_N[rows], series.values_NF[rows].copy(), series.flags_N[rows],
        series.actions,
    )  # fmt: skip
    return Task(cut, Window(window.symbol, window.as_of, 0, window.last - window.first))


@contextmanager
def forecasts_of(settings: ServeSettings, models: LocalModels, port: int) -> Iterator[Forecasts]:
    """Where the forecasts of a console at a port come from: the models here, or a cluster's.

    Raises what on_cluster and the loading of a model raise.
    """
    if settings.address is None:
        yield OnDemand(models, settings.max_waiting)
        return
    loaded = models.load(models.names[0])
    with on_cluster(settings, models.names, loaded, f"{socket.gethostname()}-{port}") as made:
        yield made


@contextmanager
def on_cluster(
    settings: ServeSettings, names: Sequence[str], loaded: LoadedModel, place: str
) -> Iterator[OnCluster]:
    """The models are deployed on the cluster of settings.address inside the block.

    names: models that may be asked for, the first of which is `loaded`. place: where the console
    is; one that starts there again takes over what an earlier one left behind. Raises ConfigError
    where Serve is not installed or the cluster has no room, CheckpointError where a replica cannot
    load the model.
    """
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")  # read when Serve is imported
    with ray_session(1, 1, settings.address):
        serve = _serve()
        from ray.serve.config import ProxyLocation

        ray: Any = import_module("ray")

        ours = not _runs(ray)
        gpus = settings.gpus_per_replica
        if gpus is None:
            gpus = 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0
        app = f"candlecast-{place}"
        with replica_pool(settings.replicas, _most(settings), settings.address, gpus) as pool:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Serve's own: nothing a user could act on
                    if ours:
                        serve.start(proxy_location=ProxyLocation.Disabled)
                    shipped = Shipped(
                        shared_weights(loaded), loaded.trained_through,
                        loaded.forecaster.model_id,
                    )  # fmt: skip
                    handle = _deployed(serve, settings, tuple(names), pool, app, ray.put(shipped))
                yield OnCluster(handle)
            finally:
                with suppress(Exception):  # a cluster that is gone has nothing left to end
                    serve.delete(app)
                    if ours and not serve.status().applications:
                        serve.shutdown()


def _most(settings: ServeSettings) -> int:
    return _ONGOING if settings.replicas != "auto" else _MOST_REPLICAS


def _deployed(
    serve: Any, settings: ServeSettings, names: tuple[str, ...], pool: Pool, app: str, shipped: Any
) -> Any:
    """The application once it runs; its handle."""
    job = _ReplicaJob(
        names, settings.tokenizer, "cuda:0" if pool.gpus else "cpu", settings.max_waiting
    )
    least = 1 if settings.replicas == "auto" and not pool.gpus else pool.least
    count: dict[str, Any] = {"num_replicas": pool.most}
    if least < pool.most:
        count = {"autoscaling_config": {
            "min_replicas": least, "max_replicas": pool.most, "initial_replicas": least,
            "target_ongoing_requests": _ONGOING // 4,
        }}  # fmt: skip
    deployment = serve.deployment(
        ModelReplica, name=_NAME, max_ongoing_requests=_ONGOING,
        max_queued_requests=settings.max_waiting,
        ray_actor_options={"num_cpus": REPLICA_CPUS, "num_gpus": pool.gpus}, **count,
    )  # fmt: skip
    target = serve.RunTarget(deployment.bind(job, [shipped]), name=app, route_prefix=None)
    (handle,) = serve.run_many([target], wait_for_applications_running=False)
    until = time.monotonic() + _START_S
    while serve.status().applications[app].status != "RUNNING":
        if time.monotonic() > until:
            raise ConfigError(
                f"--address {settings.address}: no replica started in {_START_S:.0f} s; is the "
                "cluster busy with something else? 'ray status' tells"
            )
        time.sleep(0.1)
    broken = handle.ready.remote().result(timeout_s=_START_S)
    if broken is not None:
        raise broken
    return handle


def _serve() -> Any:
    try:
        from ray import serve
    except ImportError as error:
        raise ConfigError(
            "--address needs Ray Serve here and on the cluster: pip install 'candlecast[serve]' "
            f"({error})"
        ) from None
    return serve


def _runs(ray: Any) -> bool:
    """Whether the cluster has a Serve already: then it is somebody's, and stays."""
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    try:
        ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return False
    return True
