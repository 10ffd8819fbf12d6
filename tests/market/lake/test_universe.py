"""Universes are points in time: nothing after as_of decides who belongs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from market import MarketHistory, StoreSpec, import_frame, parse_universe
from market.errors import ConfigError

MakeBars = Callable[..., pl.DataFrame]


@pytest.fixture
def history(tmp_path: Path, daily_spec: StoreSpec, make_bars: MakeBars) -> MarketHistory:
    """OLD and MID from 2024-01-02 on, LATE from 2024-02-01 on with by far the largest amounts."""
    late = make_bars(["LATE"], start=date(2024, 2, 1), n=20).with_columns(amount=pl.lit(1e9))
    old = make_bars(["OLD", "MID"], n=40).with_columns(
        amount=pl.when(pl.col("symbol") == "OLD").then(1e5).otherwise(2e5)
    )
    import_frame(pl.concat([old, late]), tmp_path / "store", daily_spec)
    return MarketHistory.open(tmp_path / "store")


def members(history: MarketHistory, text: str | Path, day: str = "2024-02-15") -> list[str]:
    return parse_universe(str(text)).members(history, history.resolve_as_of(day))


def test_all_are_those_listed_by_then(history: MarketHistory) -> None:
    assert members(history, "all") == ["LATE", "MID", "OLD"]
    assert members(history, "all", "2024-01-31") == ["MID", "OLD"]


def test_most_traded_up_to_as_of(history: MarketHistory) -> None:
    assert members(history, "top:2") == ["LATE", "MID"]
    assert members(history, "top:1", "2024-01-31") == ["MID"]
    assert members(history, "top:99") == ["LATE", "MID", "OLD"]


def test_samples_are_drawn_from_those_trading_at_the_date(history: MarketHistory) -> None:
    assert members(history, "sample:9") == ["LATE", "MID", "OLD"]
    assert members(history, "sample:9", "2024-01-31") == ["MID", "OLD"]
    days = history.sessions()[10:35]
    drawn = {tuple(members(history, "sample:1", str(day))) for day in days}
    assert len(drawn) == 3, "dates together cover the market"
    assert members(history, "sample:1") == members(history, "sample:1"), "and each repeats"
    with pytest.raises(ConfigError, match="write sample:N"):
        members(history, "sample:few")


def test_several_dates_are_written_with_commas(history: MarketHistory) -> None:
    found = history.resolve_as_of_range("2024-02-15,2024-01-31,2024-02-15")
    assert [str(each.session) for each in found] == ["2024-01-31", "2024-02-15"]


def test_lists(history: MarketHistory) -> None:
    assert members(history, " OLD, LATE,OLD") == ["LATE", "OLD"]
    with pytest.raises(ConfigError, match=r"NONE is not in .* such as LATE, MID, OLD"):
        members(history, "OLD,NONE")


def test_files_of_names(history: MarketHistory, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("# the few\nOLD\n\nGONE\n")
    assert members(history, path) == ["GONE", "OLD"]


def test_files_of_stays(history: MarketHistory, tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    path.write_text(
        "symbol,start,end\nOLD,,2024-01-31\nMID,2024-02-01,\nLATE,2024-02-05,2024-02-15\n"
        "OLD,2024-02-14,2024-02-20\n"
    )
    assert members(history, path, "2024-01-31") == ["OLD"]
    assert members(history, path, "2024-02-01") == ["MID"]
    assert members(history, path, "2024-02-15") == ["LATE", "MID", "OLD"]
    assert members(history, path, "2024-02-16") == ["MID", "OLD"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "names no symbol"),
        ("symbol,weight\nOLD,1\n", "unknown columns weight"),
        ("symbol,start\nOLD,soon\n", "'soon' is not a date"),
        ("OLD,2024-01-01,2024-02-01,3\n", "more than 3 cells"),
    ],
)
def test_files_that_are_no_universe(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "index.csv"
    path.write_text(content)
    with pytest.raises(ConfigError, match=says):
        parse_universe(str(path))


@pytest.mark.parametrize("text", ["", ",", "top:", "top:0", "top:ten", "missing.csv"])
def test_texts_that_are_no_universe(text: str) -> None:
    with pytest.raises(ConfigError, match="universe"):
        parse_universe(text)
