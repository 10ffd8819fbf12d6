"""A Ray cluster of three machines that share nothing but an object store, on one machine.

    sudo python benchmarks/three_nodes.py [--jobs forecast,train,messages]

Three raylets, each in a network namespace of its own with an address of its own, and in a mount
namespace with its own /tmp and home: no node sees a file of another one. Histories, tables, series,
checkpoints and staging lie in an S3 server on the bridge between them. Ray's token authentication
is on. In every job a node that is not the head is killed while it works, and what comes of it must
equal what an undisturbed run on this machine makes (of a training with two workers: to 1e-5).
`messages` counts the seconds to an answer where the token is another one, a node has no credentials
of the store, or there is no head. Linux and root only. Prints one JSON line per job; exit code 1
where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from safetensors.numpy import load

from market.importing.files import import_frame
from market.lake.history import MarketHistory
from market.spec import Label, StoreSpec
from market.storage import Folder
from market.synthetic import SimulatorParams, simulate_market
from market.table.forecasts import ForecastTable
from tests.object_store import environment, make_bucket, serving

BRIDGE, PREFIX, PORT = "ccbridge", "10.77.0", 6399
_SPEC = StoreSpec(venue="XNYS", freq="1d", tz="America/New_York", label=Label.SESSION)
_COMMAND = "from cluster.cli import main; main()"
_RAY = "from ray.scripts.scripts import main; main()"
_ROOT = Path(__file__).resolve().parents[1]
_FORECAST = {"--model": "bootstrap", "--lookback": 64, "--horizon": 5, "--paths": 64}
_TRAINING: dict[str, Any] = {
    "seed": 3,
    "model": {
        "d_model": 16, "n_heads": 2, "ff_dim": 16, "n_enc_layers": 2, "n_dec_layers": 2,
        "s1_bits": 4, "s2_bits": 4,
    },
    "data": {
        "train_through": "2015-06-30", "validation_through": "2015-12-31", "purge_bars": 4,
    },
    "windows": {"lookbacks": [16, 24], "horizon": 4, "validation_horizon": 4},
    "optimiser": {"steps": 200, "batch_size": 4, "max_lr": 1e-3},
    "run": {
        "log_every": 10, "validate_every": 100, "checkpoint_every": 20, "validation_windows": 16,
    },
}  # fmt: skip


class Node:
    """One machine: addresses, files and processes of its own."""

    def __init__(self, number: int, token: str, store: dict[str, str]) -> None:
        self.name = f"ccnode{number}"
        self.ip = f"{PREFIX}.{10 + number}"
        self.token, self.store = token, store
        _sh("ip", "netns", "add", self.name)
        self._wire = f"ccveth{number}"
        _sh("ip", "link", "add", self._wire, "type", "veth", "peer", "name", "eth0",
            "netns", self.name)  # fmt: skip
        _sh("ip", "link", "set", self._wire, "master", BRIDGE, "up")
        for words in (
            ["addr", "add", f"{self.ip}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["link", "set", "lo", "up"],
        ):
            _sh("ip", "-n", self.name, *words)
        # The namespace of mounts lives as long as this process, which everything on the node joins.
        self._holder = subprocess.Popen(
            ["ip", "netns", "exec", self.name, "unshare", "--mount", "sh", "-c",
             "mount -t tmpfs none /tmp && mkdir -p /tmp/home /tmp/work && exec sleep infinity"]
        )  # fmt: skip
        time.sleep(0.5)

    def popen(
        self, code: str, words: Sequence[object], token: str | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Python on the node, in its own folder, with its own copy of the token."""
        write = f"umask 077; printf %s {token or self.token} > /tmp/home/token; cd /tmp/work; "
        variables = self.store | {
            "HOME": "/tmp/home", "TMPDIR": "/tmp", "PYTHONPATH": str(_ROOT), "COLUMNS": "200",
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/tmp/home/token",
            "RAY_health_check_period_ms": "500", "RAY_health_check_timeout_ms": "1000",
            "RAY_health_check_failure_threshold": "3", "RAY_USAGE_STATS_ENABLED": "0",
        }  # fmt: skip
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RAY_"))}
        return subprocess.Popen(
            ["nsenter", f"--target={self._inside()}", "--net", "--mount", "sh", "-c",
             write + 'exec "$@"', "sh", sys.executable, "-c", code, *map(str, words)],
            env=clean | variables, text=True, start_new_session=True, **options,
        )  # fmt: skip

    def start(self, head: Node | None = None) -> None:
        """Its raylet: of a new cluster, or of that head's."""
        place = ["--head", f"--port={PORT}"] if head is None else [f"--address={head.ip}:{PORT}"]
        dashboard = ["--include-dashboard=false"] if head is None else []
        with self.popen(
            _RAY,
            ["start", *place, *dashboard, f"--node-ip-address={self.ip}", "--num-cpus=2",
             f"--object-store-memory={10**8}", "--disable-usage-stats"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            said = process.communicate(timeout=120)[0]
        assert process.returncode == 0, said

    def kill(self) -> None:
        """Everything at work on the node, as a power cut would."""
        pids = _sh("ip", "netns", "pids", self.name).split()
        for pid in set(map(int, pids)) - {self._holder.pid, self._inside()}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def remove(self) -> None:
        self.kill()
        self._holder.kill()
        self._holder.wait()
        _sh("ip", "link", "del", self._wire)
        _sh("ip", "netns", "del", self.name)

    def _inside(self) -> int:
        return self._holder.pid  # ip, unshare and sh replace each other in one process


def _sh(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@contextmanager
def bridge() -> Iterator[str]:
    """The wire between the nodes; this machine's address on it."""
    _sh("ip", "link", "add", BRIDGE, "type", "bridge")
    try:
        _sh("ip", "addr", "add", f"{PREFIX}.1/24", "dev", BRIDGE)
        _sh("ip", "link", "set", BRIDGE, "up")
        yield f"{PREFIX}.1"
    finally:
        _sh("ip", "link", "del", BRIDGE)


class Jobs:
    """What runs on the cluster, and what it is compared with."""

    def __init__(self, nodes: list[Node], here: Path, bucket: str) -> None:
        self.nodes, self.here, self.bucket = nodes, here, bucket
        self.address = f"{nodes[0].ip}:{PORT}"
        params = SimulatorParams(seed=5, n_symbols=60, n_sessions=560, start=date(2014, 6, 2))
        bars = simulate_market(params)
        for store in (f"{bucket}/store", str(here / "store")):
            import_frame(bars, store, _SPEC)
        self.sessions = MarketHistory.open(here / "store").sessions()

    def forecast(self) -> list[str]:
        as_of = f"{self.sessions[-60]}:{self.sessions[-10]}:5"
        flags = {**_FORECAST, "--as-of": as_of}
        self._here("forecast", flags | {"--store": self.here / "store", "--out": self.here / "t"})
        out = Folder(f"{self.bucket}/table")

        def at_work() -> bool:
            return any((out / "staging" / run).names(".json") for run in (out / "staging").names())

        self._killed(
            ["forecast", *_words(flags), "--store", f"{self.bucket}/store", "--out", out,
             "--replicas", 4, "--shard-size", 4, "--address", self.address],
            at_work,
        )  # fmt: skip
        theirs, ours = ForecastTable(out), ForecastTable(self.here / "t")
        return [
            f"{name} differ"
            for name, a, b in (
                ("steps", theirs.scan(), ours.scan()),
                ("path_stats", theirs.path_stats(), ours.path_stats()),
            )
            if not _sorted(a).equals(_sorted(b), null_equal=True)
        ]

    def train(self) -> list[str]:
        config = yaml.safe_dump(_TRAINING)
        (self.here / "t.yaml").write_text(config)
        self._here(
            "train tokenizer",
            {"--config": self.here / "t.yaml", "--store": self.here / "store",
             "--out": self.here / "tokenizer", "--workers": 2},
        )  # fmt: skip
        out = Folder(f"{self.bucket}/tokenizer")
        self.nodes[0].popen("import sys; open('t.yaml', 'w').write(sys.argv[1])", [config]).wait()
        self._killed(
            ["train", "tokenizer", "--config", "t.yaml", "--store", f"{self.bucket}/store",
             "--out", out, "--workers", 2, "--address", self.address],
            lambda: bool((out / "checkpoints").names(".tar")),
        )  # fmt: skip
        ours = load((self.here / "tokenizer/model.safetensors").read_bytes())
        theirs = load(out.read("model.safetensors"))
        # Two processes add their gradients in either order: equal but for rounding.
        same = all(np.allclose(theirs[name], value, atol=1e-5) for name, value in ours.items())
        return [] if same else ["the weights differ"]

    def messages(self) -> list[str]:
        """Three things that can be wrong, each said in one line that names node and remedy."""
        head, _, last = self.nodes
        flags = [*_words(_FORECAST), "--as-of", self.sessions[-10], "--replicas", 2,
                 "--store", f"{self.bucket}/store"]  # fmt: skip
        wrong = []
        last.kill()
        last.store = {k: v for k, v in last.store.items() if "AWS_ACCESS" not in k}
        last.start(head)
        cases: dict[str, tuple[list[object], str | None, str]] = {
            "token": (["--address", self.address], secrets.token_hex(32), "RAY_AUTH_TOKEN_PATH"),
            "no head": (["--address", f"{last.ip}:1"], None, "ray start --head"),
            "no store": (["--address", self.address], None, f"({last.ip}) does not see"),
        }
        for name, (extra, token, expected) in cases.items():
            begun = time.monotonic()
            with head.popen(
                _COMMAND, ["forecast", *flags, "--out", f"{self.bucket}/m-{name[:2]}", *extra],
                token, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            ) as process:  # fmt: skip
                said = process.communicate(timeout=300)[0].strip()
            seconds = round(time.monotonic() - begun, 1)
            print(json.dumps({"case": name, "seconds": seconds, "said": said}), flush=True)
            if process.returncode != 2 or expected not in said or len(said.splitlines()) != 1:
                wrong.append(f"{name}: {process.returncode}")
            if any(secret in said for secret in (head.token, token or head.token)):
                wrong.append(f"{name}: prints a token")
        return wrong

    def _here(self, command: str, flags: dict[str, object]) -> None:
        """The undisturbed run, on this machine alone."""
        subprocess.run(
            [sys.executable, "-c", _COMMAND, *command.split(), "--quiet", *map(str, _words(flags))],
            check=True, cwd=self.here,
        )  # fmt: skip

    def _killed(self, words: Sequence[object], at_work: Callable[[], bool]) -> None:
        """A command on the head; a node dies once it is at work, and comes back afterwards."""
        head, _, last = self.nodes
        with head.popen(
            _COMMAND, words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            while process.poll() is None and not at_work():
                time.sleep(0.05)
            assert process.poll() is None, process.communicate()[0]
            last.kill()
            said = process.communicate(timeout=600)[0]
        assert process.returncode == 0, said
        last.start(head)


def _words(flags: dict[str, object]) -> list[object]:
    return [word for pair in flags.items() for word in pair]


def _sorted(rows: pl.LazyFrame) -> pl.DataFrame:
    keys = [k for k in ("as_of", "symbol", "step") if k in rows.collect_schema()]
    return rows.sort(keys).collect()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", default="forecast,train,messages")
    arguments = parser.parse_args()
    wrong: list[str] = []
    with ExitStack() as stack:
        here = Path(tempfile.mkdtemp(prefix="candlecast-nodes-"))
        stack.callback(shutil.rmtree, here, ignore_errors=True)
        host = stack.enter_context(bridge())
        stack.enter_context(serving(host))
        os.environ.update(environment(host))
        bucket = make_bucket("nodes", host)
        token = secrets.token_hex(32)
        nodes = []
        for number in (1, 2, 3):
            nodes.append(Node(number, token, environment(host)))
            stack.callback(nodes[-1].remove)
        nodes[0].start()
        for node in nodes[1:]:
            node.start(nodes[0])
        jobs = Jobs(nodes, here, bucket)
        for name in arguments.jobs.split(","):
            begun = time.monotonic()
            found = getattr(jobs, name)()
            wrong += found
            seconds = round(time.monotonic() - begun, 1)
            print(json.dumps({"job": name, "seconds": seconds, "wrong": found}), flush=True)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
