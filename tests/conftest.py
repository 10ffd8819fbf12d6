"""Fixtures every room's tests share."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.object_store import environment, make_bucket, serving

settings.register_profile(
    "fast", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

GOLDEN = Path(__file__).parent / "golden"


_LONGEST = (
    "test_train_job", "test_faults", "test_nightly", "test_train_timellm", "test_calibrate",
    "test_product", "test_tutorials", "test_sweep", "test_invariance", "test_walkforward",
    "test_poison", "test_demo",
)  # fmt: skip
"""Of the files of the cluster's tests, those that take longest."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with Ray come first, long files before short ones: processes that share the tests then
    end together, and none keeps an idle Ray while it does something else."""

    def place(item: pytest.Item) -> int:
        if "cluster" not in item.path.parts:
            return len(_LONGEST) + 1
        return _LONGEST.index(item.path.stem) if item.path.stem in _LONGEST else len(_LONGEST)

    items.sort(key=place)


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Expected outputs that travel with the project."""
    return GOLDEN


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with real market data and further golden cases; tests skip where there is none."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("CANDLECAST_SHARED", default))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real market data at {folder}; CANDLECAST_SHARED names a folder with data/")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Endpoint of a local S3 server. One for all tests: clients are kept by a process with the
    endpoint they began with, and would go on asking an earlier module's server."""
    with serving() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def s3(s3_server: str) -> Iterator[str]:
    """Credentials and endpoint of the server are in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        yield s3_server


@pytest.fixture(scope="module")
def bucket(s3: str) -> str:
    """URL of an empty bucket; credentials and endpoint are in the environment."""
    return make_bucket(f"test-{uuid.uuid4().hex}")
