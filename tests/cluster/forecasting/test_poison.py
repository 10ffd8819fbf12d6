"""A series that kills its process is found, left out and told of; the rest goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.forecasting.isolation import Pass, ShardNotes
from cluster.settings import ForecastSettings
from market.storage import Folder
from market.table.forecasts import ForecastTable

A_SYMBOL_KILLS_ITS_PROCESS = """
import os, sys
import ray

def poison():
    from forecaster.baselines import RandomWalk
    healthy = RandomWalk._series
    def series(self, window_LF, symbol, *rest):
        if symbol == "SIM003":
            os._exit(1)
        return healthy(self, window_LF, symbol, *rest)
    RandomWalk._series = series

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False,
         object_store_memory=10**8, runtime_env={"worker_process_setup_hook": poison})
from cluster.forecasting.job import run_forecast
from cluster.settings import ForecastSettings
run_forecast(ForecastSettings.model_validate_json(sys.argv[1]))
"""


def test_a_poison_symbol_is_quarantined_with_its_history(
    settings: ForecastSettings, dates: list[str]
) -> None:
    poisoned = settings.model_copy(update={"as_of": dates[0], "model": "random-walk"})
    done = subprocess.run(
        [sys.executable, "-c", A_SYMBOL_KILLS_ITS_PROCESS, poisoned.model_dump_json()],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = ForecastTable(settings.out)
    (record,) = table.runs()
    failed = {name: note.reason for note in record.failed for name in note.symbols}
    assert set(failed) == {"SIM003"}
    for reason in failed.values():
        assert reason.startswith("process died: 3 times while forecasting it (among 8 series, pid ")
        assert reason.count("among 8 series") == 2
        assert reason.count("alone, pid ") == 1
    assert record.n_forecasts == 7
    assert not set(table.scan().collect()["symbol"]) & set(failed)


@pytest.fixture
def staging(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "staging")


TILE = [("A", "t"), ("B", "t")]


def die(staging: Folder, notes: ShardNotes, tile: list[tuple[str, str]]) -> None:
    """Leave the note a killed process would."""
    folder = staging / "notes"
    with notes.around(tile):
        left = {name: folder.read(name) for name in folder.names(".note.json")}
    for name, content in left.items():
        folder.write(name, content)


def test_a_death_counts_only_when_the_shard_is_begun_again_in_the_same_pass(
    staging: Folder,
) -> None:
    this = Pass.first()
    for _ in range(4):  # stopped from outside, four passes in a row
        die(staging, ShardNotes(staging, this, "s"), TILE)
        this = this.next()
    assert not ShardNotes(staging, this, "s").must_split(TILE)


def test_two_deaths_split_a_tile_and_a_third_condemns_only_its_own_series(staging: Folder) -> None:
    this = Pass.first()
    die(staging, ShardNotes(staging, this, "s"), TILE)
    second = ShardNotes(staging, this, "s")
    assert not second.must_split(TILE)
    die(staging, second, TILE)
    third = ShardNotes(staging, this, "s")
    assert third.must_split(TILE)
    assert third.verdict(TILE[0], TILE) is None
    die(staging, third, TILE[:1])
    fourth = ShardNotes(staging, this, "s")
    assert "3 times" in str(fourth.verdict(TILE[0], TILE))
    assert fourth.verdict(TILE[1], TILE) is None
    assert not ShardNotes(staging, this, "another shard").must_split(TILE)
    assert not ShardNotes(staging, Pass.first(), "s").must_split(TILE), "another driver"


def test_a_tile_that_ends_leaves_no_note(staging: Folder) -> None:
    notes = ShardNotes(staging, Pass.first(), "s")
    with pytest.raises(RuntimeError), notes.around(TILE):
        raise RuntimeError
    assert (staging / "notes").names() == []


def test_a_note_is_whole_json_while_the_tile_runs(staging: Folder) -> None:
    with ShardNotes(staging, Pass.first(), "s").around(TILE):
        (name,) = (staging / "notes").names()
        note = json.loads((staging / "notes").read(name))
    assert note["first"] == ["A", "t"]
    assert note["series"] == 2
