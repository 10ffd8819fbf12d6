"""Leases: who works on what, shown by a heartbeat, so that two drivers do not do the same work.

A lease is one file that changes hands in compare-and-swap steps: who finds it dead replaces exactly
the content that was found dead, so that nobody can remove a lease that lives. A holder that was
paused for longer than TTL_S finds out at its next `require`; what keeps a table right between that
look and the write (or where clocks disagree) is the transaction id that every commit checks.
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
_TRIES = 5


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
        self._renewed = time.time()
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._beat, name=f"lease-{name}", daemon=True)
        self._thread.start()

    def require(self) -> None:
        """Show a sign of life. Raises LeaseLostError where another process took over meanwhile."""
        if not self._renew():
            now = read_lease(self._folder, self._name)
            raise LeaseLostError(
                f"{self._name}: this process gave no sign of life for {TTL_S:g} s and "
                f"{now or 'another one'} took over; run the same command again"
            )

    def release(self) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(CandlecastError, OSError):
            found = _content(self._folder, _file(self._name))
            if self._is_ours(found):
                self._folder.swap(_file(self._name), found, None)

    def _beat(self) -> None:
        while not self._ended.wait(TTL_S / 4):
            try:
                if not self._renew():
                    return
            except (CandlecastError, OSError):
                continue  # a store that hiccups: the next beat may get through

    def _renew(self) -> bool:
        """Move the heartbeat on, in one step with the look whether the lease is still ours.

        One that somebody removed is taken again, unless this process slept so long that another
        one may have come and gone. What was lost once stays lost.
        """
        with self._turn:
            if self._lost:
                return False
            name, before = _file(self._name), self._holder.encode()
            fresh = replace(self._holder, beat=datetime.now(UTC))
            if not self._folder.swap(name, before, fresh.encode()):
                found = _content(self._folder, name)
                gone = found is None and time.time() - self._renewed < TTL_S
                # A heartbeat whose answer was lost may have got through: then it is still ours.
                ours = self._is_ours(found)
                if not (
                    (gone and self._folder.swap(name, None, fresh.encode()))
                    or (ours and self._folder.swap(name, found, fresh.encode()))
                ):
                    # A neighbour's swap may have kept this one waiting: then nothing changed.
                    self._lost = not ours
                    return ours
            self._holder, self._renewed = fresh, time.time()
            return True

    def _is_ours(self, content: bytes | None) -> bool:
        held = _decoded(content)
        return held is not None and held.owner == self._holder.owner


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
    for _ in range(_TRIES):
        before = _content(folder, _file(name))
        found = _decoded(before)
        if found is not None and found.alive:
            raise LeaseHeldError(name, found)
        # In one step with the look: of several that find the same dead lease, one gets it.
        if folder.swap(_file(name), before, mine.encode()):
            return Lease(folder, name, mine)
    raise StoreError(f"{folder}: the lease {name} changes hands too fast; try again")


def _content(folder: Folder, name: str) -> bytes | None:
    try:
        return folder.read(name)
    except FileNotFoundError:
        return None


def _decoded(content: bytes | None) -> Holder | None:
    """None where there is no lease, or a damaged one."""
    try:
        return None if content is None else Holder.decode(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def read_lease(folder: Folder, name: str) -> Holder | None:
    """Who holds a lease, dead or alive; None where nobody does or its file is damaged."""
    return _decoded(_content(folder, _file(name)))


def live_leases(folder: Folder) -> dict[str, Holder]:
    """Every lease of a living process."""
    names = [name.removesuffix(_ENDING) for name in folder.names(_ENDING)]
    found = {name: read_lease(folder, name) for name in names}
    return {name: holder for name, holder in found.items() if holder is not None and holder.alive}


def remove_dead(folder: Folder, *, dry_run: bool = False) -> list[str]:
    """Remove leases of dead processes and damaged ones, and no other; their names."""
    removed = []
    for file in folder.names(_ENDING):
        content = _content(folder, file)
        holder = _decoded(content)
        if content is None or (holder is not None and holder.alive):
            continue
        if dry_run or folder.swap(file, content, None):
            removed.append(file.removesuffix(_ENDING))
    return removed


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
