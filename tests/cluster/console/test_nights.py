"""Readers while nights are committed, and what the JSON interface says of a night."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from cluster.console.settings import ServeSettings
from market.table.forecasts import ForecastTable
from tests.cluster.console.made_up import TOKEN, console_at, many_rows, publish

START = date(2024, 3, 4)
READERS, NIGHTS, SYMBOLS = 50, 5, 120


@pytest.fixture
def moving(tmp_path: Path, place: Path) -> ServeSettings:
    """A table of one model whose nights differ in their level: night n closes at 100 + n."""
    write(ForecastTable(tmp_path / "forecasts"), 0)
    return ServeSettings(
        store=place / "store", forecasts=tmp_path / "forecasts", model="none",
        requests_per_second=100_000,
    )  # fmt: skip


def write(table: ForecastTable, n: int, run: str = "a") -> None:
    """Every second night replaces the one before it, the others bring a new date."""
    day = START + timedelta(days=n // 2)
    frames = many_rows(SYMBOLS, day, run_id=f"{n:015x}{run}", level=100.0 + n)
    publish(table, frames, "made-up")


def test_readers_see_whole_nights_alone(moving: ServeSettings) -> None:
    """Fifty readers page through tables while nights are committed and replaced under them."""
    _, app = console_at(moving)
    table = ForecastTable(moving.forecasts)
    over, wrong, seen = threading.Event(), [], set()
    headers = {"authorization": f"Bearer {TOKEN}"}
    with TestClient(app, base_url="http://127.0.0.1:8600", headers=headers) as client:  # type: ignore[arg-type]

        def read(k: int) -> int:
            looks, last = 0, False
            while not last:
                last = over.is_set()
                looks += 1
                if k % 3 == 0:
                    told = client.get("/api/universe?page=2").json()
                    levels = {row["last_close"] for row in told["rows"]}
                    whole = told["total"] == SYMBOLS and len(told["rows"]) == SYMBOLS - 100
                    runs = {told["night"]["run_id"][:15]}
                elif k % 3 == 1:
                    content = client.get("/api/forecasts.arrow").content
                    rows = pl.DataFrame(pa.ipc.open_stream(content).read_all())
                    levels, whole = set(rows["last_close"]), rows.height == 2 * SYMBOLS
                    runs = {run[:15] for run in rows["run_id"]}
                else:
                    told = client.get(f"/api/forecasts?symbol=S{k:05d}").json()
                    levels, whole = {told["last_close"]}, len(told["steps"]) == 2
                    runs = {told["run_id"][:15]}
                if not whole or len(levels) != 1 or {100.0 + int(r, 16) for r in runs} != levels:
                    wrong.append((k, whole, levels, runs))
                seen.update(levels)
            return looks

        with ThreadPoolExecutor(READERS) as pool:
            reading = [pool.submit(read, k) for k in range(READERS)]
            for n in range(1, NIGHTS):
                write(table, n)
            over.set()
            looks = sum(each.result(60) for each in reading)
    assert not wrong
    assert looks >= READERS
    assert max(seen) == 100.0 + NIGHTS - 1
    assert len(seen) > 1, "the table moved while they read"


def test_bulk_is_the_table(client: TestClient, settings: ServeSettings) -> None:
    night = client.get("/api/nights").json()["nights"][0]
    table = ForecastTable(settings.forecasts, night["versions"])
    rows = table.scan(night["model_id"], night["run_id"]).collect().sort("symbol", "step")
    content = client.get(f"/api/forecasts.parquet?model={night['slot']}").content
    assert pl.read_parquet(io.BytesIO(content)).equals(rows)
    stream = client.get(f"/api/forecasts.arrow?model={night['model']}").content
    assert pl.DataFrame(pa.ipc.open_stream(stream).read_all()).equals(rows)
    stats = client.get("/api/forecasts.parquet?kind=path_stats").content
    assert pl.read_parquet(io.BytesIO(stats)).height == night["forecasts"]
    days = client.get("/api/dates").json()["dates"]
    older = client.get(f"/api/forecasts.parquet?as_of={days[-1]}").content
    assert {str(day) for day in pl.read_parquet(io.BytesIO(older))["as_of_date"]} == {days[-1]}
    for form in ("parquet", "arrow"):
        address = f"/api/forecasts.{form}?model=bootstrap&since={days[-1]}&as_of={days[1]}"
        answer = client.get(address)
        content = answer.content
        many = (
            pl.read_parquet(io.BytesIO(content))
            if form == "parquet"
            else pl.DataFrame(pa.ipc.open_stream(content).read_all())
        )
        assert many["as_of_date"].is_sorted()
        assert {str(day) for day in many["as_of_date"]} == set(days[1:])
        assert many["model_id"].n_unique() == 1
        known = {"if-none-match": answer.headers["etag"]}
        assert client.get(address, headers=known).status_code == 304
    assert client.get(f"/api/forecasts.arrow?as_of=1999-01-04&since={days[-1]}").status_code == 404


def test_the_description_names_every_route(client: TestClient) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    assert {"/forecast", "/api/forecasts", "/api/universe", "/api/health", "/api/runs"} <= set(
        paths
    )
    shown = client.get("/api").text
    assert all(f"{path}</code></h2>" in shown for path in paths)
    one, other = (r["run_id"] for r in client.get("/api/runs").json()["runs"][:2])
    told = client.get(f"/api/runs/diff?first={one}&second={other}").json()
    assert set(told["runs"]) == {one, other}
    assert client.get(f"/api/run?id={one[:6]}").json()["run_id"] == one
    assert "too short" in client.get(f"/run?id={one}").text


def test_a_symbol_at_any_date_beside_others(client: TestClient, settings: ServeSettings) -> None:
    days = client.get("/api/dates?model=bootstrap").json()["dates"]
    assert len(days) == 3
    newest = client.get("/api/forecasts?symbol=SIM003&model=bootstrap").json()
    assert (newest["as_of"][:10], len(newest["steps"]), newest["happened"]) == (
        days[0], 5, newest["happened"][:5],
    )  # fmt: skip
    first = client.get(f"/api/forecasts?symbol=SIM003&model=bootstrap&as_of={days[-1]}").json()
    assert first["as_of"][:10] == days[-1]
    assert len(first["happened"]) == 5
    html = client.get(f"/symbol?name=SIM003&model=bootstrap&as_of={days[-1]}").text
    assert "<th>bootstrap</th>" in html
    assert "<th>random-walk</th>" in html
    assert "5 of 5 bars happened" in html
    assert "3</td>" in client.get("/trust?model=bootstrap").text
    assert client.get("/symbol?name=NOBODY").status_code == 422
    assert client.get("/symbol?name=SIM003&as_of=1999-01-04").status_code == 404
    assert client.get("/universe?model=nothing").status_code == 404
