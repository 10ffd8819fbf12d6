"""From hindcasts to a calibrated night, its evaluation, its page and its tear sheet."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from cluster.calibration.job import past_dates, run_calibrate
from cluster.calibration.report import CalibrationReport
from cluster.calibration.settings import CalibrateSettings
from cluster.night.trust import earlier_nights
from market.errors import ForecastInputError
from market.lake.history import MarketHistory
from market.synthetic import SimulatorParams, simulate_market
from market.table.forecasts import ForecastTable
from tests.cluster.conftest import Outcome, make_store

pytestmark = pytest.mark.usefixtures("local_ray")

SYMBOLS, LOOKBACK, HORIZON = 5, 40, 3
DATES, NIGHT = 60, 122


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    """The last of the symbols is delisted three bars behind the night that is calibrated."""
    made = simulate_market(SimulatorParams(seed=21, n_symbols=SYMBOLS, n_sessions=135))
    days, names = (made[c].unique().sort() for c in ("timestamp", "symbol"))
    return made.filter((pl.col("symbol") != names[-1]) | (pl.col("timestamp") <= days[NIGHT + 3]))


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory, bars: pl.DataFrame) -> Path:
    folder = tmp_path_factory.mktemp("calibration") / "store"
    make_store(folder, bars)
    return folder


@pytest.fixture(scope="module")
def day(market: Path) -> str:
    return str(MarketHistory.open(market).sessions()[NIGHT])


def how(store: Path, out: Path) -> list[object]:
    return ["--store", store, "--out", out, "--model", "random-walk", "--lookback", LOOKBACK,
            "--horizon", HORIZON, "--paths", 16, "--replicas", 1]  # fmt: skip


def hindcast(store: Path, out: Path, day: str) -> CalibrationReport:
    return run_calibrate(
        CalibrateSettings(
            store=store, out=out, as_of=day, model="random-walk", lookback=LOOKBACK,
            horizon=HORIZON, paths=16, replicas=1, dates=DATES,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def calibrated(
    market: Path, day: str, tmp_path_factory: pytest.TempPathFactory, local_ray: None
) -> tuple[Path, CalibrationReport]:
    """A table with hindcasts of the dates before the night, and what they say."""
    out = tmp_path_factory.mktemp("calibrated") / "out"
    return out, hindcast(market, out, day)


def test_a_night_is_calibrated_by_hindcasts_and_a_rerun_finds_it_done(
    calibrated: tuple[Path, CalibrationReport], market: Path, day: str, tmp_path: Path,
    candlecast: Callable[..., Outcome],
) -> None:  # fmt: skip
    out = tmp_path / "out"
    asked = ["--as-of", day, "--calibration", "on", "--json"]
    before = candlecast("forecast", *how(market, out), *asked)
    assert before.code == 0, before.err
    assert set(ForecastTable(out).scan().collect()["published"]) == {"uncalibrated"}

    made, out = calibrated[1], tmp_path / "calibrated"
    shutil.copytree(calibrated[0], out)
    assert made.hindcast is not None
    told = candlecast("calibrate", *how(market, out), "--as-of", day, "--dates", DATES, "--json")
    assert told.code == 0, told.err
    assert json.loads(told.out)["hindcasts"] == 0, "nothing was missing any more"
    fit = json.loads(told.out)["fits"][day]
    ((_, fitted),) = made.fitted.items()
    assert fit == json.loads(json.dumps(fitted.as_dict()))
    assert fit["dates"] >= 60
    assert fit["last_date"] < day

    done = candlecast("forecast", *how(market, out), *asked)
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
    again = candlecast("forecast", *how(market, out), *asked)
    assert again.code == 0
    assert len(table.runs()) == 1
    assert table.scan().collect().equals(rows)


def test_nights_learn_from_nights_and_the_page_says_how_they_did(
    market: Path, tmp_path: Path, candlecast: Callable[..., Outcome]
) -> None:
    out = tmp_path / "out"
    sessions = MarketHistory.open(market).sessions()
    span = f"{sessions[50]}:{sessions[113]}"
    collected = candlecast(
        "forecast", *how(market, out), "--as-of", span, "--calibration", "collect", "--json"
    )
    assert collected.code == 0, collected.err
    tonight = candlecast(
        "forecast", *how(market, out), "--as-of", sessions[118], "--calibration", "on"
    )
    assert tonight.code == 0, tonight.err
    history, table = MarketHistory.open(market), ForecastTable(out)
    newest = max(table.runs(), key=lambda record: record.dates[-1].as_of)
    (fit,) = newest.identity["calibration"]["fits"].values()
    assert fit["dates"] == 64
    assert fit["status"].split(":")[0] in tonight.out
    trust = earlier_nights(table, history, "random-walk-1", history.resolve_as_of(sessions[118]))
    assert trust is not None
    assert trust.nights == 60
    assert [each.step for each in trust.steps] == [1, 2, 3]
    for each in trust.steps:
        assert each.crps_ratio == pytest.approx(1.0), "the model is the random walk"
        assert 0.5 < each.coverage < 1

    judged = candlecast(
        "evaluate", "--store", market, "--forecasts", out, "--end", sessions[113],
        "--report", tmp_path / "report", "--json",
    )  # fmt: skip
    assert judged.code == 0, judged.err
    found = json.loads(judged.out)
    assert found["dates"] == 64
    assert found["windows"] == json.loads(collected.out)["forecasts"]
    assert "random-walk" in {row["model"] for row in found["models"]}
    page = (tmp_path / "report" / "evaluation.html").read_text()
    assert "inside the 80% interval" in page
    assert "<script src=" not in page
    kept = pl.read_parquet(tmp_path / "report" / "steps.parquet")
    assert set(kept["step"]) == {1, 2, 3}


def test_later_bars_change_no_fit(
    bars: pl.DataFrame, calibrated: tuple[Path, CalibrationReport], day: str, tmp_path: Path
) -> None:
    last = pl.lit(day).str.to_datetime()
    poisoned = bars.with_columns(
        pl.when(pl.col("timestamp") > last).then(pl.col(c) * 3).otherwise(pl.col(c)).alias(c)
        for c in ("open", "high", "low", "close")
    )
    make_store(tmp_path / "other", poisoned)
    other = hindcast(tmp_path / "other", tmp_path / "b", day)
    assert list(other.fitted.values()) == list(calibrated[1].fitted.values())


def test_a_delisted_symbol_counts_as_far_as_it_traded(
    bars: pl.DataFrame, market: Path, day: str, tmp_path: Path, candlecast: Callable[..., Outcome]
) -> None:
    """Two bars behind the second night there is nothing more of it, and none behind the last."""
    sessions, out = MarketHistory.open(market).sessions(), tmp_path / "out"
    asked = f"{day},{sessions[NIGHT + 1]},{sessions[NIGHT + 3]}"
    assert candlecast("forecast", *how(market, out), "--as-of", asked, "--quiet").code == 0
    judged = candlecast("evaluate", "--store", market, "--forecasts", out, "--json")
    assert judged.code == 0, judged.err
    found = json.loads(judged.out)
    n = 3 * bars["symbol"].n_unique()
    assert (found["windows"], found["windows_without_outcome"]) == (n - 1, 1)
    of_model = [row["windows"] for row in found["steps"] if row["model"] == "random-walk"]
    assert of_model == [n - 1, n - 1, n - 2]


def test_bad_input_is_one_line(
    market: Path, day: str, tmp_path: Path, candlecast: Callable[..., Outcome]
) -> None:
    history = MarketHistory.open(market)
    sessions, out, one = history.sessions(), tmp_path / "out", tmp_path / "one"
    settings = CalibrateSettings(
        store=market, out=out, as_of=str(sessions[80]), lookback=LOOKBACK, horizon=HORIZON,
        model="random-walk",
    )  # fmt: skip
    with pytest.raises(ForecastInputError, match="calibration needs --dates 90"):
        past_dates(history, settings, history.resolve_as_of_range(settings.as_of))

    asked = f"{day},{sessions[-1]}"
    assert candlecast("forecast", *how(market, out), "--as-of", asked, "--quiet").code == 0
    single = [*how(market, one), "--as-of", day, "--paths", 1, "--quiet"]
    assert candlecast("forecast", *single).code == 0
    other = simulate_market(SimulatorParams(seed=5, n_symbols=SYMBOLS, n_sessions=135))
    make_store(tmp_path / "other", other)
    calibrate = ("calibrate", *how(market, out), "--as-of")
    for arguments, told in (
        (("evaluate", "--models", "mini"), "no forecasts of mini; it holds random-walk"),
        (("evaluate", "--baselines", "x"), "--baselines x: not a baseline"),
        (("evaluate", "--store", tmp_path / "other"), "was not forecast from"),
        (("evaluate", "--start", sessions[-1]), "has an outcome in"),
        (("evaluate", "--forecasts", one), "forecasts of one path cannot be scored"),
        ((*calibrate, day, "--dates", 20), "greater than or equal to 60"),
        ((*calibrate, sessions[70]), "calibration needs --dates 90"),
        ((*calibrate, day, "--horizon", 200), "calibration needs --dates 90"),
        ((*calibrate, day, "--calibration-baselines", "x"), "x: not a baseline"),
    ):
        place = ("--store", market, "--forecasts", out)
        full = (*arguments[:1], *place, *arguments[1:]) if arguments[0] == "evaluate" else arguments
        made = candlecast(*full)
        assert (made.code, made.err.count("\n")) == (2, 1), made.err
        assert told in made.err
