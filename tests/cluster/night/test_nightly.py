"""A night from the drop folder to the pointer: once, whole, and not at all on bad data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
import ray
import yaml

from cluster.night.settings import NightlySettings
from cluster.settings import load_settings
from market.lake.versions import lake_folder, names
from market.spec import AsOf
from market.table.forecasts import ForecastTable
from tests.cluster.conftest import LOOKBACK, Outcome

pytestmark = pytest.mark.usefixtures("local_ray")

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "nightly.yaml"


class House:
    """A folder with a drop folder, a config, and bars up to some session."""

    def __init__(self, folder: Path, bars: pl.DataFrame, **forecast: object) -> None:
        self.folder, self.bars = folder, bars
        self.days = bars["timestamp"].unique().sort()
        (folder / "drop").mkdir()
        self.config = folder / "nightly.yaml"
        self.settings = {
            **{name: str(folder / name) for name in ("drop", "store", "out", "reports")},
            "bars": {"venue": "XNYS", "freq": "1d"},
            "forecast": {
                "model": "random-walk",
                "lookback": LOOKBACK,
                "horizon": 3,
                "replicas": 1,
                **forecast,
            },
        }
        self.config.write_text(yaml.safe_dump(self.settings))

    def drop(self, name: str, rows: pl.Expr) -> None:
        self.bars.filter(rows).write_parquet(self.folder / "drop" / f"{name}.parquet")

    @property
    def table(self) -> ForecastTable:
        return ForecastTable(self.folder / "out")

    def last(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.folder / "reports" / "last.json").read_text())
        return found


@pytest.fixture
def house(tmp_path: Path, bars: pl.DataFrame) -> House:
    """Everything up to session 120 waits in the drop folder."""
    made = House(tmp_path, bars)
    made.drop("history", pl.col("timestamp") <= made.days[120])
    return made


def test_a_night_is_done_once_and_the_next_one_moves_the_pointer(
    house: House, candlecast: Callable[..., Outcome]
) -> None:
    first = candlecast("nightly", "--config", house.config, "--json")
    assert first.code == 0, first.err
    summary = json.loads(first.out)
    assert (summary["status"], summary["forecasts"]) == ("done", 8)
    assert summary["as_of"] == f"{house.days[120]:%Y-%m-%d}"
    rows = house.table.scan().collect()

    again = candlecast("nightly", "--config", house.config)
    assert again.code == 0
    assert "already done" in again.out
    assert house.table.scan().collect().equals(rows)
    assert house.last()["status"] == "already done"

    house.drop("next", pl.col("timestamp") == house.days[121])
    third = json.loads(candlecast("nightly", "--config", house.config, "--json").out)
    assert (third["status"], third["files_imported"]) == ("done", 1)
    (newest,) = house.table.published()
    assert newest.run_id == third["run_id"]
    assert f"{newest.as_of_date}" == f"{house.days[121]:%Y-%m-%d}"
    page = (house.folder / "reports" / f"{house.days[121]:%Y-%m-%d}.html").read_text()
    assert "8</b><span>symbols forecast" in page
    assert (summary["earlier_nights"], third["earlier_nights"]) == (0, 1)
    table = page.split("How earlier nights did")[1].split("</table>")[0]
    assert "inside 80%" in table
    assert f'<td>1</td><td class="n">1</td><td class="n">{third["coverage_80"]:.2%}' in table
    assert "DRIFT" not in page, "one night is no drift"
    assert "calibration is off" in page.split("What is published")[1][:200]
    assert "<script" not in page


def test_two_nights_at_once_commit_once(house: House) -> None:
    command = [
        sys.executable, "-c", "from cluster.cli import main; main()",
        "nightly", "--config", str(house.config), "--json",
    ]  # fmt: skip
    forecast = house.settings["forecast"] | {"address": ray.get_runtime_context().gcs_address}  # type: ignore[operator]
    house.config.write_text(yaml.safe_dump(house.settings | {"forecast": forecast}))
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(*each.communicate(timeout=200), each.returncode) for each in both]
    assert [code for _, _, code in ended] == [0, 0], [err for _, err, _ in ended]
    summaries = [json.loads(out) for out, _, _ in ended]
    assert sorted(each["status"] for each in summaries) == ["already done", "done"]
    assert len({each["run_id"] for each in summaries}) == 1
    assert len(house.table.runs()) == 1
    commits = os.listdir(house.folder / "out" / "steps" / "_delta_log")
    assert len([name for name in commits if name.endswith(".json")]) == 2, "create and one commit"


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        ("missing", "4 of 11 symbols of the session before have no bar"),
        ("quarantine", "3 of 11 rows of"),
        ("clock", "this machine's clock says"),
    ],
)
def test_bad_data_stops_the_night_before_forecasting(
    spoil: str, part: str, house: House, candlecast: Callable[..., Outcome]
) -> None:
    assert candlecast("nightly", "--config", house.config).code == 0
    before = house.table.scan().collect()
    pointers = house.table.published()
    tonight = house.bars.filter(pl.col("timestamp") == house.days[121]).sort("symbol")
    if spoil == "missing":
        tonight = tonight.tail(tonight.height - 4)
    elif spoil == "quarantine":
        low = pl.when(pl.int_range(pl.len()) < 3).then(pl.col("high") * 2).otherwise(pl.col("low"))
        tonight = tonight.with_columns(low=low)
        house.settings["gate"] = {"max_missing": 0.5}
        house.config.write_text(yaml.safe_dump(house.settings))
    else:
        tonight = tonight.with_columns(pl.lit("2099-06-15").str.to_datetime().alias("timestamp"))
    tonight.write_parquet(house.folder / "drop" / "tonight.parquet")

    stopped = candlecast("nightly", "--config", house.config)
    assert stopped.code == 3
    assert stopped.err.startswith("error: quality gate: ")
    assert part in stopped.err
    assert house.last()["status"] == "stopped"
    assert house.table.scan().collect().equals(before)
    assert house.table.published() == pointers
    page = house.folder / "reports" / f"{house.last()['as_of']}.html"
    assert "Stopped before forecasting" in page.read_text()

    house.settings["gate"] = {"max_missing": 1.0, "max_quarantined": 1.0}
    house.config.write_text(yaml.safe_dump(house.settings))
    fixed = candlecast("nightly", "--config", house.config)
    assert fixed.code == (3 if spoil == "clock" else 0)


def test_a_correction_between_nights_leaves_the_first_night_reproducible(
    house: House, candlecast: Callable[..., Outcome]
) -> None:
    assert candlecast("nightly", "--config", house.config).code == 0
    (first,) = house.table.runs()
    rows = house.table.scan().collect()
    day = pl.col("timestamp") == house.days[118]
    prices = ("open", "high", "low", "close")
    corrected = house.bars.filter(day).with_columns(pl.col(*prices) * 1.01)
    corrected.write_parquet(house.folder / "drop" / "correction.parquet")
    refused = candlecast("nightly", "--config", house.config)
    assert refused.code == 2
    assert "--on-conflict" in refused.err
    house.settings["bars"] = {**house.settings["bars"], "on_conflict": "replace"}  # type: ignore[dict-item]
    house.config.write_text(yaml.safe_dump(house.settings))
    second = candlecast("nightly", "--config", house.config, "--json")
    assert second.code == 0, second.err
    assert json.loads(second.out)["run_id"] != first.run_id

    assert house.table.rows_of(first).equals(rows), "the older table version still shows it"
    version = first.history["version"]
    assert version in names(lake_folder(house.folder / "store"))
    repeated = candlecast(
        "forecast", "--store", house.folder / "store", "--store-version", version,
        "--as-of", f"{house.days[120]:%Y-%m-%d}", "--model", "random-walk", "--lookback", LOOKBACK,
        "--horizon", 3, "--replicas", 1, "--out", house.folder / "repeated",
    )  # fmt: skip
    assert repeated.code == 0, repeated.err
    table = ForecastTable(house.folder / "repeated")
    assert [each.run_id for each in table.runs()] == [first.run_id]
    assert table.scan().collect().equals(rows)


def test_two_venues_and_odd_names_share_a_table(
    bars: pl.DataFrame, tmp_path: Path, candlecast: Callable[..., Outcome]
) -> None:
    odd = {"SIM001": "BRK.B", "SIM002": "BTC/USDT", "SIM003": "A B'C"}
    symbols = bars.filter(pl.col("symbol").is_in(list(odd))).with_columns(
        pl.col("symbol").replace(odd)
    )
    for name, venue, factor in (("york", "XNYS", 1.0), ("toronto", "XTSE", 2.0)):
        (tmp_path / name).mkdir()
        prices = pl.col("open", "high", "low", "close") * factor
        house = House(tmp_path / name, symbols.with_columns(prices))
        house.settings |= {"out": str(tmp_path / "out"), "bars": {"venue": venue, "freq": "1d"}}
        house.config.write_text(yaml.safe_dump(house.settings))
        house.drop("bars", pl.col("timestamp") <= house.days[120])
        done = candlecast("nightly", "--config", house.config)
        assert done.code == 0, done.err
    table = ForecastTable(tmp_path / "out")
    held = table.scan().group_by("venue", "symbol").len().collect()
    assert set(held["symbol"]) == set(odd.values())
    assert held.height == 2 * len(odd)
    assert {each.venue for each in table.published()} == {"XNYS", "XTSE"}
    for venue in ("XNYS", "XTSE"):
        newest = table.latest("random-walk-1", "1d", venue)
        assert newest is not None
        pinned = ForecastTable(table.folder, newest.versions)
        own = pinned.scan(run_id=newest.run_id).collect()
        assert set(own["venue"]) == {venue}
    listed = candlecast("runs", "ls", "--out", tmp_path / "out")
    assert listed.out.count("latest") == 2
    first, second = (record.run_id for record in table.runs())
    compared = candlecast("runs", "diff", first, second[:6], "--out", tmp_path / "out")
    assert compared.code == 0, compared.err
    assert "rows: 9 in both" in compared.out


def test_the_config_in_the_box_is_valid() -> None:
    settings = load_settings(CONFIG, NightlySettings)
    assert settings.bars.venue == "XNYS"
    as_of = AsOf(date(2016, 6, 30), datetime(2016, 6, 30, 20, tzinfo=UTC))
    assert settings.forecast_settings(as_of, "v").as_of == "2016-06-30"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("forecast: {as_of: x}", "forecast.as_of is set by the night itself"),
        ("forecast: {lookbak: 1}", "forecast.lookbak: unknown key; did you mean lookback?"),
        ("gate: {max_missing: 7}", "less than or equal to 1"),
        ("drop: /nowhere", "drop: /nowhere: no such folder"),
    ],
)
def test_a_bad_night_config_is_one_line(
    text: str, part: str, house: House, candlecast: Callable[..., Outcome]
) -> None:
    house.config.write_text(yaml.safe_dump(house.settings | yaml.safe_load(text)))
    outcome = candlecast("nightly", "--config", house.config)
    assert outcome.code == 2
    assert part in outcome.err
    assert outcome.err.count("\n") == 1
