"""Models by hub id, against a server on loopback: each trouble is one clear line, within seconds.

The endpoint is read when huggingface_hub is imported, so every case runs in a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.forecaster.hub_server import HubServer, hub_server

SECONDS = 5.0
"""Within which an answer must come, from the call on."""

PROGRAM = """
import hashlib, json, sys, time
from market.errors import CandlecastError
from forecaster.hub import fetch
from forecaster.kronos import Kronos, KronosTokenizer
from forecaster.timellm.loading import backbone_folder, folder_hash
from huggingface_hub import get_hf_file_metadata, hf_hub_download
try:  # what loads at the first request is not timed
    get_hf_file_metadata("http://127.0.0.1:9/a/b/resolve/main/c")
except Exception:
    pass

def load(source):
    if source == "acme/big":
        folder = fetch(source, ["big.safetensors"])
        return hashlib.sha256((folder / "big.safetensors").read_bytes()).hexdigest()
    if source.startswith("acme/gpt"):
        return folder_hash(backbone_folder(source))
    tokenizer = KronosTokenizer.from_pretrained("acme/small-tokenizer")
    return sum(p.numel() for p in Kronos.from_pretrained(source).parameters())

for source in sys.argv[1:]:
    began = time.monotonic()
    try:
        answer = {"found": load(source)}
    except CandlecastError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer | {"seconds": time.monotonic() - began}))
"""
BOTH = ("acme/small", "acme/gpt")
"""A Kronos predictor (with its tokenizer), and a backbone."""


class Answer(NamedTuple):
    found: object
    error: str
    seconds: float


Load = Callable[..., list[Answer]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads models by id, in a fresh process with a cache of the test's own."""

    def run(endpoint: str, *sources: str, **environment: str) -> list[Answer]:
        settings = {
            **os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "0", "no_proxy": "127.0.0.1",
            "OMP_NUM_THREADS": "1", **environment,
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *sources],
            env=settings, capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = [json.loads(line) for line in done.stdout.splitlines()]
        return [Answer(t.get("found"), t.get("error", ""), t["seconds"]) for t in told]

    return run


@pytest.fixture
def hub(tmp_path: Path, golden_dir: Path) -> Iterator[HubServer]:
    """Holds a Kronos model and a backbone."""
    root = tmp_path / "hub" / "acme"
    kronos = golden_dir / "kronos" / "simulated"
    shutil.copytree(kronos / "tokenizer", root / "small-tokenizer")
    shutil.copytree(kronos / "predictor", root / "small")
    shutil.copytree(golden_dir / "timellm" / "gpt2" / "llm", root / "gpt")
    with hub_server(tmp_path / "hub") as server:
        yield server


def found(answers: list[Answer]) -> list[object]:
    assert all(answer.found for answer in answers), answers
    return [answer.found for answer in answers]


def errors(answers: list[Answer]) -> list[str]:
    """What was said: one line each, in time."""
    for answer in answers:
        assert answer.error, answer
        assert "\n" not in answer.error
        assert answer.seconds < SECONDS
    return [answer.error for answer in answers]


def test_downloaded_once_then_found_without_the_hub(hub: HubServer, load: Load) -> None:
    first = found(load(hub.endpoint, *BOTH))
    assert hub.transfers().count("model.safetensors") == 3
    hub.asked.clear()
    assert found(load(hub.endpoint, *BOTH)) == first
    assert not hub.transfers()
    away = load("http://127.0.0.1:9", *BOTH)
    assert found(away) == first
    assert all(answer.seconds < SECONDS for answer in away)
    assert found(load(hub.endpoint, *BOTH, HF_HUB_OFFLINE="1")) == first


def test_a_broken_transfer_goes_on_where_it_broke(hub: HubServer, load: Load) -> None:
    """Content comes in parts of 10 MB; those that arrived whole are not asked for again."""
    content = np.random.default_rng(0).bytes(22 * 10**6)
    (hub.root / "acme" / "big").mkdir()
    (hub.root / "acme" / "big" / "big.safetensors").write_bytes(content)
    hub.break_after = {"big.safetensors": 15 * 10**6, "model.safetensors": 9000}
    answers = load(hub.endpoint, "acme/big", *BOTH)
    assert found(answers)[0] == hashlib.sha256(content).hexdigest()
    assert not hub.break_after
    (resumed,) = [asked for method, _, asked in hub.asked if method == "GET" and asked is not None]
    assert 10**7 <= int(resumed.removeprefix("bytes=").split("-")[0]) <= 15 * 10**6
    assert answers[0].seconds < SECONDS


def test_content_with_another_hash_is_refused_and_removed(hub: HubServer, load: Load) -> None:
    hub.alter.add("model.safetensors")
    for error in errors(load(hub.endpoint, *BOTH)):
        assert "model.safetensors arrived with another hash" in error
        assert "was removed. Download it again" in error
    hub.alter.clear()
    assert all(found(load(hub.endpoint, *BOTH)))


def test_a_missing_file_is_named(hub: HubServer, load: Load) -> None:
    for source, missing in (("acme/small", "config.json"), ("acme/gpt", "tokenizer.json")):
        (hub.root / source / missing).unlink()
    kronos, backbone = errors(load(hub.endpoint, *BOTH))
    assert "acme/small: the hub has no file config.json there" in kronos
    assert "acme/gpt: the hub has no file tokenizer.json there" in backbone
    assert "give the folder of a copy" in kronos
    (hub.root / "acme/gpt/tokenizer.json").write_text("{}")
    (hub.root / "acme/gpt/model.safetensors").unlink()
    [weights, nobody, nobodys] = errors(
        load(hub.endpoint, "acme/gpt", "acme/nobody", "acme/gpt-of-nobody")
    )
    assert "the hub has no model.safetensors of it" in weights
    assert "acme/nobody: no local folder, and the hub has no such model" in nobody
    assert "acme/gpt-of-nobody: no local folder, and the hub has no such model" in nobodys


def test_no_network_names_the_folder_option(load: Load) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and never answers
        unanswered = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for endpoint in ("http://127.0.0.1:9", unanswered):
            for error in errors(load(endpoint, *BOTH)):
                assert "the hub cannot be reached" in error
                assert "give the folder of a copy" in error


def test_a_sharded_backbone_is_fetched_whole(hub: HubServer, load: Load) -> None:
    from safetensors.torch import load_file, save_file

    folder = hub.root / "acme" / "gpt"
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = {
        "model-00001-of-00002.safetensors": names[: len(names) // 2],
        "model-00002-of-00002.safetensors": names[len(names) // 2 :],
    }
    for file, chosen in parts.items():
        save_file({name: weights[name] for name in chosen}, folder / file, {"format": "pt"})
    index = {name: file for file, chosen in parts.items() for name in chosen}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "model.safetensors").unlink()
    assert all(found(load(hub.endpoint, "acme/gpt")))
    assert set(hub.transfers()) >= set(parts)
