"""Who may come in to a local Ray: processes of this machine that have its owner's token."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
import ray

from cluster.loopback import is_loopback, private_token

LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def children(of: int) -> set[int]:
    """A process and all that descend from it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found = {of}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening(pids: set[int]) -> list[str]:
    """Addresses, in the kernel's own writing, on which these processes wait for connections."""
    sockets = set()
    for pid in pids:
        try:
            descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            continue
        for each in descriptors:
            try:
                sockets.add(os.readlink(each))
            except OSError:
                continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and f"socket:[{columns[9]}]" in sockets:
                found.append(columns[1].split(":")[0])
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_local_ray_listens_on_the_loopback_alone(local_ray: None) -> None:
    worker = ray.remote(lambda: os.getpid())
    assert ray.get(worker.remote()) != os.getpid()
    addresses = listening(children(os.getpid()))
    assert len(addresses) >= 4, "gcs, raylet, driver and worker"
    assert set(addresses) <= LOOPBACK


def test_the_token_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = private_token()
    token = path.read_text()
    assert path == tmp_path / ".ray" / "auth_token"
    assert len(token) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)  # as Ray leaves it
    assert private_token().read_text() == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1:6379", True), ("localhost:6379", True), ("[::1]:6379", True),
        ("10.0.0.7:6379", False), ("head:6379", False), ("auto", False),
        ("127-head.example:6379", False),
    ],
)  # fmt: skip
def test_addresses_of_this_machine_alone(address: str, own: bool) -> None:
    assert is_loopback(address) is own
