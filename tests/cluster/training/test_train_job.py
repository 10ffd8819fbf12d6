"""`candlecast train` on a real local Ray: killed and resumed, and what wrong input gets."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file

from cluster.training.series import SeriesSource, ensure, lake_source
from forecaster.kronos.predictor import Kronos
from forecaster.training import PredictorTraining, TokenizerTraining, train_tokenizer
from forecaster.training.checkpoints import Checkpoints
from forecaster.training.data.series_file import open_series, store_series
from forecaster.training.run_log import TIMING, read_metrics
from market.importing.files import import_frame
from market.lake.history import MarketHistory
from market.synthetic import SimulatorParams, simulate_market
from market.table.forecasts import ForecastTable
from tests.cluster.conftest import SPEC, Outcome, make_store
from tests.forecaster.training.training_group import train_in_group

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="victims are found in /proc"),
    pytest.mark.usefixtures("local_ray"),
]

STEPS = 100
SHARED: dict[str, Any] = {
    "seed": 3,
    "data": {
        "train_through": "2015-06-30",
        "validation_through": "2015-12-31",
        "test_through": "2016-12-31",
        "purge_bars": 4,
    },
    "windows": {"lookbacks": [16, 24], "horizon": 4, "validation_horizon": 4},
    "optimiser": {"steps": STEPS, "batch_size": 4, "max_lr": 1e-3, "clip_norm": 2.0},
    "run": {
        "log_every": 1, "validate_every": 50, "checkpoint_every": 10, "validation_windows": 16,
    },
}  # fmt: skip
TOKENIZER = {
    "d_model": 16, "n_heads": 2, "ff_dim": 16, "n_enc_layers": 2, "n_dec_layers": 2,
    "s1_bits": 4, "s2_bits": 4,
}  # fmt: skip
PREDICTOR = {
    "n_layers": 1, "d_model": 16, "n_heads": 2, "ff_dim": 16, "resid_dropout_p": 0.1,
}  # fmt: skip


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "store"
    params = SimulatorParams(seed=5, n_symbols=5, n_sessions=560, start=date(2014, 6, 2))
    make_store(folder, simulate_market(params))
    return folder


def write(path: Path, changes: dict[str, Any]) -> Path:
    merged = {
        key: {**SHARED.get(key, {}), **value} if isinstance(value, dict) else value
        for key, value in {**SHARED, **changes}.items()
    }
    path.write_text(yaml.safe_dump(merged))
    return path


def predictor_config(path: Path, model: str) -> Path:
    bits = Kronos.from_pretrained(f"{model}/predictor").config
    return write(
        path, {"model": {**PREDICTOR, "s1_bits": bits["s1_bits"], "s2_bits": bits["s2_bits"]}}
    )


def figures(folder: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k not in TIMING} for line in read_metrics(folder)]


def wait_for_checkpoint(out: Path, ended: Callable[[], bool], seconds: float = 300) -> int:
    """Step of the first whole checkpoint."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not ended():
        found = sorted((out / "checkpoints").glob("step-*"))
        if found:
            return int(found[0].name.removeprefix("step-"))
        time.sleep(0.005)
    raise AssertionError("no checkpoint in time")


def own_processes(title: str) -> list[int]:
    """Processes with this title whose ancestor is this one."""
    parents, found = {}, []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
            if title.encode() in command:
                found.append(int(entry.name))

    def is_own(pid: int) -> bool:
        while pid > 1:
            pid = parents.get(pid, 0)
            if pid == os.getpid():
                return True
        return False

    return sorted(filter(is_own, found))


def test_a_killed_worker_changes_no_bit(
    candlecast: Callable[..., Outcome], market: Path, tmp_path: Path
) -> None:
    config = write(tmp_path / "t.yaml", {"model": TOKENIZER})
    out = tmp_path / "tokenizer"
    killed_at: list[int] = []
    done = threading.Event()

    def kill() -> None:
        wait_for_checkpoint(out, done.is_set)
        for pid in own_processes("RayTrainWorker"):
            os.kill(pid, signal.SIGKILL)
            killed_at.append(int(read_metrics(out)[-1]["step"]))

    killer = threading.Thread(target=kill)
    killer.start()
    made = candlecast("train", "tokenizer", "--config", config, "--store", market, "--out", out)
    done.set()
    killer.join()
    assert made.code == 0, made.err
    assert len(killed_at) == 1
    assert 10 <= killed_at[0] < STEPS
    assert "ETA" in made.out
    assert len(list((market / "series").glob("*/index.json"))) == 1

    (series,) = (path for path in (market / "series").iterdir() if path.is_dir())
    settings = TokenizerTraining.model_validate(yaml.safe_load(config.read_text()))
    torch.set_num_threads(1)
    train_tokenizer(settings, open_series(series), tmp_path / "plain")
    assert figures(out) == figures(tmp_path / "plain")
    ours, plain = (load_file(f / "model.safetensors") for f in (out, tmp_path / "plain"))
    assert all(torch.equal(ours[name], value) for name, value in plain.items())

    page = (out / "training.html").read_text()
    for words in ("Codebook use", "Reconstruction", "Gradient norm", "Data wait", "never used"):
        assert words in page
    again = candlecast("train", "tokenizer", "--config", config, "--store", market, "--out", out)
    assert "already trained" in again.out
    other = candlecast(
        "train", "tokenizer", "--config", config, "--store", market, "--out", out, "--workers", 2
    )
    assert other.code == 2
    assert "was made by 1 worker(s), now there are 2" in other.err


def test_a_killed_driver_is_resumed_by_the_same_command(
    candlecast: Callable[..., Outcome], market: Path, model: str, tmp_path: Path
) -> None:
    config = predictor_config(tmp_path / "p.yaml", model)
    out = tmp_path / "predictor"
    store = tmp_path / "store"
    shutil.copytree(market, store, ignore=shutil.ignore_patterns("series"))
    command = [
        "train", "predictor", "--config", str(config), "--store", str(store),
        "--tokenizer", f"{model}/tokenizer", "--out", str(out), "--workers", "2",
    ]  # fmt: skip
    driver = subprocess.Popen(
        [sys.executable, "-c", "from cluster.cli import main; main()", *command],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        wait_for_checkpoint(out, lambda: driver.poll() is not None)
        locked = candlecast(*command)
        assert locked.code == 2
        assert "training is running elsewhere" in locked.err
    finally:
        driver.send_signal(signal.SIGKILL)
        _, told = driver.communicate()
    assert not (out / "training.json").exists(), told.decode()
    newcomer = simulate_market(SimulatorParams(seed=8, n_symbols=3, n_sessions=400))
    import_frame(newcomer.with_columns(pl.format("N{}", "symbol").alias("symbol")), store, SPEC)

    made = candlecast(*command)
    assert made.code == 0, made.err
    assert "going on after step" in made.out
    settings = PredictorTraining.model_validate(yaml.safe_load(config.read_text()))
    (series,) = (path for path in (store / "series").iterdir() if path.is_dir())
    train_in_group(2, settings, [series], tmp_path / "whole", Path(model) / "tokenizer")
    ours, whole = figures(out), figures(tmp_path / "whole")
    assert [line["step"] for line in ours] == list(range(1, STEPS + 1))
    for name in ("loss", "grad_norm", "lr"):
        np.testing.assert_allclose(
            [line[name] for line in ours], [line[name] for line in whole], rtol=1e-6
        )

    history = MarketHistory.open(market)
    night = history.sessions(date(2016, 1, 1))[0]
    forecast = candlecast(
        "forecast", "--store", market, "--as-of", night, "--model", out,
        "--tokenizer", f"{model}/tokenizer", "--lookback", 24, "--horizon", 4, "--paths", 2,
        "--replicas", 1, "--out", tmp_path / "table",
    )  # fmt: skip
    assert forecast.code == 0, forecast.err
    assert ForecastTable(tmp_path / "table").scan().select(pl.len()).collect().item() == 5 * 4
    newest = Checkpoints(out / "checkpoints", 1).newest()
    assert newest is not None
    assert newest.step == STEPS


def test_a_loss_that_explodes_ends_the_job_with_the_batch_named(
    candlecast: Callable[..., Outcome], market: Path, tmp_path: Path
) -> None:
    config = write(
        tmp_path / "t.yaml", {"model": TOKENIZER, "optimiser": {"max_lr": 1e30}, "run": {}}
    )
    made = candlecast(
        "train", "tokenizer", "--config", config, "--store", market, "--out", tmp_path / "o"
    )
    assert made.code == 2
    assert made.err.count("\n") == 1
    assert "Stopped before the update; the last checkpoint is good. The batch held SIM" in made.err
    assert not (tmp_path / "o" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "flags", "told"),
    [
        ({"optimiser": {"batch_size": 10_000}}, (), "but a batch takes 10000 of them"),
        ({"data": {"validation_through": "2015-07-02"}}, (), "nothing to validate on"),
        ({"data": {"train_through": "2014-06-10"}}, (), "no unbroken run of 28 bars"),
        ({"data": {"validation_from": "2015-07-02"}}, (), "Targets may begin on 2015-07-08"),
        ({"data": {"validation_from": "2015-06-30"}}, (), "the two overlap"),
        ({}, ("--workers", 64), "--workers 64 with 1 thread(s) each: this machine has"),
        ({}, ("--gpus",), "1 GPUs are needed and there are 0"),
        ({"optimiser": {"batch_size": 5}}, ("--workers", 2), "shared evenly by 2 worker(s)"),
        ({}, ("--from", "{model}/tokenizer"), "--from needs the same model"),
        ({}, ("--from", "nano"), "--from needs the same model"),
        ({}, ("--from", "{model}/predictor"), "Is this folder the other half"),
        ({"colour": 1}, (), "colour: unknown key"),
    ],
)
def test_bad_input_is_one_line(
    candlecast: Callable[..., Outcome], market: Path, model: str, tmp_path: Path,
    changes: dict[str, Any], flags: tuple[object, ...], told: str,
) -> None:  # fmt: skip
    config = write(tmp_path / "t.yaml", {"model": TOKENIZER, **changes})
    flags = tuple(str(flag).replace("{model}", model) for flag in flags)
    made = candlecast(
        "train", "tokenizer", "--config", config, "--store", market, "--out", tmp_path / "o", *flags
    )
    assert made.code == 2, made.out
    assert made.err.count("\n") == 1
    assert told in made.err


def test_bad_places_and_pairs_are_one_line(
    candlecast: Callable[..., Outcome], market: Path, model: str, tmp_path: Path
) -> None:
    tied = ("--tokenizer", f"{model}/tokenizer")
    config = write(tmp_path / "t.yaml", {"model": TOKENIZER})
    (tmp_path / "file").write_text("")
    tokenizer = ("train", "tokenizer", "--config", config)
    wide = write(tmp_path / "p.yaml", {"model": {**PREDICTOR, "s1_bits": 5, "s2_bits": 5}})
    predictor = ("train", "predictor", "--store", market, "--out", tmp_path / "o")
    fresh = tmp_path / "p2.yaml"
    write(fresh, {})
    for arguments, told in (
        ((*tokenizer, "--store", market, "--out", tmp_path / "file" / "o"), "cannot be written"),
        (
            (*tokenizer, "--store", tmp_path / "nowhere", "--out", tmp_path / "o"),
            "no history store",
        ),
        ((*tokenizer, "--out", tmp_path / "o"), "no bars to train on: give --store"),
        ((*predictor, "--config", wide, "--tokenizer", "nowhere"), "nowhere: no such folder"),
        (
            (*predictor, "--config", wide, *tied),
            "the config's model has s1_bits=5",
        ),
        (
            (*predictor, "--config", fresh, *tied, "--from", "nano"),
            "has s1_bits=8 and s2_bits=8, but the tokenizer has 6 and 6",
        ),
        ((*predictor, "--config", fresh, *tied), "no model: section"),
    ):
        made = candlecast(*arguments)
        assert made.code == 2, made.out
        assert made.err.count("\n") == 1
        assert told in made.err


def test_series_appear_whole_or_not_at_all_and_are_built_once(market: Path, tmp_path: Path) -> None:
    history = MarketHistory.open(market)
    whole = lake_source(history, tmp_path)
    ensure(whole)
    for stored, one in zip(open_series(whole.folder), history.series(), strict=True):
        assert stored.symbol == one.symbol
        np.testing.assert_array_equal(stored.values_NF, one.values_NF)
        np.testing.assert_array_equal(stored.timestamps_N, one.timestamps_N)

    built: list[Path] = []
    tries = iter([True, False])

    def build(folder: Path) -> None:
        (folder / "values.npy").write_bytes(b"half")
        if next(tries):
            raise KeyboardInterrupt
        time.sleep(0.3)
        store_series(folder, open_series(whole.folder), "copy")
        built.append(folder)

    source = SeriesSource(tmp_path / "series" / "copy-1", "copy", build)
    with pytest.raises(KeyboardInterrupt):
        ensure(source)
    assert not source.is_built
    together = [threading.Thread(target=ensure, args=(source,)) for _ in range(3)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    assert len(built) == 1
    assert source.is_built
    folders = [path.name for path in source.folder.parent.iterdir() if path.is_dir()]
    assert folders == ["copy-1"], "no leftovers"
