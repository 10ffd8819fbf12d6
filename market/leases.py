"""Leases: who works on what, shown by a heartbeat, so that two drivers do not do the same work.

A lease saves work and nothing more. What keeps a table right when a lease fails (a paused process,
clocks that disagree) is the transaction id of every commit, which the commit itself checks.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from market.errors import CandlecastError, StoreError
from market.storage import Folder

TTL_S = 60.0
"""A lease without a heartbeat for this long is free for the taking."""
_POLL_SECONDS = 0.5


class LeaseHeldError(CandlecastError):
    """Somebody else is at work."""

    def __init__(self, name: str, holder: Holder) -> None:
        super().__init__(
            f"{name} is running elsewhere: {holder}; wait for it to end, or stop it and run the "
            f"same command again ({TTL_S:g} s after its last heartbeat the lease is free)"
        )
        self.holder = holder


class LeaseLostError(CandlecastError):
    """This process was silent for too long and another one took over."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease."""

    owner: str
    """Unique to one acquisition."""
    host: str
    boot: str
    """Changes when the machine restarts."""
    pid: int
    started: str
    """Start of the process, in the system's own count: tells a pid from its successor."""
    since: datetime
    beat: datetime
    """Last sign of life, by the holder's clock."""

    @classmethod
    def here(cls) -> Holder:
        now = datetime.now(UTC)
        return cls(
            owner=uuid.uuid4().hex,
            host=socket.gethostname(),
            boot=_boot(),
            pid=os.getpid(),
            started=_process_start(os.getpid()) or "",
            since=now,
            beat=now,
        )

    @classmethod
    def decode(cls, content: bytes) -> Holder:
        fields = json.loads(content)
        moments = {key: datetime.fromisoformat(fields[key]) for key in ("since", "beat")}
        return cls(**{**fields, **moments})

    def encode(self) -> bytes:
        moments = {"since": self.since.isoformat(), "beat": self.beat.isoformat()}
        return json.dumps(asdict(self) | moments).encode()

    @property
    def alive(self) -> bool:
        """Seen lately, and not known to be dead: a killed process of this machine is known."""
        if datetime.now(UTC) - self.beat > timedelta(seconds=TTL_S):
            return False
        if (self.host, self.boot) != (socket.gethostname(), _boot()):
            return True
        return _process_start(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since:%Y-%m-%d %H:%M:%S} UTC"


class Lease:
    """A held lease. `require` before anything that others would see."""

    def __init__(self, folder: Folder, name: str, holder: Holder) -> None:
        self._folder, self._name, self._holder = folder, name, holder
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{name}", daemon=True)
        self._thread.start()

    def require(self) -> None:
        """Raises LeaseLostError where another process holds the lease by now."""
        if self._lost.is_set() or not self._mine():
            raise LeaseLostError(
                f"{self._name}: this process gave no sign of life for {TTL_S:g} s and "
                f"{read_lease(self._folder, self._name)} took over; run the same command again"
            )

    def release(self) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(CandlecastError, OSError):
            found = read_lease(self._folder, self._name)
            if found is not None and found.owner == self._holder.owner:
                self._folder.remove(_file(self._name))

    def _beat(self) -> None:
        while not self._ended.wait(TTL_S / 4):
            try:
                if not self._mine():
                    self._lost.set()
                    return
                self._holder = replace(self._holder, beat=datetime.now(UTC))
                self._folder.write(_file(self._name), self._holder.encode())
            except (CandlecastError, OSError):
                continue  # a store that hiccups: the next beat may get through

    def _mine(self) -> bool:
        """Whether the lease is still ours; one that somebody removed is taken again."""
        found = read_lease(self._folder, self._name)
        if found is None:
            return self._folder.create(_file(self._name), self._holder.encode())
        return found.owner == self._holder.owner


@contextmanager
def hold(
    folder: Folder,
    name: str,
    *,
    wait_s: float = 0.0,
    waiting: Callable[[], object] = lambda: None,
) -> Iterator[Lease]:
    """Hold `name` inside the block, with a heartbeat from a thread.

    wait_s: how long to wait for a living holder to end, in seconds; `waiting` is called at every
    look. Raises LeaseHeldError where a living process still holds it then. A lease of a dead
    process, or without a heartbeat for TTL_S, is taken over.
    """
    until = time.monotonic() + wait_s
    while True:
        try:
            lease = _take(folder, name)
            break
        except LeaseHeldError:
            if time.monotonic() >= until:
                raise
            waiting()
            time.sleep(_POLL_SECONDS)
    try:
        yield lease
    finally:
        lease.release()


def _take(folder: Folder, name: str) -> Lease:
    mine = Holder.here()
    for _ in range(3):  # several may find the same dead lease; one create succeeds
        if folder.create(_file(name), mine.encode()):
            break
        found = read_lease(folder, name)
        if found is not None and found.alive:
            raise LeaseHeldError(name, found)
        folder.remove(_file(name))
    else:
        raise StoreError(f"{folder}: the lease {name} changes hands too fast; try again")
    return Lease(folder, name, mine)


def read_lease(folder: Folder, name: str) -> Holder | None:
    """Who holds a lease, dead or alive; None where nobody does or its file is damaged."""
    try:
        return Holder.decode(folder.read(_file(name)))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def live_leases(folder: Folder) -> dict[str, Holder]:
    """Every lease of a living process."""
    names = [name.removesuffix(_ENDING) for name in folder.names(_ENDING)]
    found = {name: read_lease(folder, name) for name in names}
    return {name: holder for name, holder in found.items() if holder is not None and holder.alive}


_ENDING = ".lease.json"


def _file(name: str) -> str:
    return f"{name}{_ENDING}"


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _process_start(pid: int) -> str | None:
    """The process's start in clock ticks since boot; None where there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    else:
        fields = stat.rsplit(")", 1)[1].split()
        return None if fields[0] == "Z" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""
