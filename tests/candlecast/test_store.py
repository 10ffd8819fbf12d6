"""A store from a notebook."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import polars as pl
import pytest

import candlecast as cc


@pytest.fixture
def store(bars: pl.DataFrame, tmp_path: Path) -> cc.Store:
    made = cc.Store(tmp_path / "store")
    made.import_frame(bars, venue="XNYS")
    return made


def test_bars_go_in_and_come_out(bars: pl.DataFrame, store: cc.Store) -> None:
    assert store.symbols() == bars["symbol"].unique().sort().to_list()
    name = store.symbols()[0]
    own = bars.filter(pl.col("symbol") == name)
    for asked in (name, [name], pd.Series([name])):
        assert store.bars(asked)["close"].to_list() == own["close"].to_list()
    day = own["timestamp"][100].date()
    some = store.bars(name, start=str(own["timestamp"][50].date()), as_of=day)
    assert some.height == 51
    assert some["session"][-1] == day
    again = store.import_frame(bars.to_pandas())
    assert again.nothing_new
    assert again.known_bars == bars.height
    assert f"{bars.height:,} bars of {len(store.symbols())} symbols" in repr(store)


@pytest.mark.parametrize("by_symbol", [False, True])
def test_fields_and_symbols_side_by_side(
    bars: pl.DataFrame, tmp_path: Path, by_symbol: bool
) -> None:
    """As yfinance.download gives them."""
    some = bars["symbol"].unique().sort().to_list()[:2]
    own = bars.filter(pl.col("symbol").is_in(some)).rename(str.title).to_pandas()
    fields = ["Open", "High", "Low", "Close", "Volume"]
    wide = own.pivot(index="Timestamp", columns="Symbol", values=fields)
    if by_symbol:
        wide = wide.swaplevel(axis=1).sort_index(axis=1)
    store = cc.Store(tmp_path / "store")
    report = store.import_frame(wide, venue="XNYS")
    assert report.new_bars == len(own)
    assert store.bars(some[1])["close"].to_list() == (
        bars.filter(pl.col("symbol") == some[1]).sort("timestamp")["close"].to_list()
    )


def test_a_frame_that_cannot_be_kept_leaves_no_store(bars: pl.DataFrame, tmp_path: Path) -> None:
    store = cc.Store(tmp_path / "store")
    with pytest.raises(cc.CandlecastError, match="must be error, keep, replace"):
        store.import_frame(bars, venue="XNYS", on_conflict="never")
    with pytest.raises(cc.CandlecastError):
        store.import_frame(bars.head(1), venue="XNYS")
    assert not store.path.exists()


def test_one_file_or_several(bars: pl.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "bars").mkdir()
    for (name,), part in bars.group_by("symbol"):
        part.drop("symbol").write_csv(tmp_path / "bars" / f"{name}.csv")
    bars.write_parquet(tmp_path / "bars.parquet")
    parts = sorted((tmp_path / "bars").iterdir())
    for at, files in enumerate(
        [str(tmp_path / "bars.parquet"), tmp_path / "bars", f"{tmp_path}/bars/*.csv", parts]
    ):
        store = cc.Store(tmp_path / f"store{at}", frames="pandas")
        report = store.import_files(files, venue="XNYS")
        assert report.new_bars == bars.height
        assert isinstance(store.bars(), pd.DataFrame)


def test_what_is_wrong_is_one_line(bars: pl.DataFrame, store: cc.Store, tmp_path: Path) -> None:
    changed = bars.with_columns(close=pl.col("high"))
    wrong = [
        (lambda: store.import_frame(changed), "choose on_conflict keep"),
        (lambda: store.import_frame(bars, venue="XLON"), "venue XLON: the store holds XNYS"),
        (lambda: store.bars("ZZZ"), "ZZZ: not in "),
        (lambda: store.bars(start="soon"), "start='soon' is not a date"),
        (lambda: store.bars(as_of="1999-01-04"), "outside the history"),
        (lambda: cc.Store(tmp_path / "nothing").symbols(), "no history store here"),
        (lambda: cc.Store("x", frames="numpy"), "must be polars or pandas"),  # type: ignore[arg-type]
        (lambda: store.forecast("2014-05-05", tmp_path / "t", hoizon=3), "hoizon: unknown key"),
    ]
    for call, expected in wrong:
        with pytest.raises(cc.CandlecastError) as raised:
            call()
        assert expected in str(raised.value)
        assert "\n" not in str(raised.value)
