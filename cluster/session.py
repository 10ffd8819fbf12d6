"""Starting Ray, or joining it, and leaving it. Knows resources; nothing of forecasts.

A local Ray is started without dashboard, usage statistics or chatter, sized so that a reader
always finds a CPU beside the replicas: without that, a pipeline waits forever without a word.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, Literal

from cluster.loopback import is_loopback, loopback, private_token
from market.errors import ConfigError

READER_CPUS = 0.5
"""CPU that must be left for reading when a run starts."""
READER_CLAIM = 0.0
"""CPU a read task asks Ray for. None: where a node was lost and replicas took every CPU that is
left, a reader that claimed one would wait forever, and the replicas with it. It differs from a
replica's, so that Ray does not fuse the two; how many run at once is bounded by their pool."""
REPLICA_CPUS = 1.0
_CONNECT_SECONDS = 5.0
_OBJECT_STORE_BYTES = 10**9  # series pass through it, never windows or paths

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's own processes log to files; what a user must know arrives as an exception.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # A pipeline's thread that outlives ray.shutdown() must not start a second cluster.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # Local runs never ask for GPUs through Ray, so devices stay as the user's shell shows them.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # How soon a training run notices that it ended, or that a worker died.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
}
_PACKAGES = ("candlecast", "market", "forecaster", "backtest", "cluster")
_HOME = Path(__file__).resolve().parent.parent
_WORKER_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}


@dataclass(frozen=True)
class Pool:
    """How many replicas run."""

    least: int
    """Started at once."""
    most: int
    """Grown to while there is work and room."""
    gpus: float = 0.0
    """Of each replica."""


def replica_bounds(replicas: int | str) -> tuple[int, int] | None:
    """Bounds of "4" or "2:8"; None for auto."""
    if replicas == "auto":
        return None
    least, _, most = str(replicas).partition(":")
    return int(least), int(most or least)


@contextmanager
def replica_pool(
    replicas: int | str, work: int, address: str | None = None, gpus: float = 0.0
) -> Iterator[Pool]:
    """Ray is up inside the block; yields the pool that fits on it.

    replicas: a number, "min:max", or auto. work: units of work, more replicas would stand idle.
    gpus: of each replica; a fraction lets several share a device.
    Raises ConfigError as ray_session does, and where the GPUs are missing.
    """
    bounds = replica_bounds(replicas)
    wanted: int | Literal["auto"] = "auto" if bounds is None else bounds[1]
    least = 1 if bounds is None else bounds[0]
    with ray_session(wanted, work, address, least=least, gpus=gpus) as most:
        yield Pool(most if bounds is None else min(bounds[0], most), most, gpus)


@contextmanager
def ray_session(
    replicas: int | Literal["auto"],
    most: int,
    address: str | None = None,
    *,
    least: int | None = None,
    gpus: float = 0.0,
) -> Iterator[int]:
    """Ray is up inside the block; yields how many replicas to run.

    replicas: how many, or auto: one per core of this machine, or as many as a joined cluster has
    CPUs for. most: more would have nothing to do. least: enough to begin with; a cluster
    may grow to the rest. gpus: of each replica.

    A Ray that already runs in this process is used and left running. A local one gets one CPU more
    than there are replicas, for readers. Raises ConfigError where a cluster cannot be reached or
    has no room for the replicas and a reader.
    """
    wanted = min(_cores() if replicas == "auto" else replicas, most)
    with _ray(address, local_cpus=wanted + 1, gpus=gpus > 0) as (ray, started):
        local = started and address is None and not gpus
        yield wanted if local else _fitting(ray, replicas, most, least, gpus)


@contextmanager
def training_session(
    workers: int, address: str | None = None, *, gpus: bool = False, threads: int = 1
) -> Iterator[None]:
    """Ray is up inside the block, with room for that many training workers.

    gpus: each worker takes one. threads: CPUs each of them computes on. Raises ConfigError where
    there are not enough CPUs or GPUs, or a cluster cannot be reached.
    """
    require_cpus(workers, threads, address, gpus=gpus)
    with _ray(address, local_cpus=max(workers, _cores()) + 1, gpus=gpus) as (ray, _):
        has = ray.cluster_resources()
        for name, need in (("CPU", workers), ("GPU", workers if gpus else 0)):
            found = float(has.get(name, 0.0))
            if found < need:
                raise ConfigError(
                    f"--workers {workers}{' --gpus' if gpus else ''}: {need} {name}s are needed "
                    f"and there are {found:g}; lower --workers"
                    f"{', or leave --gpus away' if name == 'GPU' else ''}, or join a larger "
                    "cluster with --address"
                )
        yield


def require_cpus(
    workers: int, threads: int, address: str | None = None, *, gpus: bool = False
) -> None:
    """Raises ConfigError where this machine is to compute on more CPUs than it has."""
    if address is None and not gpus and workers * threads > _cores():
        raise ConfigError(
            f"--workers {workers} with {threads} thread(s) each: this machine has {_cores()} "
            f"CPUs; use --workers {max(1, _cores() // threads)}, or join a cluster with --address"
        )


@contextmanager
def _ray(address: str | None, *, local_cpus: int, gpus: bool) -> Iterator[tuple[Any, bool]]:
    """Ray inside the block, and whether it was started for it."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.data

    if ray.is_initialized():
        _quiet(ray)
        yield ray, False
        return
    try:
        with _own_sigterm():
            _start(ray, address, local_cpus=local_cpus, gpus=gpus)
        _quiet(ray)
        yield ray, True
    finally:
        ray.shutdown()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start(ray: Any, address: str | None, local_cpus: int, gpus: bool) -> None:
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with warnings.catch_warnings(), _mute_stderr(), worker_import_path() as import_path:
        warnings.simplefilter("ignore")  # Ray's own deprecations: nothing a user could act on
        if address is not None:
            _require_listener(address)
            own_machine = loopback() if is_loopback(address) else nullcontext()
            try:
                with own_machine:
                    joining = {"env_vars": _WORKER_ENVIRONMENT, **import_path}
                    ray.init(address=address, runtime_env=joining, **common)
            except ray.exceptions.AuthenticationError as error:
                raise ConfigError(_refused(address)) from error
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                # Of a token it does not like, Ray's head says only that there is no connection.
                heard = isinstance(error, ConnectionError) and ":" in address
                told = _refused(address) if heard else _unreachable(address, error)
                raise ConfigError(told) from error
        else:
            private_token()
            # Inherited rather than a runtime_env, which would start every worker a second time.
            with _environment(_WORKER_ENVIRONMENT), loopback():
                ray.init(
                    address="local",
                    num_cpus=local_cpus,
                    num_gpus=None if gpus else 0,
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    runtime_env=import_path or None,
                    **common,
                )


def _require_listener(address: str) -> None:
    """Ray would wait minutes for a cluster that is not there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # "auto" and other names that Ray resolves
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise ConfigError(_unreachable(address, error)) from error


def _unreachable(address: str, error: Exception) -> str:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return (
        f"--address {address}: no Ray cluster answers there ({reason}); start one with "
        "'ray start --head', or leave --address away to run locally"
    )


def _refused(address: str) -> str:
    return (
        f"--address {address}: a process listens there but refused {socket.gethostname()}: its "
        "token is another one (copy the head's ~/.ray/auth_token to this machine, or name its copy "
        "in RAY_AUTH_TOKEN_PATH), or it is no Ray head of this version"
    )


@contextmanager
def worker_import_path() -> Iterator[dict[str, str]]:
    """What keeps a user's files from hiding our packages in workers, as parts of a runtime_env.

    Ray puts the driver's working directory first on its workers' import path, unless the job names
    a working directory of its own: an empty one, then. That starts every worker a second time, so
    it is done only where a file or folder there has the name of one of our packages.
    """
    here = os.getcwd()
    found = [PathFinder.find_spec(name, [here]) for name in _PACKAGES]
    if all(spec is None or _is_ours(spec) for spec in found):
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="candlecast-empty-") as folder:
        yield {"working_dir": folder}


def _is_ours(spec: ModuleSpec) -> bool:
    places = [spec.origin] if spec.has_location else spec.submodule_search_locations or []
    return all(place and Path(place).resolve().is_relative_to(_HOME) for place in places)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Environment variables for processes started inside the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray exits at once on SIGTERM, leaving its processes to die by themselves; ours clean up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _mute_stderr() -> Iterator[None]:
    """Drop what native code writes to the terminal: Ray greets there whatever its log level."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _quiet(ray: Any) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    for handler in logging.getLogger("ray.data").handlers:
        if handler.get_name() == "console":  # its file keeps everything; errors reach us raised
            handler.setLevel(logging.CRITICAL + 1)


def _fitting(
    ray: Any, replicas: int | Literal["auto"], most: int, least: int | None, gpus: float
) -> int:
    """Replicas that fit beside one reader on what the cluster has, or may grow to."""
    has = ray.cluster_resources()
    cpus, devices = float(has.get("CPU", 0.0)), float(has.get("GPU", 0.0))
    room = int((cpus - READER_CPUS) // REPLICA_CPUS)
    if gpus:
        room = min(room, int(devices / gpus + 1e-9))
    wanted = most if replicas == "auto" else min(replicas, most)
    needed = 1 if replicas == "auto" else min(wanted, least or wanted)
    if room < needed:
        per_replica = f"{REPLICA_CPUS:g} each" + (f" and {gpus:g} GPU" if gpus else "")
        found = f"{cpus:g} CPUs" + (f" and {devices:g} GPUs" if gpus else "")
        raise ConfigError(
            f"the Ray cluster has {found}, but {needed} replica(s) need {per_replica} "
            f"and a reader {READER_CPUS:g}; lower --replicas, or give the cluster more "
            f"(ray start --num-cpus={needed + 1})"
        )
    return wanted if replicas != "auto" else min(room, most)
