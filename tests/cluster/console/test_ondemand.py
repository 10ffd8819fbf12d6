"""Forecasts on demand: the nightly numbers, whoever else asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from starlette.testclient import TestClient

import candlecast as cc
from cluster.console.ondemand import (
    LONGEST_LINGER_S,
    Ask,
    BusyError,
    LocalModels,
    Made,
    OnDemand,
    waited,
)
from cluster.console.requests import ForecastRequest, window_of
from cluster.console.settings import ServeSettings
from cluster.forecasting.job import run_forecast
from cluster.forecasting.work import Task
from cluster.settings import ForecastSettings
from market.errors import ForecastInputError
from market.fields import FEATURES
from market.lake.history import MarketHistory
from market.table.forecasts import ForecastTable
from tests.cluster.console.made_up import TOKEN, console_at

NUMBERS = ["symbol", "step", "timestamp", "last_close", "n_paths", "flags", "p_up"]


def numbers(frame: pl.DataFrame) -> pl.DataFrame:
    """Everything in rows but who made them."""
    values = [c for c in frame.columns if c.rsplit("_", 1)[0] in FEATURES]
    return frame.select(*NUMBERS, *values).sort("symbol", "step")


@pytest.fixture(scope="module")
def models(model: str) -> LocalModels:
    """The tiny model of the tests, and a baseline."""
    return LocalModels((model, "bootstrap"))


def asked(settings: ServeSettings, symbol: str, **more: object) -> tuple[Ask, Task]:
    request = ForecastRequest(symbol=symbol, lookback=48, horizon=3, paths=4, seed=5, **more)  # type: ignore[arg-type]
    return window_of(request, settings, MarketHistory.open(settings.store), "bootstrap")


def on_demand(
    settings: ServeSettings, models: LocalModels, model: str, day: str, symbols: list[str]
) -> tuple[list[Made], list[Made]]:
    """Every symbol forecast from a day: some one after the other, and all at the same time."""
    work = [asked(settings, symbol, as_of=day, model=model) for symbol in symbols]
    demand = OnDemand(models, 100)
    alone = [demand.submit(*each).result(120) for each in work[:3]]
    waiting = [demand.submit(*each) for each in reversed(work)]
    together = [each.result(120) for each in reversed(waiting)]
    demand.close()
    return alone, together


def test_the_numbers_depend_on_nobody_else(
    settings: ServeSettings, models: LocalModels, model: str
) -> None:
    """Alone or in company, and bit for bit what a notebook gets."""
    history = MarketHistory.open(settings.store)
    day = history.sessions()[-4]
    bars = history.scan().sort("symbol", "timestamp").select("symbol", "timestamp", *FEATURES)
    own = cc.forecast(bars.collect(), 3, model=model, paths=4, lookback=48, venue="XNYS", seed=5,
                      as_of=day)  # fmt: skip
    rows = numbers(own.steps.collect())
    symbols = rows["symbol"].unique(maintain_order=True).to_list()
    assert len(symbols) == 12
    alone, together = on_demand(settings, models, model, str(day), symbols)
    assert {made.together for made in alone} == {1}
    assert max(made.together for made in together) > 1
    assert numbers(pl.concat([made.steps for made in together])).equals(rows)
    for one, other in zip(alone, together, strict=False):
        assert one.steps.equals(other.steps)
        assert one.path_stats.equals(other.path_stats)


@pytest.mark.usefixtures("local_ray")
def test_the_numbers_are_those_of_a_run(
    settings: ServeSettings, models: LocalModels, model: str, tmp_path: Path
) -> None:
    """Bit for bit what a run on Ray commits."""
    day = str(MarketHistory.open(settings.store).sessions()[-4])
    asked_for = ForecastSettings(
        store=settings.store, out=tmp_path / "table", as_of=day, model=model, lookback=48,
        horizon=3, paths=4, seed=5, replicas=1,
    )  # fmt: skip
    record = run_forecast(asked_for).record
    rows = numbers(ForecastTable(tmp_path / "table").scan(run_id=record.run_id).collect())
    symbols = rows["symbol"].unique(maintain_order=True).to_list()
    _, together = on_demand(settings, models, model, day, symbols)
    assert numbers(pl.concat([made.steps for made in together])).equals(rows)
    assert {made.model_id for made in together} == {record.model_id}


def test_bars_sent_along_give_the_numbers_of_a_notebook(
    client: TestClient, settings: ServeSettings
) -> None:
    bars = MarketHistory.open(settings.store).scan(symbols=["SIM001"]).sort("timestamp").collect()
    own = cc.forecast(bars.select("symbol", "timestamp", *FEATURES), 3, model="bootstrap", paths=8,
                      lookback=48, venue="XNYS", seed=2)  # fmt: skip
    columns = {name: bars[name].to_list() for name in FEATURES}
    columns["timestamp"] = [str(day) for day in bars["session"]]
    request = {"symbol": "SIM001", "bars": columns, "venue": "XNYS", "model": "bootstrap",
               "paths": 8, "lookback": 48, "horizon": 3, "seed": 2}  # fmt: skip
    answer = client.post("/forecast", json=request)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    expected = own.steps.collect().sort("step")
    for name in ("close_mean", "close_q10", "close_q90", "p_up", "high_q90", "volume_mean"):
        assert [row[name] for row in told["steps"]] == expected[name].to_list()
    stored = {k: v for k, v in request.items() if k not in ("bars", "venue")}
    assert client.post("/forecast", json=stored).json()["steps"] == told["steps"]
    earlier = str(bars["session"][-3])
    assert (
        client.post("/forecast", json={**request, "as_of": earlier}).json()["steps"]
        == client.post("/forecast", json={**stored, "as_of": earlier}).json()["steps"]
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"symbol": "NOBODY"}, "no bars of this symbol"),
        ({"lookback": 4000}, "too short: 120 bars"),
        ({"as_of": "1999-01-01"}, "outside the history"),
        ({"as_of": "yesterday"}, "is not a date"),
        ({"bars": {"timestamp": ["2024-01-01"], "open": [1], "high": [1], "low": [1],
                   "close": [1, 2]}}, "different lengths"),
        ({"bars": {"timestamp": ["2024-01-02", "2024-01-03"], "open": [1, 1], "high": [1, 1],
                   "low": [2, 1], "close": [1, 1]}}, "rule: low <= open"),
        ({"bars": {"timestamp": ["2024-01-02T00:00:00+02:00"], "open": [1], "high": [1],
                   "low": [1], "close": [1]}}, "without an offset"),
    ],
)  # fmt: skip
def test_what_cannot_be_forecast_is_said_in_a_line(
    client: TestClient, more: dict[str, object], words: str
) -> None:
    answer = client.post("/forecast", json={"symbol": "SIM001", "lookback": 48, **more})
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


def test_one_bad_window_spoils_no_other(settings: ServeSettings, models: LocalModels) -> None:
    good, other = asked(settings, "SIM001"), asked(settings, "SIM002")

    def compute(ask: Ask, tasks: Sequence[Task]) -> list[Made]:
        if any(task.window.symbol == "SIM002" for task in tasks):
            raise ForecastInputError("SIM002: broken")
        return models(ask, tasks)

    demand = OnDemand(compute, 10)
    first, second = demand.submit(*good), demand.submit(*other)
    assert first.result(30).steps.height == 3
    with pytest.raises(ForecastInputError, match="broken"):
        second.result(30)
    assert demand.submit(*good).result(30).steps.height == 3, "the worker goes on"
    demand.close()


def test_requests_that_are_being_prepared_are_waited_for(settings: ServeSettings) -> None:
    """Their bars are read while the first one waits: computed together, not one after the other."""
    sizes = []

    def compute(ask: Ask, tasks: Sequence[Task]) -> list[Made]:
        sizes.append(len(tasks))
        return [Made(pl.DataFrame(), pl.DataFrame(), "x", len(tasks)) for _ in tasks]

    work = asked(settings, "SIM001")
    patient, hasty = OnDemand(compute, 10, prepared_s=60), OnDemand(compute, 10, prepared_s=0.1)
    with patient.coming():
        first = patient.submit(*work)
        time.sleep(3 * LONGEST_LINGER_S)
        second = patient.submit(*work)
    assert first.result(30).together == second.result(30).together == 2
    with hasty.coming():  # and never comes
        assert hasty.submit(*work).result(30).together == 1
    assert sizes == [2, 1]
    patient.close()
    hasty.close()


def test_too_many_that_wait_are_told_so(settings: ServeSettings) -> None:
    go = threading.Event()

    def compute(ask: Ask, tasks: Sequence[Task]) -> list[Made]:
        go.wait(30)
        return [Made(pl.DataFrame(), pl.DataFrame(), "x", 1) for _ in tasks]

    demand = OnDemand(compute, 2)
    work = asked(settings, "SIM001")
    waiting = [demand.submit(*work)]
    time.sleep(0.3)  # the first is at work
    waiting += [demand.submit(*work) for _ in range(2)]
    with pytest.raises(BusyError):
        demand.submit(*work)
    go.set()
    assert len([each.result(30) for each in waiting]) == 3
    demand.close()


def test_what_nobody_waits_for_is_not_computed(settings: ServeSettings) -> None:
    go, sizes = threading.Event(), []

    def compute(ask: Ask, tasks: Sequence[Task]) -> list[Made]:
        sizes.append(len(tasks))
        go.wait(30)
        return [Made(pl.DataFrame(), pl.DataFrame(), "x", 1) for _ in tasks]

    demand, work = OnDemand(compute, 5), asked(settings, "SIM001")
    first = demand.submit(*work)
    time.sleep(3 * LONGEST_LINGER_S)  # it is at work
    with pytest.raises(TimeoutError):
        waited(demand.submit(*work), 0.05)
    go.set()
    assert first.result(30).model_id == "x"
    demand.close()
    assert sizes == [1]


def test_many_at_once_over_http(settings: ServeSettings) -> None:
    """Twenty requests at the same time have the answers of twenty one after the other."""
    _, app = console_at(settings)
    bodies = [
        {"symbol": f"SIM00{k % 8}", "lookback": 48, "horizon": 3, "paths": 8, "seed": k}
        for k in range(20)
    ]
    headers = {"authorization": f"Bearer {TOKEN}"}
    with TestClient(app, base_url="http://127.0.0.1:8600", headers=headers) as client:  # type: ignore[arg-type]
        one_by_one = [client.post("/forecast", json=body).json() for body in bodies]
        with ThreadPoolExecutor(20) as pool:
            at_once = list(pool.map(lambda b: client.post("/forecast", json=b).json(), bodies))
    assert at_once == one_by_one
    assert all(len(each["steps"]) == 3 for each in at_once)
