"""A process that runs one command line after the other, and can come to harm in between.

Starting Python, Ray and its workers takes far longer than a small forecast, so commands share them
until one is killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from soak_victims import MARK

LEASE_S = 4.0
"""How long a lease lives without a heartbeat in these runs, so that a sleeper need not sleep
long."""
_RUNNER = f"""
import json, sys, traceback
import market.leases
from cluster.cli import main
from cluster.session import ray_session
market.leases.TTL_S = {LEASE_S}
address = sys.argv[1] or None
with ray_session("auto", 2, address):
    print("ready", flush=True)
    for line in sys.stdin:
        sys.argv = ["candlecast", *json.loads(line)]
        try:
            code = main()
        except SystemExit as ended:
            code = ended.code
        except Exception:
            traceback.print_exc()
            code = 1
        print("code", int(code or 0), flush=True)
"""
_CLUSTER = """
import sys
from ray.cluster_utils import Cluster
size = {"num_cpus": 1, "object_store_memory": 10**8}
cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
for _ in range(2):
    cluster.add_node(**size)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
_QUICK_HEALTH_CHECKS = {
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


class Runner:
    """One such process, and what its commands said."""

    def __init__(
        self, log: Path, environment: Mapping[str, str], address: str | None = None
    ) -> None:
        self.mark = uuid.uuid4().hex
        """Of this process and all that Ray starts for it."""
        self._log = log.open("ab")
        self._said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", _RUNNER, address or ""],
            env=os.environ | dict(environment) | {MARK: self.mark},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        threading.Thread(target=self._listen, args=[self.process.stdout], daemon=True).start()
        self._wait_for("ready", 240)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def busy(self) -> bool:
        """At a command."""
        return self.alive and not any(line.startswith("code ") for line in self._said)

    def begin(self, words: Sequence[str]) -> None:
        """Start a command; `busy` until it ended or its process died."""
        self._said.clear()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(list(words)) + "\n")
            self.process.stdin.flush()

    def code(self, timeout: float = 300) -> int:
        """Exit code of the command, or of the process that died at it."""
        self._wait_for("code ", timeout)
        found = [line for line in self._said if line.startswith("code ")]
        return int(found[-1].split()[1]) if found else int(self.process.returncode)

    def end(self) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(timeout=90)
        self._log.close()

    def _listen(self, stream: IO[str]) -> None:
        for line in stream:
            self._said.append(line.strip())

    def _wait_for(self, start: str, timeout: float) -> None:
        until = time.monotonic() + timeout
        while self.alive and not any(line.startswith(start) for line in list(self._said)):
            if time.monotonic() > until:
                raise TimeoutError(f"no {start!r} within {timeout:g} s")
            time.sleep(0.02)


@contextmanager
def three_nodes(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Address and mark of a Ray cluster of three raylets on this machine."""
    mark = uuid.uuid4().hex
    with subprocess.Popen(
        [sys.executable, "-c", _CLUSTER],
        env=os.environ | _QUICK_HEALTH_CHECKS | dict(environment) | {MARK: mark},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip(), mark
        finally:
            process.stdin.close()
            process.wait(timeout=60)
