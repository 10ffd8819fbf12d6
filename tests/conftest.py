"""Fixtures every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "fast", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

GOLDEN = Path(__file__).parent / "golden"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, the longest files come first: those with Ray."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: "cluster" not in item.path.parts)


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
