"""Frames that are not bars: one clear line each, from every function that takes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

import candlecast as cc

Make = Callable[[pl.DataFrame], Any]


def first(bars: pl.DataFrame) -> pl.DataFrame:
    """One symbol, without its name."""
    return bars.filter(pl.col("symbol") == bars["symbol"][0]).drop("symbol")


def doubled(bars: pl.DataFrame) -> pd.DataFrame:
    frame = bars.to_pandas()
    return pd.concat([frame, frame[["close"]]], axis=1)


def text_among_prices(bars: pl.DataFrame) -> pd.DataFrame:
    frame = bars.to_pandas().astype({"close": object})
    frame.loc[6, "close"] = "n.a. yet"
    return frame


BAD: dict[str, tuple[Make, str]] = {
    "no symbol": (first, "no column for symbol; found timestamp, open, "),
    "no time": (lambda bars: bars.drop("timestamp"), "no column for time; found symbol, open, "),
    "no time in pandas": (
        lambda bars: bars.drop("timestamp").to_pandas(),
        "no column for time; found symbol, open, ",
    ),
    "no price": (lambda bars: bars.drop("close"), "no column for close; found symbol, "),
    "doubled column": (doubled, "the column 'close' is there 2 times; drop all but one"),
    "one name in two cases": (
        lambda bars: bars.with_columns(Close=pl.col("close")),
        "the columns 'close' and 'Close' both name close; drop one",
    ),
    "index and column of one name": (
        lambda bars: bars.to_pandas().set_index("timestamp", drop=False),
        "'timestamp' names both the index and a column",
    ),
    "columns of two levels": (
        lambda bars: bars.to_pandas().pivot_table(
            index="timestamp", columns="symbol", values="close", aggfunc=["min", "max"]
        ),
        "its columns have 2 levels",
    ),
    "empty": (lambda bars: bars.clear(), "has no rows; expected bars"),
    "empty in pandas": (lambda bars: bars.clear().to_pandas(), "has no rows; expected bars"),
    "newest first": (
        lambda bars: bars.reverse(),
        "(rule: times increase within a symbol); sort the frame by symbol and 'timestamp'",
    ),
    "index out of order": (
        lambda bars: first(bars).to_pandas().assign(symbol="A").set_index("timestamp").iloc[::-1],
        "in row 2 comes after ",
    ),
    "text among prices": (text_among_prices, "row 7 of column 'close' holds 'n.a. yet'"),
    "words for prices": (
        lambda bars: bars.with_columns(open=pl.lit("ten")),
        "row 1 of column 'open' holds 'ten', which is not a number",
    ),
    "dates for prices": (
        lambda bars: bars.with_columns(high=pl.col("timestamp")),
        "row 1 of column 'high' holds datetime.datetime(",
    ),
    "no good row": (
        lambda bars: bars.with_columns(low=-1.0),
        "is a bar; row 1: low is -1.0 (rule: price > 0)",
    ),
    "not a frame": (lambda bars: [1, 2], "expected a pandas or polars DataFrame, got list"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_frame_is_one_line(
    case: str, bars: pl.DataFrame, scores: pl.DataFrame, tmp_path: Path
) -> None:
    make, expected = BAD[case]
    frame = make(bars)
    calls: list[Callable[[], object]] = [
        lambda: cc.forecast(frame, venue="XNYS"),
        lambda: cc.backtest(frame, scores, venue="XNYS"),
        lambda: cc.Store(tmp_path / "store").import_frame(frame, venue="XNYS"),
    ]
    for call in calls:
        with pytest.raises(cc.CandlecastError) as raised:
            call()
        message = str(raised.value)
        assert expected in message
        assert "\n" not in message
        assert "--" not in message
        assert len(message) < 400
    assert not (tmp_path / "store").exists()


def test_one_unnamed_symbol_may_be_named(bars: pl.DataFrame) -> None:
    frame = first(bars).to_pandas().set_index("timestamp")
    made = cc.forecast(
        frame, 3, symbol="ABC", venue="XNYS", paths=2, lookback=32, model="random-walk"
    )
    assert made.to_frame()["symbol"].unique().tolist() == ["ABC"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"horizon": 0}, "horizon"),
        ({"paths": -1}, "paths"),
        ({"temprature": 1.0}, "temprature: unknown key"),
        ({"venue": "NOWHERE"}, "venue='NOWHERE' is not a calendar"),
        ({"freq": "7min"}, "freq='7min'"),
        ({"label": "middle"}, "label='middle'"),
        ({"symbols": "ZZZ"}, "ZZZ: no bars of this symbol"),
        ({"as_of": "soon"}, "as_of 'soon'"),
        ({"as_of": "1999-01-04"}, "outside the history of these bars"),
        ({"lookback": 5000}, "none of "),
        ({"model": "giant"}, "unknown model 'giant'"),
        ({"columns": {"close": "last price"}}, "columns names the column 'last price'"),
    ],
)
def test_bad_settings_are_one_line(more: dict[str, Any], expected: str, bars: pl.DataFrame) -> None:
    with pytest.raises(cc.CandlecastError) as raised:
        cc.forecast(bars, **{"venue": "XNYS", "model": "random-walk", **more})
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "--" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s.drop("symbol"), "no column for symbol"),
        (lambda s: s.drop("date"), "no column for the date"),
        (lambda s: s.drop("score"), "no column for score"),
        (lambda s: s.clear(), "has no rows"),
        (lambda s: s.with_columns(score=pl.lit("high")), "expected numbers"),
        (lambda s: s.reverse(), "(rule: dates increase)"),
        (lambda s: pl.concat([s, s.tail(1)]), "two scores of"),
        (lambda s: s.with_columns(symbol=pl.lit("ZZZ")).unique("date").sort("date"), "no bar of"),
    ],
)
def test_bad_scores_are_one_line(
    change: Callable[[pl.DataFrame], pl.DataFrame],
    expected: str,
    bars: pl.DataFrame,
    scores: pl.DataFrame,
) -> None:
    with pytest.raises(cc.CandlecastError) as raised:
        cc.backtest(bars, change(scores), venue="XNYS")
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)
