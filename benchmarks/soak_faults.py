"""Kill things at random moments of forecast runs and compare every table with an undisturbed one.

    python benchmarks/soak_faults.py --bars FILE.parquet --symbols 200 --rounds 24

Each round starts the command line as a user would, kills one of: a replica, a reader task, the
driver, a node of a three-node cluster, the driver between a data file's write and its commit; runs
the same command again where the driver died; and compares every row, bit for bit. A reader polls
the table throughout and must see whole dates or none. No process of a round may be left.
Stops by itself after --rounds or --seconds. Prints one JSON line per round, then a summary; exit
code 1 if anything was wrong. Linux only: victims are found in /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from market.errors import StoreError
from market.importing.files import import_frame
from market.lake.history import MarketHistory
from market.spec import Label, StoreSpec
from market.synthetic import SimulatorParams, simulate_market
from market.table.forecasts import ForecastTable

KINDS = ("replica", "reader", "driver", "node", "commit")
HORIZON = 5
_MARK = "CANDLECAST_SOAK_ROUND"
_CLUSTER = """
import sys, time
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True,
                  head_node_args={"num_cpus": 1, "object_store_memory": 10**8,
                                  "include_dashboard": False})
for _ in range(2):
    cluster.add_node(num_cpus=1, object_store_memory=10**8)
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


@dataclass
class Round:
    """What one round did and saw."""

    kind: str
    hit: bool = False
    """Something was killed."""
    after_s: float = 0.0
    """How long after the driver's start."""
    orphans: int = 0
    """Data files that no version of the table shows: written, then killed before the commit."""
    reruns: int = 0
    polls: int = 0
    """Reads of the table meanwhile."""
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Soak:
    """The store, the undisturbed table, and rounds against it."""

    def __init__(self, folder: Path, bars: pl.DataFrame, model: str, paths: int) -> None:
        self.folder = folder
        spec = StoreSpec(venue="XNYS", freq="1d", tz="America/New_York", label=Label.SESSION)
        import_frame(bars, folder / "store", spec)
        history = MarketHistory.open(folder / "store")
        sessions = history.sessions()
        self.as_of = f"{sessions[-30]}:{sessions[-10]}:5"
        self.model, self.paths = model, paths
        begun = time.monotonic()
        self._run(folder / "undisturbed", {}, []).wait(timeout=300)
        self.usual_s = time.monotonic() - begun
        self.expected = _rows(folder / "undisturbed")
        self.per_date = dict(self.expected["steps"].group_by("as_of_date").len().iter_rows())
        self.symbols = self.expected["steps"]["symbol"].n_unique()

    def round(self, kind: str, rng: random.Random) -> Round:
        result = Round(kind)
        begun = time.monotonic()
        mark = uuid.uuid4().hex
        environment = {_MARK: mark}
        out = self.folder / f"round-{mark[:8]}"
        with _reader(out, self.per_date, result), _cluster(kind, environment) as address:
            extra = ["--address", address] if address else []
            driver = self._run(out, environment, extra)
            started = time.monotonic()
            strike = _VICTIMS[kind]
            # Start-up takes most of a short run; the moment is drawn from what follows it.
            not_before = rng.uniform(0.0, 0.7) * self.usual_s
            while driver.poll() is None and not result.hit and time.monotonic() - started < 240:
                if time.monotonic() - started >= (0 if kind in _EVENTS else not_before):
                    result.hit = strike(out, mark, driver, rng)
                if not result.hit:
                    time.sleep(0.005 if kind in _EVENTS else 0.02)
            result.after_s = round(time.monotonic() - started, 2)
            code = driver.wait(timeout=300)
            while code != 0 and result.reruns < 3:
                result.reruns += 1
                code = self._run(out, environment, extra).wait(timeout=300)
            if code != 0:
                result.wrong.append(f"the command ended with code {code}")
        self._judge(out, result)
        left = _wait_for_end(mark)
        if left:
            result.wrong.append(f"left running: {left[:3]}")
        result.orphans = _orphans(out)
        shutil.rmtree(out, ignore_errors=True)
        result.seconds = round(time.monotonic() - begun, 1)
        return result

    def _run(
        self, out: Path, environment: dict[str, str], extra: list[str]
    ) -> subprocess.Popen[bytes]:
        flags = {
            "--store": self.folder / "store", "--as-of": self.as_of, "--out": out,
            "--model": self.model, "--lookback": 64, "--horizon": HORIZON, "--paths": self.paths,
            "--replicas": 2,
        }  # fmt: skip
        words = [str(word) for pair in flags.items() for word in pair]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", "from cluster.cli import main; main()", "forecast",
                 *words, *extra],
                env=os.environ | environment, stdout=log, stderr=log,
            )  # fmt: skip

    def _judge(self, out: Path, result: Round) -> None:
        found = _rows(out)
        for kind, frame in self.expected.items():
            if not frame.equals(found[kind], null_equal=True):
                result.wrong.append(f"{kind} differs from the undisturbed table")
            key = ["as_of", "symbol", "step"] if kind == "steps" else ["as_of", "symbol"]
            if found[kind].select(key).is_duplicated().any():
                result.wrong.append(f"{kind} holds duplicates")
        if (out / "staging").exists() and any((out / "staging").iterdir()):
            result.wrong.append("staging was left")


def _rows(out: Path) -> dict[str, pl.DataFrame]:
    table = ForecastTable(out)
    return {
        "steps": table.scan().sort("as_of", "symbol", "step").collect(),
        "path_stats": table.path_stats().sort("as_of", "symbol").collect(),
    }


@contextmanager
def _reader(out: Path, per_date: dict[object, int], result: Round) -> Iterator[None]:
    """Poll the table as a stranger would; every date must be whole or absent."""
    ended = threading.Event()

    def poll() -> None:
        while not ended.wait(0.05):
            try:
                rows = ForecastTable(out).scan().select("as_of_date").collect()
            except StoreError:
                continue
            result.polls += 1
            for day, n in rows.group_by("as_of_date").len().iter_rows():
                if n != per_date[day]:
                    result.wrong.append(f"a reader saw {n} of {per_date[day]} rows of {day}")

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _cluster(kind: str, environment: dict[str, str]) -> Iterator[str | None]:
    """Three raylets for rounds that kill one; other rounds start Ray themselves."""
    if kind != "node":
        yield None
        return
    environment |= _QUICK_HEALTH_CHECKS
    with subprocess.Popen(
        [sys.executable, "-c", _CLUSTER], env=os.environ | environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(timeout=60)


# -- victims -------------------------------------------------------------------------------


def _kill_titled(title: str, mark: str, rng: random.Random) -> bool:
    pids = [pid for pid, command in _processes(mark) if command.startswith(title)]
    return bool(pids) and _kill(rng.choice(pids))


def _kill_replica(
    out: Path, mark: str, driver: subprocess.Popen[bytes], rng: random.Random
) -> bool:
    at_work = list((out / "staging").glob("*/notes/*.note.json"))
    return bool(at_work) and _kill_titled("ray::MapWorker(MapBatches(Replica))", mark, rng)


def _kill_reader(out: Path, mark: str, driver: subprocess.Popen[bytes], rng: random.Random) -> bool:
    return _kill_titled("ray::Read", mark, rng)


def _kill_driver(out: Path, mark: str, driver: subprocess.Popen[bytes], rng: random.Random) -> bool:
    return (out / "staging").exists() and _kill(driver.pid)


def _kill_node(out: Path, mark: str, driver: subprocess.Popen[bytes], rng: random.Random) -> bool:
    """A raylet that is neither the head's nor the driver's, while forecasts are made."""
    if not list((out / "staging").glob("*/notes/*.note.json")):
        return False
    processes = _processes(mark)
    raylets = [pid for pid, command in processes if "/raylet/raylet " in command]
    # The tally lives on the driver's node, whose death would be the driver's.
    with_driver = {_parent(pid) for pid, command in processes if command.startswith("ray::Tally")}
    others = [pid for pid in sorted(raylets)[1:] if pid not in with_driver]  # the head starts first
    return bool(with_driver and others) and _kill(rng.choice(others))


def _kill_committer(
    out: Path, mark: str, driver: subprocess.Popen[bytes], rng: random.Random
) -> bool:
    """Right after a data file of the table appeared that no commit shows yet."""
    for kind in ("steps", "path_stats"):
        files = len(list((out / kind).glob("model_id=*/*/*.parquet")))
        commits = len(list((out / kind / "_delta_log").glob("*.json")))
        if files > max(commits - 1, 0):
            return _kill(driver.pid)
    return False


_EVENTS = ("reader", "commit")
"""Kinds that wait for a short-lived thing instead of a random moment."""

_VICTIMS: dict[str, Callable[[Path, str, subprocess.Popen[bytes], random.Random], bool]] = {
    "replica": _kill_replica,
    "reader": _kill_reader,
    "driver": _kill_driver,
    "node": _kill_node,
    "commit": _kill_committer,
}


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _processes(mark: str) -> list[tuple[int, str]]:
    """Processes that inherited the round's mark, with their command lines or titles."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f"{_MARK}={mark}".encode() in environment and command:
                found.append((int(entry.name), command))
    return found


def _wait_for_end(mark: str) -> list[str]:
    """Commands that still run 90 seconds after a round; Ray's agents take a while to notice."""
    for _ in range(180):
        left = _processes(mark)
        if not left:
            return []
        time.sleep(0.5)
    return [command[:80] for _, command in left]


def _orphans(out: Path) -> int:
    from datetime import timedelta

    from market.table.vacuum import vacuum

    found = vacuum(ForecastTable(out), dry_run=True, orphan_age=timedelta(0))
    return len(found.orphans)


def _bars(path: Path | None, symbols: int) -> pl.DataFrame:
    if path is None:
        bars = simulate_market(SimulatorParams(seed=5, n_symbols=symbols, n_sessions=160))
        return bars.filter(pl.len().over("symbol") == 160)
    bars = pl.read_parquet(path)
    counts = bars.group_by("symbol").len().sort(["len", "symbol"], descending=[True, False])
    chosen = counts.head(symbols)["symbol"].to_list()
    last = bars["timestamp"].unique().sort().tail(200)
    return bars.filter(pl.col("symbol").is_in(chosen) & (pl.col("timestamp") >= last.min()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bars", type=Path, help="Parquet of daily XNYS bars; simulated without")
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--model", default="bootstrap")
    parser.add_argument("--paths", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seconds", type=float, default=1500.0, help="start no round after this")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kinds = arguments.kinds.split(",")
    rng = random.Random(arguments.seed)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="candlecast-soak-") as folder:
        bars = _bars(arguments.bars, arguments.symbols)
        soak = Soak(Path(folder), bars, arguments.model, arguments.paths)
        results: list[Round] = []
        hits = 0
        while hits < arguments.rounds and time.monotonic() - begun < arguments.seconds:
            results.append(soak.round(kinds[hits % len(kinds)], rng))
            hits += results[-1].hit  # a moment after the end kills nothing: drawn again
            print(json.dumps(vars(results[-1])), flush=True)
            if results[-1].wrong:
                sys.stderr.write((Path(folder) / "log").read_text()[-3000:])
        summary = {
            "symbols": soak.symbols,
            "rows": soak.expected["steps"].height,
            "rounds": hits,
            "misses": len(results) - hits,
            "hit": {k: sum(r.hit for r in results if r.kind == k) for k in kinds},
            "orphaned_files": sum(r.orphans for r in results),
            "reruns": sum(r.reruns for r in results),
            "polls": sum(r.polls for r in results),
            "wrong": sum(bool(r.wrong) for r in results),
            "seconds": round(time.monotonic() - begun),
        }
    print(json.dumps(summary))
    return int(bool(summary["wrong"]) or not hits)


if __name__ == "__main__":
    sys.exit(main())
