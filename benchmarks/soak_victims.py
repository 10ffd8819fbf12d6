"""Processes of a round and how they come to harm. Linux only: victims are found in /proc."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from market.storage import Folder
from market.table.commits import newest_version

MARK = "CANDLECAST_SOAK_ROUND"
EVENTS = ("reader", "commit")
"""Kinds that wait for a short-lived thing instead of a random moment."""


@dataclass(frozen=True)
class Target:
    """A driver at work."""

    out: Folder
    mark: str
    """Of the processes that Ray starts for it."""
    driver: subprocess.Popen[str]
    rng: random.Random


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def processes(mark: str) -> list[tuple[int, str]]:
    """Processes that inherited a mark, with their command lines or titles."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f"{MARK}={mark}".encode() in environment and command:
                found.append((int(entry.name), command))
    return found


def wait_for_end(mark: str) -> list[str]:
    """Commands that still run 90 seconds after a round; Ray's agents take a while to notice."""
    for _ in range(180):
        left = processes(mark)
        if not left:
            return []
        time.sleep(0.5)
    return [command[:80] for _, command in left]


def at_work(out: Folder) -> bool:
    """Whether a replica has begun with a tile."""
    staging = out / "staging"
    return any((staging / f"{run}/notes").names(".note.json") for run in staging.names())


def _kill_titled(title: str, target: Target) -> bool:
    pids = [pid for pid, command in processes(target.mark) if command.startswith(title)]
    return bool(pids) and kill(target.rng.choice(pids))


def _kill_replica(target: Target) -> bool:
    title = "ray::MapWorker(MapBatches(Replica))"
    return at_work(target.out) and _kill_titled(title, target)


def _kill_reader(target: Target) -> bool:
    return _kill_titled("ray::Read", target)


def _kill_driver(target: Target) -> bool:
    return bool((target.out / "staging").names()) and kill(target.driver.pid)


def _kill_node(target: Target) -> bool:
    """A raylet that is neither the head's nor the driver's, while forecasts are made."""
    if not at_work(target.out):
        return False
    heads = {target.driver.pid}
    raylets = sorted(p for p, command in processes(target.mark) if "/raylet/raylet " in command)
    # The head starts first, and a driver on this machine belongs to its node.
    others = [pid for pid in raylets[1:] if pid not in heads]
    return bool(others) and kill(target.rng.choice(others))


def _kill_committer(target: Target) -> bool:
    """Right after a data file of the table appeared that no commit shows yet."""
    for kind in ("steps", "path_stats"):
        table = target.out / kind
        data = [name for name in table.files() if not name.startswith("_delta_log/")]
        if len(data) > (newest_version(table) or 0):
            return kill(target.driver.pid)
    return False


def _stop_driver(target: Target) -> bool:
    """To sleep until somebody wakes it."""
    if not (target.out / "staging").names() or target.driver.poll() is not None:
        return False
    os.kill(target.driver.pid, signal.SIGSTOP)
    return True


VICTIMS: dict[str, Callable[[Target], bool]] = {
    "replica": _kill_replica,
    "reader": _kill_reader,
    "driver": _kill_driver,
    "node": _kill_node,
    "commit": _kill_committer,
    "sleeper": _stop_driver,
}
