"""Forecasts on demand from a real Ray Serve: the numbers of a run, and no door left open."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from starlette.testclient import TestClient

from cluster.console.deployment import OnCluster, on_cluster
from cluster.console.ondemand import LocalModels, OnDemand
from cluster.console.settings import ServeSettings
from market.errors import ForecastInputError
from market.lake.history import MarketHistory
from tests.cluster.console.made_up import TOKEN, console_at
from tests.cluster.console.test_ondemand import asked, numbers
from tests.cluster.test_access import LOOPBACK, children, listening

pytest.importorskip("ray.serve", reason="pip install 'candlecast[serve]'", exc_type=ImportError)


@pytest.fixture(scope="module")
def there(settings: ServeSettings) -> ServeSettings:
    return settings.model_copy(update={"address": "auto", "replicas": 2})


@pytest.fixture(scope="module")
def deployed(local_ray: None, there: ServeSettings, model: str) -> Iterator[OnCluster]:
    """Two replicas of the tiny model, on the Ray of the tests."""
    models = LocalModels((model, "bootstrap"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray about itself
        with on_cluster(there, models.names, models.load(model), "test") as made:
            yield made


def processes() -> set[int]:
    """Of the replicas."""
    found = set()
    for pid in children(os.getpid()):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"ServeReplica" in file.read():
                found.add(pid)
    return found


def test_the_numbers_are_those_of_this_process(
    deployed: OnCluster, there: ServeSettings, model: str
) -> None:
    """Which `test_ondemand` holds to be those of a run: whichever replica answers, and whoever
    else asks; also when a replica dies in the middle."""
    day = str(MarketHistory.open(there.store).sessions()[-4])
    symbols = MarketHistory.open(there.store).symbols()["symbol"].to_list()
    work = [
        asked(there, symbol, as_of=day, model=name)
        for name in (model, "bootstrap")
        for symbol in symbols
    ]
    here = OnDemand(LocalModels((model, "bootstrap")), 100)
    own = [each.result(120) for each in [here.submit(*each) for each in work]]
    here.close()
    answers = [deployed.submit(*each) for each in work]
    made = [each.result(120) for each in answers]
    assert numbers(pl.concat([each.steps for each in made])).equals(
        numbers(pl.concat([each.steps for each in own]))
    )
    assert [each.model_id for each in made] == [each.model_id for each in own]
    assert max(each.together for each in made) > 1
    if sys.platform == "linux":
        assert set(listening(children(os.getpid()))) <= LOOPBACK
        first, *others = processes()
        assert others
        again = [deployed.submit(*each) for each in work[:4]]
        os.kill(first, signal.SIGKILL)
        assert [each.result(120).steps.equals(own[k].steps) for k, each in enumerate(again)] == [
            True
        ] * 4


def test_a_console_over_it(deployed: OnCluster, there: ServeSettings, model: str) -> None:
    _, app = console_at(there.model_copy(update={"model": model}), ondemand=deployed)
    headers = {"authorization": f"Bearer {TOKEN}"}
    with TestClient(app, base_url="http://127.0.0.1:8600", headers=headers) as client:  # type: ignore[arg-type]
        bodies = [
            {"symbol": f"SIM00{k % 8}", "lookback": 48, "horizon": 3, "paths": 4, "seed": k}
            for k in range(12)
        ]
        with ThreadPoolExecutor(12) as pool:
            told = list(pool.map(lambda b: client.post("/forecast", json=b), bodies))
        assert [each.status_code for each in told] == [200] * 12
        assert all(len(each.json()["steps"]) == 3 for each in told)
        refused = client.post("/forecast", json={**bodies[0], "model": "/etc/passwd"})
        assert refused.status_code == 422
        assert "is not served here" in refused.json()["detail"]
        assert "Traceback" not in refused.text


def test_what_cannot_be_forecast_comes_back_as_our_error(
    deployed: OnCluster, there: ServeSettings
) -> None:
    ask, task = asked(there, "SIM001", model="elsewhere")
    with pytest.raises(ForecastInputError, match="is not served here"):
        deployed.submit(ask, task).result(60)
