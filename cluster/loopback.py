"""Who may come in to a local Ray: this machine, with its owner's token. Knows Ray's switches."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any


def is_loopback(address: str) -> bool:
    """Whether an address of a cluster, HOST:PORT, is one of this machine's alone."""
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


@contextmanager
def loopback() -> Iterator[None]:
    """A Ray started inside the block listens on 127.0.0.1 alone, and one there can be joined.

    Ray has no option for that: it does so where it was told not to build clusters, a switch made
    for systems whose firewalls ask about every port.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR  # for the processes that it starts
    told = os.environ.get(name)
    os.environ[name] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        if told is None:
            del os.environ[name]
        else:
            os.environ[name] = told


def private_token() -> Path:
    """The file of Ray's token, made where it is missing, readable by its owner alone.

    Ray would make it readable by everybody who has an account on the machine.
    """
    path = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):  # Ray says itself what it cannot read or write
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32))
        path.chmod(0o600)
    return path


def serve_at_own_address() -> None:
    """Ray Serve's replica in this process listens at its node's own address, not at every one.

    Serve opens a port in each replica for requests of other deployments, which Ray's token guards,
    on all addresses of the machine, and has no option for it. On a Ray of this machine alone the
    node's address is 127.0.0.1.
    """
    util: Any = import_module("ray.util")
    replica: Any = import_module("ray.serve._private.replica")
    add_port, own = replica.add_port_to_grpc_server, util.get_node_ip_address()
    host = f"[{own}]" if ":" in own else own

    def at_own_address(server: object, address: str) -> object:
        return add_port(server, f"{host}:{address.rpartition(':')[2]}")

    replica.add_port_to_grpc_server = at_own_address
