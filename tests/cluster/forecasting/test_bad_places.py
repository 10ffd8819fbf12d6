"""Broken files, full and read-only disks, other versions: one clear error each, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from cluster.forecasting.job import run_forecast
from cluster.forecasting.staging import DateResult, FinishedShard, ShardFiles
from cluster.settings import ForecastSettings
from market.errors import ConfigError
from market.lake.history import MarketHistory
from market.storage import Folder
from market.table.forecasts import ForecastTable
from market.table.schema import STEPS_SCHEMA
from tests.cluster.conftest import LOOKBACK, Outcome

pytestmark = pytest.mark.usefixtures("local_ray")


@contextmanager
def small_disk(place: Path, options: str) -> Iterator[None]:
    """A disk of its own at a folder; skips where this machine does not allow mounting."""
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a small disk needs more rights: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def arguments(store: Path, dates: list[str], tmp_path: Path) -> dict[str, object]:
    return {
        "--store": store, "--as-of": dates[0], "--model": "random-walk", "--lookback": LOOKBACK,
        "--horizon": 5, "--paths": 4, "--replicas": 1, "--out": tmp_path / "out",
    }  # fmt: skip


def words(arguments: dict[str, object]) -> list[object]:
    return ["forecast", *(word for pair in arguments.items() for word in pair)]


def assert_one_line(outcome: Outcome, *parts: str) -> None:
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    for part in parts:
        assert part in outcome.err


def test_a_full_disk_loses_nothing_and_the_same_command_goes_on(
    arguments: dict[str, object], dates: list[str], candlecast: Callable[..., Outcome]
) -> None:
    out = Path(str(arguments["--out"]))
    with small_disk(out, "size=4m"):
        assert candlecast(*words(arguments)).code == 0
        before = ForecastTable(out).scan().collect()
        ballast = out / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        wider = arguments | {"--as-of": f"{dates[0]}:{dates[-1]}:5", "--paths": 6}
        assert_one_line(candlecast(*words(wider)), str(out), "No space left")
        assert ForecastTable(out).scan().collect().equals(before)
        ballast.unlink()
        assert candlecast(*words(wider)).code == 0
        after = ForecastTable(out).scan().collect()
        assert set(after["as_of_date"].cast(pl.String)) == set(dates)


def test_a_read_only_output_is_named(
    arguments: dict[str, object], candlecast: Callable[..., Outcome]
) -> None:
    out = Path(str(arguments["--out"]))
    with small_disk(out, "ro,size=4m"):
        assert_one_line(candlecast(*words(arguments)), str(out), "Read-only file system")


def test_a_damaged_file_of_the_lake_is_named(
    arguments: dict[str, object], store: Path, tmp_path: Path, candlecast: Callable[..., Outcome]
) -> None:
    shutil.copytree(store, tmp_path / "store")
    victim = tmp_path / "store" / MarketHistory.open(store).contents.bars[0].path
    content = bytearray(victim.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 200] = os.urandom(200)
    victim.write_bytes(content)
    outcome = candlecast(*words(arguments | {"--store": tmp_path / "store"}))
    assert_one_line(outcome, str(victim), "the file is damaged; restore it")
    assert not (tmp_path / "out").exists()


def test_a_damaged_shard_is_not_finished(tmp_path: Path) -> None:
    staging = Folder(tmp_path / "staging")
    files = ShardFiles(staging, "shard")
    rows = pl.DataFrame({"symbol": ["A"] * 500}).select(
        pl.col(name) if name == "symbol" else pl.lit(None, dtype).alias(name)
        for name, dtype in STEPS_SCHEMA.items()
    )
    files.write({"steps": rows})
    assert FinishedShard.read(staging, "shard") is None, "no manifest yet"
    files.finish([DateResult(datetime(2016, 1, 8, 21, tzinfo=UTC), forecast=1)])
    finished = FinishedShard.read(staging, "shard")
    assert finished is not None
    assert pl.read_parquet(finished.files["steps"]).height == 500
    victim = Path(finished.files["steps"])
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    assert FinishedShard.read(staging, "shard") is None, "one bit was enough"


def test_stores_of_newer_code_are_refused(
    arguments: dict[str, object], store: Path, tmp_path: Path, candlecast: Callable[..., Outcome]
) -> None:
    shutil.copytree(store, tmp_path / "store")
    log = tmp_path / "store" / "bars" / "_delta_log" / f"{1:020}.json"
    log.write_text(log.read_text().replace('\\"format\\": 2', '\\"format\\": 99'))
    newer_store = candlecast(*words(arguments | {"--store": tmp_path / "store"}))
    assert_one_line(newer_store, "store format 99", "update it")

    assert candlecast(*words(arguments)).code == 0
    (pointer,) = (tmp_path / "out" / "latest").rglob("*.json")
    pointer.write_text(json.dumps(json.loads(pointer.read_text()) | {"format": 99}))
    again = candlecast(*words(arguments | {"--paths": 5}))
    assert_one_line(again, "format 99, written by a newer candlecast")


def test_an_address_where_nobody_answers_is_named(
    arguments: dict[str, object], candlecast: Callable[..., Outcome], tmp_path: Path
) -> None:
    done = subprocess.run(
        ["candlecast", *map(str, words(arguments | {"--address": "127.0.0.1:1"}))],
        capture_output=True, text=True, check=False, timeout=60,
        env=os.environ | {"PATH": f"{Path(os.sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    outcome = Outcome(done.returncode, done.stdout, done.stderr)
    assert_one_line(outcome, "--address 127.0.0.1:1: no Ray cluster answers there", "ray start")


def test_too_few_gpus_are_told_before_anything_waits(
    settings: ForecastSettings,
) -> None:
    greedy = settings.model_copy(update={"gpus_per_replica": 0.5, "model": "random-walk"})
    with pytest.raises(ConfigError, match=r"has 3 CPUs and 0 GPUs, but 1 replica\(s\) need 1 each"):
        run_forecast(greedy)
    ranged = settings.model_copy(update={"replicas": "1:2", "model": "random-walk"})
    assert run_forecast(ranged).record.n_forecasts == 3 * 8
