"""One store, table and folder of reports for all tests of the console."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from backtest import BacktestSettings, run_backtest, write_tear_sheet
from cluster.console.access import Access
from cluster.console.server import prepare
from cluster.console.settings import ServeSettings
from market.lake.history import MarketHistory
from tests.cluster.console.made_up import HOST, HOSTILE, TOKEN, console_at, made_store, made_table


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with store, forecasts and reports."""
    folder = tmp_path_factory.mktemp("console")
    bars = made_store(folder / "store")
    made_table(folder / "forecasts", folder / "store", bars)
    rows = MarketHistory.open(folder / "store").scan().collect()
    for k, title in ((2, HOSTILE[0]), (4, "The other")):
        settings = BacktestSettings(k=k, momentum=20, title=title, commission_bps=k)
        write_tear_sheet(run_backtest(rows, None, settings), folder / "reports" / f"k{k}.html")
    return folder


@pytest.fixture(scope="session")
def settings(place: Path) -> ServeSettings:
    return ServeSettings(
        store=place / "store", forecasts=place / "forecasts", reports=place / "reports",
        model="none", requests_per_second=10_000, body_seconds=1.0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def client(settings: ServeSettings) -> Iterator[TestClient]:
    """Somebody who came in with the token."""
    _, app = console_at(settings)
    headers = {"authorization": f"Bearer {TOKEN}"}
    with TestClient(app, base_url=f"http://{HOST}", headers=headers) as made:  # type: ignore[arg-type]
        yield made


@contextmanager
def serving(settings: ServeSettings, access: Access | None = None) -> Iterator[str]:
    """The real server on a free port, in a thread of this process; its address."""
    listening = prepare(settings.model_copy(update={"port": 0}), access or Access(1, 1, TOKEN))
    thread = threading.Thread(target=listening.run)
    thread.start()
    try:
        yield listening.address
    finally:
        listening.server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="session")
def served(settings: ServeSettings) -> Iterator[str]:
    with serving(settings) as address:
        yield address
