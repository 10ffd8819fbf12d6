"""Harm forecast runs at random moments and compare every table with an undisturbed one.

    python benchmarks/soak_faults.py --rounds 24
    python benchmarks/soak_faults.py --place s3 --rounds 36 --seed 7

Each round starts the command line as a user would and does one of these to it: kills a replica, a
reader task, the driver, a node of a three-node cluster, or the driver between a data file's write
and its commit; stops the driver for longer than its lease lasts, lets another one do the work, and
wakes the first (sleeper); fills the disk (disk; a small tmpfs, which takes root). With --place s3
store, staging, leases and table lie in an S3 server on loopback, which may answer 503 (refused),
late (slow), or break off in the middle, so that a write's fate is unknown (torn).

The same command runs again where the driver died, and every row must be what it is undisturbed, bit
for bit. A reader polls the table throughout and must see whole dates or none. No process of a round
may be left, and a command that gives up must say why in one line. Stops by itself after --rounds or
--seconds. Prints one JSON line per round, then a summary; exit code 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import polars as pl
from faulty_s3 import Faults, Mode, faulty
from soak_runner import Runner, three_nodes
from soak_victims import EVENTS, VICTIMS, Target, wait_for_end

from market.errors import StoreError
from market.importing.files import import_frame
from market.lake.history import MarketHistory
from market.spec import Label, StoreSpec
from market.storage import Folder
from market.synthetic import SimulatorParams, simulate_market
from market.table.forecasts import ForecastTable
from market.table.vacuum import vacuum

KINDS = {
    "local": ("replica", "reader", "driver", "node", "commit", "sleeper", "disk"),
    "s3": (
        "replica", "reader", "driver", "node", "commit", "sleeper", "refused", "slow", "torn",
    ),
}  # fmt: skip
HORIZON = 5


@dataclass
class Round:
    """What one round did and saw."""

    kind: str
    place: str
    hit: bool = False
    """Something came to harm."""
    after_s: float = 0.0
    """How long after the driver's start."""
    faults: int = 0
    """Requests that the object store treated badly."""
    orphans: int = 0
    """Data files that no version of the table shows: written, then killed before the commit."""
    reruns: int = 0
    polls: int = 0
    """Reads of the table meanwhile."""
    partial: int = 0
    """Of them, those that saw part of a date."""
    said: str = ""
    """Why the command gave up, where it did."""
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Soak:
    """The store, the undisturbed table, and rounds against it."""

    def __init__(
        self, folder: Path, place: str, bars: pl.DataFrame, flags: dict[str, object],
        faults: Faults | None,
    ) -> None:  # fmt: skip
        self.folder, self.place, self.flags, self.faults = folder, place, flags, faults
        self.log = folder / "log"
        self.home = Folder(folder if faults is None else "s3://soak")
        self.environment = {} if faults is None else {"AWS_ENDPOINT_URL": faults.endpoint}
        spec = StoreSpec(venue="XNYS", freq="1d", tz="America/New_York", label=Label.SESSION)
        import_frame(bars, (self.home / "store").url, spec)
        sessions = MarketHistory.open(self.home / "store").sessions()
        self.as_of = f"{sessions[-30]}:{sessions[-10]}:5"
        self.runner = Runner(self.log, self.environment)
        undisturbed = self.home / "undisturbed"
        for _ in range(2):  # the first starts Ray's workers, too
            undisturbed.remove_all()
            begun = time.monotonic()
            self.runner.begin(self._words(undisturbed))
            assert self.runner.code() == 0, self.log.read_text()[-3000:]
            self.usual_s = time.monotonic() - begun
        self.expected = _rows(undisturbed)
        self.per_date = dict(self.expected["steps"].group_by("as_of_date").len().iter_rows())
        self.symbols = self.expected["steps"]["symbol"].n_unique()

    def round(self, kind: str, rng: random.Random) -> Round:
        result = Round(kind, self.place)
        begun, log_from = time.monotonic(), self.log.stat().st_size
        name = f"round-{rng.getrandbits(32):08x}"
        with self._out(kind, name, rng) as (out, free_disk):
            with (
                _reader(out, self.per_date, result),
                self._ready(kind) as (runner, workers),
            ):
                self._misbehave(kind)
                runner.begin(self._words(out))
                code = self._strike(kind, runner, workers, out, rng, result)
                self._settle(kind, result, code, log_from)
                free_disk()
                while code != 0 and result.reruns < 3:
                    result.reruns += 1
                    runner = self._revived(runner)
                    runner.begin(self._words(out))
                    code = runner.code()
                if code != 0:
                    result.wrong.append(f"the command ended with code {code}")
            self._judge(out, result)
            result.orphans = len(_orphans(out))
            out.remove_all()
        result.seconds = round(time.monotonic() - begun, 1)
        return result

    def _strike(
        self, kind: str, runner: Runner, workers: str, out: Folder, rng: random.Random,
        result: Round,
    ) -> int:  # fmt: skip
        """Do what the kind says, once; the exit code of whoever was last at the work."""
        if kind not in VICTIMS:
            return runner.code()
        target = Target(out, workers, runner.process, rng)
        started = time.monotonic()
        not_before = 0.0 if kind in EVENTS else rng.uniform(0.0, 0.95) * self.usual_s
        pause = 0.005 if kind in EVENTS and out.path is not None else 0.02
        while runner.busy and not result.hit and time.monotonic() - started < 240:
            if time.monotonic() - started >= not_before:
                result.hit = VICTIMS[kind](target)
            if not result.hit:
                time.sleep(pause)
        result.after_s = round(time.monotonic() - started, 2)
        if kind != "sleeper" or not result.hit:
            return runner.code()
        other = Runner(self.log, self.environment)  # takes longer than a lease lives
        other.begin(self._words(out))
        until = time.monotonic() + rng.uniform(0.0, 1.3) * self.usual_s
        while other.busy and time.monotonic() < until:
            time.sleep(0.02)
        runner.process.send_signal(signal.SIGCONT)  # while the other is at work, or after it
        codes = runner.code(), other.code()
        if codes[0] != 0 and not _explained(self.log):
            result.wrong.append(f"who slept ended with code {codes[0]} and no reason")
        self.runner.end()
        self.runner = other
        return codes[1]

    def _settle(self, kind: str, result: Round, code: int, log_from: int) -> None:
        """The store answers well again; whatever ended the command was said in a line."""
        if self.faults is not None:
            result.faults, self.faults.mode = self.faults.done, "well"
            result.hit = result.hit or result.faults > 0
        if kind == "disk":
            result.hit = code != 0
        said = self.log.read_bytes()[log_from:].decode(errors="replace")
        result.said = said.strip().splitlines()[-1][:300] if code > 0 and said.strip() else ""
        if "Traceback" in said:
            result.wrong.append("a traceback")

    def _misbehave(self, kind: str) -> None:
        if self.faults is not None:
            modes: dict[str, Mode] = {"refused": "refused", "slow": "slow", "torn": "torn"}
            self.faults.mode, self.faults.done = modes.get(kind, "well"), 0

    def _words(self, out: Folder) -> list[str]:
        flags = {
            "--store": self.home / "store", "--as-of": self.as_of, "--out": out,
            "--lookback": 64, "--horizon": HORIZON, **self.flags,
        }  # fmt: skip
        return ["forecast", "--quiet", *(str(word) for pair in flags.items() for word in pair)]

    def _revived(self, runner: Runner) -> Runner:
        """The runner, or its successor where it died, which must have left nothing running."""
        if runner.alive:
            return runner
        left = wait_for_end(runner.mark)
        assert not left, f"left running: {left[:3]}"
        if runner is not self.runner:
            return self._revived(self.runner)
        self.runner = Runner(self.log, self.environment)
        return self.runner

    @contextmanager
    def _ready(self, kind: str) -> Iterator[tuple[Runner, str]]:
        """Who runs the command, and the mark of the workers."""
        if kind != "node":
            self.runner = self._revived(self.runner)
            yield self.runner, self.runner.mark
            return
        with three_nodes(self.environment) as (address, mark):
            runner = Runner(self.log, self.environment, address)
            yield runner, mark
            runner.end()

    @contextmanager
    def _out(
        self, kind: str, name: str, rng: random.Random
    ) -> Iterator[tuple[Folder, Callable[[], object]]]:
        """Where a round's table lies, and what to call when its disk shall have room again."""
        if kind != "disk":
            yield self.home / name, lambda: None
            return
        disk = self.folder / name
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=True)
        try:
            sizes = [size for size, _ in (self.home / "undisturbed").files().values()]
            ballast, free = disk / "ballast", rng.uniform(0.05, 1.0) * sum(sizes)
            ballast.write_bytes(b"\0" * int(64 * 2**20 - free))
            yield Folder(disk / "table"), ballast.unlink
        finally:
            subprocess.run(["umount", "-l", disk], check=True)
            disk.rmdir()

    def _judge(self, out: Folder, result: Round) -> None:
        found = _rows(out)
        for kind, frame in self.expected.items():
            if not frame.equals(found[kind], null_equal=True):
                result.wrong.append(f"{kind} differs from the undisturbed table")
            key = ["as_of", "symbol", "step"] if kind == "steps" else ["as_of", "symbol"]
            if found[kind].select(key).is_duplicated().any():
                result.wrong.append(f"{kind} holds duplicates")
        table = ForecastTable(out)
        (night,) = table.published()
        if night.as_of != self.expected["steps"]["as_of"].max():
            result.wrong.append(f"latest points to {night.as_of}")
        pinned = ForecastTable(out, night.versions).scan(run_id=night.run_id).collect()
        if pinned.height < self.per_date[night.as_of_date]:
            result.wrong.append("the night that latest pins is not whole")
        if (out / "staging").names() and not (result.kind == "sleeper" and vacuum(table).staging):
            result.wrong.append("staging was left")


def _explained(log: Path) -> bool:
    return "run the same command again" in log.read_text()[-2000:]


def _rows(out: Folder) -> dict[str, pl.DataFrame]:
    table = ForecastTable(out)
    return {
        "steps": table.scan().sort("as_of", "symbol", "step").collect(),
        "path_stats": table.path_stats().sort("as_of", "symbol").collect(),
    }


@contextmanager
def _reader(out: Folder, per_date: dict[object, int], result: Round) -> Iterator[None]:
    """Poll the table as a stranger would; every date must be whole or absent."""
    ended = threading.Event()

    def poll() -> None:
        while not ended.wait(0.2):
            try:
                rows = ForecastTable(out).scan().select("as_of_date").collect()
            except StoreError as error:
                if "no forecasts here" not in str(error):
                    result.wrong.append(f"a reader was told {error}")
                continue
            result.polls += 1
            for day, n in rows.group_by("as_of_date").len().iter_rows():
                if n != per_date[day]:
                    result.partial += 1
                    result.wrong.append(f"a reader saw {n} of {per_date[day]} rows of {day}")

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _orphans(out: Folder) -> tuple[str, ...]:
    return vacuum(ForecastTable(out), dry_run=True, orphan_age=timedelta(0)).orphans


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
    parser.add_argument("--place", choices=list(KINDS), default="local")
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--model", default="bootstrap")
    parser.add_argument("--paths", type=int, default=16)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kinds", help="with commas between; all of the place without")
    parser.add_argument("--seconds", type=float, default=1500.0, help="start no round after this")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kinds = arguments.kinds.split(",") if arguments.kinds else KINDS[arguments.place]
    rng = random.Random(arguments.seed)
    begun = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="candlecast-soak-")))
        faults = stack.enter_context(_store(arguments.seed) if arguments.place == "s3"
                                     else nullcontext())  # fmt: skip
        bars = _bars(arguments.bars, arguments.symbols)
        flags = {f"--{n}": getattr(arguments, n) for n in ("model", "paths", "replicas")}
        soak = Soak(folder, arguments.place, bars, flags, faults)
        stack.callback(lambda: soak.runner.end())
        results: list[Round] = []
        hits = 0
        while hits < arguments.rounds and time.monotonic() - begun < arguments.seconds:
            results.append(soak.round(kinds[hits % len(kinds)], rng))
            hits += results[-1].hit  # a moment after the end harms nothing: drawn again
            print(json.dumps(vars(results[-1])), flush=True)
            if results[-1].wrong:
                sys.stderr.write((folder / "log").read_text()[-3000:])
        summary = {
            "place": arguments.place,
            "symbols": soak.symbols,
            "rows": soak.expected["steps"].height,
            "rounds": hits,
            "misses": len(results) - hits,
            "hit": {k: sum(r.hit for r in results if r.kind == k) for k in kinds},
            "faults": sum(r.faults for r in results),
            "orphaned_files": sum(r.orphans for r in results),
            "reruns": sum(r.reruns for r in results),
            "polls": sum(r.polls for r in results),
            "partial": sum(r.partial for r in results),
            "wrong": sum(bool(r.wrong) for r in results),
            "seconds": round(time.monotonic() - begun),
        }
    print(json.dumps(summary))
    return int(bool(summary["wrong"]) or not hits)


@contextmanager
def _store(seed: int) -> Iterator[Faults]:
    """An S3 server that this process reads as it is, and the commands through its faults."""
    from tests.object_store import environment, make_bucket, serving

    with serving() as endpoint, faulty(endpoint, seed) as faults:
        os.environ.update(environment())
        make_bucket("soak")
        yield faults


if __name__ == "__main__":
    sys.exit(main())
