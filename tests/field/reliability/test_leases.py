"""Leases that change hands: one holder whatever the number of takers, on a disk and in S3."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from market import leases
from market.errors import StoreError
from market.leases import (
    Holder,
    LeaseHeldError,
    LeaseLostError,
    hold,
    read_lease,
    remove_dead,
)
from market.storage import Folder
from market.table.forecasts import ForecastTable
from tests.field.reliability.made_up import FIRST, MODEL, both, night

TAKERS = 4


def plant_dead(folder: Folder, name: str) -> None:
    """The lease of a machine that was silent for long."""
    now = Holder.here()
    silent = replace(now, host="elsewhere", beat=now.beat - timedelta(seconds=2 * leases.TTL_S))
    folder.write(f"{name}.lease.json", silent.encode())


def race(folder: Folder, rounds: int) -> None:
    """Many find the same dead lease at once, vacuum too; one gets it, and keeps it."""
    for nth in range(rounds):
        name = f"round-{nth}"
        plant_dead(folder, name)
        start, finish = threading.Barrier(TAKERS + 1), threading.Barrier(TAKERS)

        def take(name: str, start: threading.Barrier, finish: threading.Barrier) -> bool:
            start.wait()
            try:
                with hold(folder, name) as lease:
                    finish.wait()
                    lease.require()
                    return True
            except (LeaseHeldError, StoreError):
                finish.wait()
                return False

        def tidy(start: threading.Barrier) -> bool:
            start.wait()
            remove_dead(folder)
            return False

        with ThreadPoolExecutor(TAKERS + 1) as pool:
            tidying = pool.submit(tidy, start)
            takers = [pool.submit(take, name, start, finish) for _ in range(TAKERS)]
            held = [each.result() for each in takers]
            tidying.result()
        assert sum(held) == 1, f"round {nth}: {sum(held)} holders"
        assert read_lease(folder, name) is None, "released"


def test_of_many_takers_of_a_dead_lease_one_holds_it(tmp_path: Path) -> None:
    race(Folder(tmp_path / "leases"), rounds=60)


@pytest.mark.filterwarnings("ignore")  # s3fs's own event loop and deprecations
def test_so_in_an_object_store(bucket: str) -> None:
    race(Folder(bucket) / "leases", rounds=12)


@pytest.mark.filterwarnings("ignore")
def test_swaps_in_an_object_store_compare(bucket: str) -> None:
    folder = Folder(bucket)
    assert folder.swap("x", None, b"1")
    assert not folder.swap("x", None, b"2")
    assert not folder.swap("x", b"0", b"2")
    assert folder.swap("x", b"1", b"2")
    assert folder.read("x") == b"2"
    assert not folder.swap("x", b"1", None)
    assert folder.swap("x", b"2", None)
    assert not folder.swap("x", b"2", b"3")
    assert not folder.exists("x")


@pytest.mark.filterwarnings("ignore")
def test_latest_goes_forward_only_in_an_object_store(bucket: str) -> None:
    def publish(parity: int) -> None:
        table = ForecastTable(Folder(bucket) / "table")
        for n in range(parity, 20, 2):
            table.publish(night(FIRST + timedelta(days=n)))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(publish, (0, 1)))
    assert ForecastTable(Folder(bucket) / "table").latest(MODEL, "1d") == night(
        FIRST + timedelta(days=19)
    )


def test_counting_with_swaps_loses_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("n", b"0")

    def add(_: int) -> None:
        while True:
            before = folder.read("n")
            if folder.swap("n", before, str(int(before) + 1).encode()):
                return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(100)))
    assert folder.read("n") == b"100"


def test_a_live_lease_survives_whoever_tidies(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "leases")
    plant_dead(folder, "dead")
    folder.write("damaged.lease.json", b"{")
    with hold(folder, "alive") as lease:
        assert remove_dead(folder, dry_run=True) == ["damaged", "dead"]
        assert remove_dead(folder) == ["damaged", "dead"]
        lease.require()


def test_a_holder_that_slept_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / "leases")
    with hold(folder, "night") as lease:
        held = folder.read("night.lease.json")
        silent = Holder.decode(held)
        asleep = replace(silent, host="elsewhere", beat=silent.beat - timedelta(hours=1))
        folder.write("night.lease.json", asleep.encode())
        with hold(folder, "night"):
            pass  # another came, did the work and went
        monkeypatch.setattr(lease, "_renewed", time.time() - 2 * leases.TTL_S)
        with pytest.raises(LeaseLostError):
            lease.require()
        with pytest.raises(LeaseLostError):
            lease.require()
    assert read_lease(folder, "night") is None


SLEEPER = """
import sys, time
from market import leases
leases.TTL_S = 1.0
from market.leases import hold
from market.table.forecasts import ForecastTable
from tests.field.reliability.made_up import FIRST, MODEL, both, night
table = ForecastTable(sys.argv[1])
with hold(table.leases, "night") as lease:
    print("held", flush=True)
    sys.stdin.readline()
    table.commit("a" * 16, MODEL, FIRST, both(FIRST, "a" * 16), lease.require)
    lease.require()
    table.publish(night(FIRST))
"""


def test_a_stopped_process_commits_nothing_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "TTL_S", 1.0)
    table, run = ForecastTable(tmp_path), "b" * 16
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as sleeper:  # fmt: skip
        assert sleeper.stdin is not None
        assert sleeper.stdout is not None
        assert sleeper.stderr is not None
        assert sleeper.stdout.readline() == "held\n"
        os.kill(sleeper.pid, signal.SIGSTOP)
        with hold(table.leases, "night", wait_s=120) as lease:
            table.commit(run, MODEL, FIRST, both(FIRST, run), lease.require)
        sleeper.stdin.write("go on\n")
        sleeper.stdin.flush()
        os.kill(sleeper.pid, signal.SIGCONT)
        error = sleeper.stderr.read()
        assert sleeper.wait() != 0
    assert "LeaseLostError" in error
    assert set(table.scan().collect()["run_id"]) == {run}
    assert table.latest(MODEL, "1d") is None
