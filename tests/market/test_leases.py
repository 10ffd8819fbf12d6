"""Leases: one holder at a time, free when its process is dead or silent, never two for long."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from market import leases
from market.errors import StoreError
from market.leases import Holder, LeaseHeldError, LeaseLostError, hold, live_leases, read_lease
from market.storage import Folder

HOLDS_UNTIL_KILLED = """
import sys, time
from market.leases import hold
from market.storage import Folder
with hold(Folder(sys.argv[1]), "night"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "leases")


def test_a_held_lease_is_refused_and_names_its_holder(folder: Folder) -> None:
    with hold(folder, "night") as lease:
        with pytest.raises(LeaseHeldError, match=r"night is running elsewhere: process \d+ on "):
            hold(folder, "night").__enter__()
        with hold(folder, "another"):
            assert set(live_leases(folder)) == {"night", "another"}
        lease.require()
    assert read_lease(folder, "night") is None


def test_of_many_at_once_one_gets_it(folder: Folder) -> None:
    with ExitStack() as stack:

        def take(_: int) -> bool:
            try:
                stack.enter_context(hold(folder, "night"))
            except LeaseHeldError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(take, range(8))) == 1


def test_a_killed_process_frees_its_lease_at_once(folder: Folder) -> None:
    command = [sys.executable, "-c", HOLDS_UNTIL_KILLED, folder.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LeaseHeldError, match=f"process {holder.pid} on "):
            hold(folder, "night").__enter__()
        holder.kill()
        holder.wait()
    with hold(folder, "night") as lease:
        lease.require()


def test_one_silent_for_too_long_on_another_machine_is_taken_over(folder: Folder) -> None:
    elsewhere = replace(Holder.here(), host="elsewhere", owner="them")
    folder.write("night.lease.json", elsewhere.encode())
    with pytest.raises(LeaseHeldError, match="on elsewhere"):
        hold(folder, "night").__enter__()
    silent = replace(elsewhere, beat=elsewhere.beat - timedelta(seconds=2 * leases.TTL_S))
    folder.write("night.lease.json", silent.encode())
    with hold(folder, "night"):
        found = read_lease(folder, "night")
        assert found is not None
        assert found.host != "elsewhere"


def test_who_was_taken_over_finds_out(folder: Folder) -> None:
    with hold(folder, "night") as lease:
        thief = replace(Holder.here(), owner="thief")
        folder.write("night.lease.json", thief.encode())
        with pytest.raises(LeaseLostError, match="run the same command again"):
            lease.require()
    found = read_lease(folder, "night")
    assert found is not None
    assert found.owner == "thief", "a lost lease is not removed from under its new holder"


def test_the_heartbeat_moves_on(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "TTL_S", 0.2)
    with hold(folder, "night"):
        first = read_lease(folder, "night")
        assert first is not None
        for _ in range(100):
            time.sleep(0.05)
            later = read_lease(folder, "night")
            if later is not None and later.beat > first.beat:
                break
        else:
            pytest.fail("the lease showed no sign of life")


def test_a_damaged_lease_file_stops_nobody(folder: Folder) -> None:
    folder.write("night.lease.json", b'{"owner": ')
    with hold(folder, "night") as lease:
        lease.require()


class LosesAnswers(Folder):
    """Does what it is told, and then says that it failed: an object store over a bad network."""

    lost = 0

    def swap(self, name: str, old: bytes | None, new: bytes | None) -> bool:
        done = super().swap(name, old, new)
        if self.lost:
            self.lost -= 1
            raise StoreError(f"{self}: the object store refused (timeout)")
        return done


def test_a_heartbeat_whose_answer_was_lost_loses_no_lease(tmp_path: Path) -> None:
    folder = LosesAnswers(tmp_path)
    with hold(folder, "night") as lease:
        for _ in range(3):
            folder.lost = 1
            with pytest.raises(StoreError):
                lease.require()
            lease.require()
        folder.lost = 1
        with pytest.raises(StoreError):
            lease.require()
    assert live_leases(folder) == {}, "and it is given back at the end"
