"""From hindcasts to a calibrated night, its evaluation, its page and its tear sheet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from cluster.calibration.job import past_dates
from cluster.calibration.settings import CalibrateSettings
from cluster.night.trust import earlier_nights
from market.errors import ForecastInputError
from market.lake.history import MarketHistory
from market.synthetic import SimulatorParams, simulate_market
from market.table.forecasts import ForecastTable
from tests.cluster.conftest import Outcome, make_store

pytestmark = pytest.mark.usefixtures("local_ray")

SYMBOLS, LOOKBACK, HORIZON = 8, 40, 3


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return simulate_market(SimulatorParams(seed=21, n_symbols=SYMBOLS, n_sessions=200))


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory, bars: pl.DataFrame) -> Path:
    folder = tmp_path_factory.mktemp("calibration") / "store"
    make_store(folder, bars)
    return folder


def how(store: Path, out: Path) -> list[object]:
    return ["--store", store, "--out", out, "--model", "random-walk", "--lookback", LOOKBACK,
            "--horizon", HORIZON, "--paths", 16, "--replicas", 1]  # fmt: skip


@pytest.fixture
def day(market: Path) -> str:
    return str(MarketHistory.open(market).sessions()[150])


def test_a_night_is_calibrated_by_hindcasts_and_a_rerun_finds_it_done(
    market: Path, day: str, tmp_path: Path, candlecast: Callable[..., Outcome]
) -> None:
    out = tmp_path / "out"
    asked = [*how(market, out), "--as-of", day]
    before = candlecast("forecast", *asked, "--calibration", "on", "--json")
    assert before.code == 0, before.err
    assert set(ForecastTable(out).scan().collect()["published"]) == {"uncalibrated"}

    made = candlecast("calibrate", *asked, "--dates", 70, "--json")
    assert made.code == 0, made.err
    fit = json.loads(made.out)["fits"][day]
    assert fit["dates"] >= 60
    assert fit["last_date"] < day
    assert (
        json.loads(candlecast("calibrate", *asked, "--dates", 70, "--json").out)["hindcasts"] == 0
    ), "nothing was missing any more"

    done = candlecast("forecast", *asked, "--calibration", "on", "--json")
    assert done.code == 0, done.err
    table = ForecastTable(out)
    rows = table.scan().collect()
    assert set(rows["published"]) == {fit["published"]}
    record = next(r for r in table.runs() if r.run_id == rows["run_id"][0])
    (held,) = record.identity["calibration"]["fits"].values()
    assert held == fit, "parameters, dates and the hash of the data are part of the run's id"
    other = rows["published"][0] != "raw"
    assert rows["raw_close_q50"].null_count() == (0 if other else rows.height)
    prices = rows.select("low_mean", "open_mean", "close_mean", "high_mean")
    assert (prices["low_mean"] <= prices["close_mean"]).all()
    again = candlecast("forecast", *asked, "--calibration", "on", "--json")
    assert len(table.runs()) == 2
    assert again.code == 0
    assert table.scan().collect().equals(rows)


def test_nights_learn_from_nights_and_the_page_says_how_they_did(
    market: Path, tmp_path: Path, candlecast: Callable[..., Outcome]
) -> None:
    out = tmp_path / "out"
    sessions = MarketHistory.open(market).sessions()
    span = f"{sessions[60]}:{sessions[139]}"
    collected = candlecast(
        "forecast", *how(market, out), "--as-of", span, "--calibration", "collect", "--json"
    )
    assert collected.code == 0, collected.err
    tonight = candlecast(
        "forecast", *how(market, out), "--as-of", sessions[145], "--calibration", "on"
    )
    assert tonight.code == 0, tonight.err
    history, table = MarketHistory.open(market), ForecastTable(out)
    newest = max(table.runs(), key=lambda record: record.dates[-1].as_of)
    (fit,) = newest.identity["calibration"]["fits"].values()
    assert fit["dates"] == 80
    assert fit["status"].split(":")[0] in tonight.out
    trust = earlier_nights(table, history, "random-walk-1", history.resolve_as_of(sessions[145]))
    assert trust is not None
    assert trust.nights == 60
    assert [each.step for each in trust.steps] == [1, 2, 3]
    for each in trust.steps:
        assert each.crps_ratio == pytest.approx(1.0), "the model is the random walk"
        assert 0.5 < each.coverage < 1

    judged = candlecast(
        "evaluate", "--store", market, "--forecasts", out, "--end", sessions[139],
        "--report", tmp_path / "report", "--json",
    )  # fmt: skip
    assert judged.code == 0, judged.err
    found = json.loads(judged.out)
    assert found["dates"] == 80
    assert found["windows"] == json.loads(collected.out)["forecasts"]
    assert "random-walk" in {row["model"] for row in found["models"]}
    page = (tmp_path / "report" / "evaluation.html").read_text()
    assert "inside the 80% interval" in page
    assert "<script src=" not in page
    kept = pl.read_parquet(tmp_path / "report" / "steps.parquet")
    assert set(kept["step"]) == {1, 2, 3}


def test_later_bars_change_no_fit(
    bars: pl.DataFrame, market: Path, day: str, tmp_path: Path, candlecast: Callable[..., Outcome]
) -> None:
    last = pl.lit(day).str.to_datetime()
    poisoned = bars.with_columns(
        pl.when(pl.col("timestamp") > last).then(pl.col(c) * 3).otherwise(pl.col(c)).alias(c)
        for c in ("open", "high", "low", "close")
    )
    make_store(tmp_path / "other", poisoned)
    fits = []
    for store, out in ((market, tmp_path / "a"), (tmp_path / "other", tmp_path / "b")):
        made = candlecast("calibrate", *how(store, out), "--as-of", day, "--dates", 60, "--json")
        assert made.code == 0, made.err
        fits.append(json.loads(made.out)["fits"])
    assert fits[0] == fits[1]


def test_bad_input_is_one_line(
    market: Path, day: str, tmp_path: Path, candlecast: Callable[..., Outcome]
) -> None:
    history = MarketHistory.open(market)
    settings = CalibrateSettings(
        store=market, out=tmp_path, as_of=str(history.sessions()[80]), lookback=LOOKBACK,
        horizon=HORIZON, model="random-walk",
    )  # fmt: skip
    with pytest.raises(ForecastInputError, match="calibration needs --dates 90"):
        past_dates(history, settings, history.resolve_as_of_range(settings.as_of))

    out = tmp_path / "out"
    asked = [*how(market, out), "--as-of", day]
    assert candlecast("forecast", *asked, "--quiet").code == 0
    lost = candlecast("evaluate", "--store", market, "--forecasts", out, "--models", "mini")
    assert (lost.code, lost.err.count("\n")) == (2, 1)
    assert "no forecasts of mini; it holds random-walk" in lost.err
    make_store(
        tmp_path / "other",
        simulate_market(SimulatorParams(seed=5, n_symbols=SYMBOLS, n_sessions=200)),
    )
    foreign = candlecast("evaluate", "--store", tmp_path / "other", "--forecasts", out)
    assert foreign.code == 2
    assert "was not forecast from" in foreign.err
    newest = history.sessions()[-1]
    assert candlecast("forecast", *how(market, tmp_path / "new"), "--as-of", newest, "-q").code == 0
    early = candlecast("evaluate", "--store", market, "--forecasts", tmp_path / "new")
    assert early.code == 2
    assert "has an outcome in" in early.err
    assert (
        candlecast("evaluate", "--store", market, "--forecasts", out, "--baselines", "x").code == 2
    )
