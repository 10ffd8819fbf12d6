"""What the drop-in predictor is given: no times, frames upside down, prices below zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forecaster import load_forecaster
from forecaster.interface import WindowBatch
from forecaster.kronos import KronosPredictor
from forecaster.kronos.pipeline import KronosForecaster
from market.errors import ForecastInputError

HERE = Path(__file__).parent
ADVICE = {"s": "unit='s'", "ms": "unit='ms'", "us": "unit='us'", "ns": "unit='ns'"}


def predictor_of(model: str) -> KronosPredictor:
    nano = load_forecaster(model).forecaster
    assert isinstance(nano, KronosForecaster)
    return KronosPredictor(nano.predictor, nano.tokenizer)


@pytest.fixture(scope="module")
def predictor() -> KronosPredictor:
    return predictor_of("nano")


def bars(case: str) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    frame = pd.read_csv(HERE / case / "bars.csv", parse_dates=["timestamps"])
    x = frame["timestamps"]
    y = pd.Series(x.iloc[-1] + pd.to_timedelta(np.arange(1, 5) * 15, unit="min"))
    return frame.drop(columns="timestamps"), x, y


def both(predictor: KronosPredictor, frame: pd.DataFrame, x: object, y: object) -> list[str]:
    """What predict and predict_paths say to the same bad input."""
    said = []
    for call in (predictor.predict, predictor.predict_paths):
        with pytest.raises(ForecastInputError) as error:
            call(frame, x, y, 4, seed=3, sample_count=2)  # type: ignore[operator]
        assert "\n" not in str(error.value)
        said.append(str(error.value))
    return said


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("index", [False, True])
def test_epoch_numbers_are_refused_with_advice(
    predictor: KronosPredictor, unit: str, index: bool
) -> None:
    frame, x, y = bars("py_epoch_ints")
    numbers = [each.astype(f"datetime64[{unit}]").astype("int64") for each in (x, y)]
    given = [pd.Index(each) if index else each for each in numbers]
    for text in both(predictor, frame, given[0], given[1]):
        assert "x_timestamp holds numbers (int64" in text
        assert ADVICE[unit] in text


def test_other_things_that_are_no_times(predictor: KronosPredictor) -> None:
    frame, x, y = bars("py_epoch_ints")
    days = x.dt.strftime("%Y%m%d").astype(int)
    assert all("format='%Y%m%d'" in text for text in both(predictor, frame, days, y))
    assert all("holds numbers" in text for text in both(predictor, frame, days.astype(float), y))
    words = pd.Series(["soon"] * len(x))
    assert all("holds no times" in text for text in both(predictor, frame, words, y))
    missing = x.copy()
    missing.iloc[3] = pd.NaT
    assert all("at bar 4 (NaT)" in text for text in both(predictor, frame, missing, y))
    assert all("time zone" in text for text in both(predictor, frame, x.dt.tz_localize("UTC"), y))


def test_times_must_increase(predictor: KronosPredictor) -> None:
    frame, x, y = bars("py_descending")
    down = both(predictor, frame.iloc[::-1], x.iloc[::-1], y)
    assert all("must increase" in text for text in down)
    assert all("not after the last known bar" in text for text in both(predictor, frame, x, x[:4]))
    twice = x.copy()
    twice.iloc[5] = twice.iloc[4]
    assert all("must increase" in text for text in both(predictor, frame, twice, y))
    future = y.iloc[[0, 2, 1, 3]]
    assert all("y_timestamp must increase" in text for text in both(predictor, frame, x, future))


def test_an_hour_that_clocks_show_twice_increases(predictor: KronosPredictor) -> None:
    frame, _, _ = bars("py_descending")
    x = pd.Series(
        pd.date_range("2024-11-02 12:00", periods=80, freq="15min", tz="America/New_York")
    )
    y = pd.Series(pd.date_range(x.iloc[-1], periods=5, freq="15min")[1:])
    assert predictor.predict(frame, x, y, 4, seed=3).shape == (4, 6)


def test_prices_below_zero(predictor: KronosPredictor) -> None:
    frame, x, y = bars("py_negative_prices_paths")
    prices = ["open", "high", "low", "close"]
    frame[prices] -= 55
    levels = predictor_of("nano-levels")
    for call in (predictor.predict_paths, predictor.predict, levels.predict_paths):
        with pytest.raises(ForecastInputError, match=r"open -5 \(rule: price > 0\)"):
            call(frame, x, y, 4, seed=3)
    # The reference answers for price levels, and so does what takes its place.
    mean = levels.predict(frame, x, y, 4, seed=3, sample_count=4)
    assert abs(mean["close"].iloc[0] - frame["close"].iloc[-1]) < 1
    values = frame.assign(amount=0.0)[[*prices, "volume", "amount"]].to_numpy()[None]
    with pytest.raises(ForecastInputError, match="rule: price > 0"):
        WindowBatch(("A",), x.to_numpy()[-1:], values, x.to_numpy()[None], y.to_numpy()[None])


def test_frames_that_hold_words(predictor: KronosPredictor) -> None:
    frame, x, y = bars("py_descending")
    words = frame.astype({"close": object})
    words.loc[3, "close"] = "ten"
    assert all("not a number" in text for text in both(predictor, words, x, y))
