"""What a reader is told before trusting a night."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl
import pytest
from starlette.testclient import TestClient

from cluster.console.overview import coverage_off
from cluster.console.trust import RATIO_SCHEMA


def nights(n: int, coverage: float) -> pl.DataFrame:
    days = [date(2024, 1, 1) + timedelta(days=k) for k in range(n)]
    return pl.DataFrame(
        {"as_of_date": days, "step": [1] * n, "ratio": [1.0] * n, "windows": [40] * n,
         "coverage": [coverage] * n},
        schema=RATIO_SCHEMA,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("n", "coverage", "words"),
    [(12, 0.5, "too narrow"), (12, 0.97, "too wide"), (12, 0.75, None), (5, 0.5, None)],
)
def test_intervals_that_hold_something_else_than_they_say(
    n: int, coverage: float, words: str | None
) -> None:
    told = coverage_off(nights(n, coverage))
    assert (words in told) if told and words else told is words


def test_models_beside_each_other(client: TestClient) -> None:
    assert "random walk" in client.get("/models/ratios").text
    told = {each["name"]: each for each in client.get("/api/models").json()["models"]}
    assert set(told) == {"random-walk", "bootstrap"}
    assert told["bootstrap"]["dates"] == 3
    assert told["bootstrap"]["baseline"]
    slot = told["bootstrap"]["slot"]
    assert client.get(f"/api/universe?model={slot}").json()["night"]["model"] == "bootstrap"
    assert "Published: 12 as sampled." in client.get("/trust?model=bootstrap").text


def test_backtests_for_programs(client: TestClient) -> None:
    found = client.get("/api/backtests").json()["reports"]
    assert {each["settings"]["commission_bps"] for each in found} == {2, 4}
    assert all(each["summary"]["books"] for each in found)
    tag = {"if-none-match": client.get("/backtests").headers["etag"]}
    assert client.get("/backtests", headers=tag).status_code == 304
