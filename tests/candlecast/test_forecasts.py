"""Forecasts of a frame: the numbers of a run on Ray, whatever the frame's kind or order."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import candlecast as cc
from cluster.session import ray_session
from market.table.schema import QUANTILE_NAMES, ROW_ORDER
from tests.candlecast.conftest import Run

SETTINGS: dict[str, Any] = {"lookback": 64, "horizon": 5, "paths": 4, "seed": 3, "top_p": 0.95}


@pytest.fixture(scope="module")
def made(bars: pl.DataFrame) -> cc.Forecasts:
    return cc.forecast(bars, venue="XNYS", **SETTINGS)


def rows(forecasts: cc.Forecasts) -> pl.DataFrame:
    return forecasts.steps.sort(ROW_ORDER["steps"]).collect()


def test_the_numbers_are_those_of_a_run_on_ray(bars: pl.DataFrame, tmp_path: Path) -> None:
    days = bars["timestamp"].unique().sort().dt.date()
    weeks = f"{days[100]}:{days[-1]}:weekly"
    store = cc.Store(tmp_path / "store")
    store.import_frame(bars, venue="XNYS")
    with ray_session(2, 2):
        on_ray = store.forecast(
            weeks, tmp_path / "table", keep_paths=True, shard_size=3, **SETTINGS
        )
    here = cc.forecast(bars, venue="XNYS", as_of=weeks, **SETTINGS)
    names = [name for name in rows(here).columns if name != "run_id"]  # kept paths are part of it
    assert rows(here).height > 5 * 7
    assert_frame_equal(rows(here).select(names), rows(on_ray).select(names), check_exact=True)
    assert_frame_equal(here.paths(), on_ray.paths(), check_exact=True)
    assert here.missing.height
    assert_frame_equal(here.missing, on_ray.missing, check_row_order=False)


def test_pandas_and_polars_in_any_dress_give_the_same(
    bars: pl.DataFrame, made: cc.Forecasts
) -> None:
    frame = bars.to_pandas()
    dressed = [
        frame.rename(columns=str.title).rename(columns={"Symbol": "Ticker", "Timestamp": "Date"}),
        frame.set_index("timestamp"),
        frame.set_index(["symbol", "timestamp"]),
        frame.assign(timestamp=frame["timestamp"].dt.strftime("%Y-%m-%d")),
        frame.assign(timestamp=frame["timestamp"].dt.to_period("D")),
        frame[frame.columns[::-1]],
    ]
    for each in dressed:
        other = cc.forecast(each, venue="NYSE", **SETTINGS)
        assert isinstance(other.to_frame(), pd.DataFrame)
        assert_frame_equal(rows(other), rows(made), check_exact=True)


def test_neither_company_nor_order_nor_the_future_changes_a_forecast(
    bars: pl.DataFrame, made: cc.Forecasts
) -> None:
    name = str(made.to_frame()["symbol"][0])
    alone = cc.forecast(bars, venue="XNYS", symbols=name, **SETTINGS)
    assert_frame_equal(alone.paths(), made.paths(name), check_exact=True)
    listed = cc.forecast(bars, venue="XNYS", symbols=[name], **SETTINGS)
    assert_frame_equal(rows(listed), rows(alone), check_exact=True)

    day = bars["timestamp"].unique().sort()[130]
    before = cc.forecast(bars, venue="XNYS", as_of=day.date(), **SETTINGS)
    later = pl.col("timestamp") > day
    poisoned = bars.with_columns(
        pl.when(later).then(pl.col(c) * 7).otherwise(pl.col(c)).alias(c)
        for c in ("open", "high", "low", "close", "volume")
    )
    for frame, as_of in ((poisoned, day), (bars.filter(~later), None)):
        after = cc.forecast(frame, venue="XNYS", as_of=as_of, **SETTINGS)
        assert_frame_equal(rows(after), rows(before), check_exact=True)


def test_what_is_handed_out(bars: pl.DataFrame, made: cc.Forecasts) -> None:
    frame = made.to_frame()
    assert frame.columns == [
        *("symbol", "as_of", "step", "timestamp", "mean", "std"),
        *(*QUANTILE_NAMES, "p_up"),
    ]
    count = frame["symbol"].n_unique()
    assert frame.height == count * 5
    array = made.path_array()
    assert array.shape == (count, 4, 5, 6)
    closes = array[..., 3].astype(np.float64)
    assert np.array_equal(closes.mean(axis=1).ravel(), frame["mean"].to_numpy())
    assert frame["timestamp"].min() > bars["timestamp"].max()  # type: ignore[operator]
    highs = made.to_frame("high", symbols=frame["symbol"][0])
    assert (highs["mean"] >= frame.head(5)["mean"]).all()
    with pytest.raises(cc.CandlecastError, match="feature='vwap'"):
        made.to_frame("vwap")
    young = made.missing["symbol"][0]
    with pytest.raises(cc.CandlecastError, match=f"{young}: no forecast .too short"):
        made.paths(young)


def test_it_shows_itself(bars: pl.DataFrame, made: cc.Forecasts) -> None:
    name = made.to_frame()["symbol"][0]
    text = repr(made)
    assert len(text.splitlines()) < 12
    assert "not forecast: 1" in text
    assert "IN-SAMPLE" in text
    assert f"<td>{name}</td>" in made._repr_html_()
    day = bars["timestamp"].unique().sort()[130].date()
    past = cc.forecast(bars, venue="XNYS", as_of=[str(day)], **SETTINGS)
    figure = past.plot(name, as_of=day)
    shown = {trace.name: trace for trace in figure.data}
    assert len(shown["What happened"].y) == 6  # the last known close and five after
    assert len(shown["Median"].y) == 6
    assert f"as of {day}" in figure.layout.title.text
    with pytest.raises(cc.CandlecastError, match="needs a symbol"):
        made.plot()


def test_a_crypto_frame_by_the_hour() -> None:
    hours = pl.datetime_range(date(2024, 3, 1), date(2024, 3, 5), "1h", eager=True)
    close = 50_000 * np.exp(np.random.default_rng(5).normal(0, 0.01, len(hours)).cumsum())
    frame = pl.DataFrame(
        {"open_time": hours, "open": close, "high": close * 1.01, "low": close * 0.99}
    ).with_columns(close=close)
    made = cc.forecast(
        frame, 3, symbol="BTC", venue="24/7", label="start", lookback=48, paths=8, model="bootstrap"
    )
    labels = made.to_frame()["timestamp"].to_list()
    assert [f"{each:%d %H:%M}" for each in labels] == ["05 01:00", "05 02:00", "05 03:00"]
    assert any("no volume" in note for note in made.notes)


def test_it_needs_no_ray(bars: pl.DataFrame, tmp_path: Path, python: Run) -> None:
    bars.write_parquet(tmp_path / "bars.parquet")
    code = (
        "import sys, polars as pl, candlecast as cc\n"
        "bars = pl.read_parquet('bars.parquet')\n"
        "made = cc.forecast(bars, 2, venue='XNYS', lookback=64, paths=2)\n"
        "print(made.to_frame().height, 'ray' in sys.modules, 'vectorbt' in sys.modules)"
    )
    done = python(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    height, *heavy = done.stdout.split()
    assert int(height) > 4
    assert heavy == ["False", "False"]


def test_coming_labels() -> None:
    days = cc.future_timestamps("NYSE", "2024-07-03", 3)
    assert [str(day.date()) for day in days] == ["2024-07-05", "2024-07-08", "2024-07-09"]
    bars = cc.future_timestamps("XNYS", "2024-07-03 12:30", 2, "30min")
    assert [str(each) for each in bars] == ["2024-07-05 09:30:00", "2024-07-05 10:00:00"]
    coins = cc.future_timestamps("24/7", pd.Timestamp("2024-07-03 23:00", tz="UTC"), 2, "1h")
    assert [str(each) for each in coins] == ["2024-07-04 00:00:00", "2024-07-04 01:00:00"]
    for bad in ({"venue": "MOON"}, {"n": 0}, {"freq": "7min"}, {"after": "soon"}):
        with pytest.raises(cc.CandlecastError):
            cc.future_timestamps(**{"venue": "XNYS", "after": "2024-07-03", "n": 1, **bad})
