"""Frames in the shapes that yfinance, ccxt and akshare return, and columns side by side."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from market import ImportOptions, ImportReport, Label, MarketHistory, import_files, import_frame
from market.errors import SourceError
from market.importing.qlib_folder import read_qlib, write_qlib

DAYS = pd.bdate_range("2024-01-02", periods=8, name="Date")
FIELDS = ("Close", "High", "Low", "Open", "Volume")
XNYS = ImportOptions(venue="XNYS")


def values(field: str, scale: float = 1.0) -> np.ndarray[Any, Any]:
    rise = {"Close": 0.5, "High": 1.0, "Low": -1.0, "Open": 0.0, "Volume": 90.0}[field]
    return (10.0 + rise + np.arange(8) * 0.1) * scale


def imported(store: Path, report: ImportReport) -> dict[str, int]:
    assert report.quarantined == {}
    return dict(MarketHistory.open(store).symbols().select("symbol", "n_bars").iter_rows())


@pytest.mark.parametrize("tickers", [["AAAA"], ["AAAA", "BRK-B", "^GSPC"]])
@pytest.mark.parametrize("zone", [None, "America/New_York"])
@pytest.mark.parametrize("by_ticker", [False, True])
def test_yfinance_download(
    tmp_path: Path, tickers: list[str], zone: str | None, by_ticker: bool
) -> None:
    """Columns by field and ticker, or the other way round (group_by="ticker")."""
    columns = {(f, t): values(f, 1 + i) for f in FIELDS for i, t in enumerate(tickers)}
    frame = pd.DataFrame(columns, index=DAYS if zone is None else DAYS.tz_localize(zone))
    frame.columns.names = ["Price", "Ticker"]
    if by_ticker:
        frame = frame.swaplevel(axis=1).sort_index(axis=1)
    report = import_frame(frame, tmp_path / "s", options=XNYS)
    assert imported(tmp_path / "s", report) == dict.fromkeys(tickers, 8)
    bar = MarketHistory.open(tmp_path / "s").scan(symbols=tickers[-1:]).sort("timestamp").collect()
    assert bar["timestamp"][0] == datetime(2024, 1, 2)
    assert bar["close"][0] == values("Close", len(tickers))[0]


def test_yfinance_history_of_one_ticker(tmp_path: Path) -> None:
    frame = pd.DataFrame({f: values(f) for f in FIELDS}, index=DAYS.tz_localize("Asia/Kolkata"))
    frame["Dividends"], frame["Stock Splits"] = 0.0, 0.0
    options = ImportOptions(venue="XNSE", symbol="TCS.NS")
    report = import_frame(frame, tmp_path / "s", options=options)
    assert imported(tmp_path / "s", report) == {"TCS.NS": 8}
    with pytest.raises(SourceError, match="no symbol column"):
        import_frame(frame, tmp_path / "t", options=ImportOptions(venue="XNSE"))


@pytest.mark.parametrize("as_frame", [False, True])
def test_ccxt_fetch_ohlcv(tmp_path: Path, as_frame: bool) -> None:
    first = 1704153600000
    rows: Any = [[first + i * 3_600_000, 10.0, 11.0, 9.0, 10.5, 3.25] for i in range(24)]
    if as_frame:
        names = ["timestamp", "open", "high", "low", "close", "volume"]
        rows = pd.DataFrame(rows, columns=names)
    options = ImportOptions(venue="24/7", label=Label.START, symbol="BTC/USDT")
    report = import_frame(rows, tmp_path / "s", options=options)
    assert imported(tmp_path / "s", report) == {"BTC/USDT": 24}
    bars = MarketHistory.open(tmp_path / "s").scan().sort("timestamp").collect()
    assert (bars["timestamp"][0], bars["volume"][0]) == (datetime(2024, 1, 2), 3.25)


def test_akshare_hist(tmp_path: Path) -> None:
    """stock_zh_a_hist: Chinese names, dates as objects, volume in lots."""
    frame = pd.DataFrame(
        {"日期": [each.date() for each in DAYS], "股票代码": "000001", "开盘": values("Open"),
         "收盘": values("Close"), "最高": values("High"), "最低": values("Low"),
         "成交量": np.arange(8) + 100, "成交额": values("Volume"), "涨跌幅": 0.1, "换手率": 0.5}
    )  # fmt: skip
    report = import_frame(frame, tmp_path / "s", options=ImportOptions(venue="XSHE"))
    assert imported(tmp_path / "s", report) == {"000001": 8}
    bars = MarketHistory.open(tmp_path / "s").scan().sort("timestamp").collect()
    assert (bars["session"][0], bars["amount"][0]) == (date(2024, 1, 2), 100.0)


@pytest.mark.parametrize(
    "name", ["{f}_{t}", "{t}_{f}", "{t} {f}", "{f}.{t}", "('{f}', '{t}')", "{t}:{f}"]
)
def test_wide_columns(tmp_path: Path, name: str) -> None:
    columns = {name.format(f=f, t=t): values(f) for t in ("AAAA", "BBBB") for f in FIELDS}
    path = tmp_path / "prices.csv"
    pd.DataFrame(columns, index=DAYS).to_csv(path)
    report = import_files([path], tmp_path / "s", XNYS)
    assert imported(tmp_path / "s", report) == {"AAAA": 8, "BBBB": 8}


def test_polars_frames_and_what_is_no_table(tmp_path: Path) -> None:
    frame = pl.DataFrame({"ticker": ["A"] * 8, "date": DAYS.to_list(),
                          **{f.lower(): values(f) for f in FIELDS}})  # fmt: skip
    assert imported(tmp_path / "s", import_frame(frame, tmp_path / "s", options=XNYS)) == {"A": 8}
    assert import_frame(frame.lazy(), tmp_path / "s").nothing_new
    for nothing in ("bars", 3, [], frame.clear()):
        with pytest.raises(SourceError, match=r"not a table of bars|no rows"):
            import_frame(nothing, tmp_path / "t", options=XNYS)


def test_a_qlib_folder_comes_back_as_it_went_out(tmp_path: Path) -> None:
    frame = pl.DataFrame({"symbol": ["SH600000"] * 8, "date": DAYS.to_list(),
                          **{f.lower(): values(f) for f in FIELDS}})  # fmt: skip
    import_frame(frame, tmp_path / "s", options=ImportOptions(venue="XSHG"))
    history = MarketHistory.open(tmp_path / "s")
    bars = history.scan().collect().sort("close_utc")
    write_qlib(bars, history.actions(), tmp_path / "qlib")
    report = import_files([tmp_path / "qlib"], tmp_path / "again", ImportOptions(venue="XSHG"))
    assert imported(tmp_path / "again", report) == {"SH600000": 8}
    again = MarketHistory.open(tmp_path / "again").scan().collect().sort("close_utc")
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_allclose(again[name], bars[name], rtol=1e-7)
    with pytest.raises(SourceError, match="not empty"):
        write_qlib(bars, history.actions(), tmp_path / "qlib")
    (tmp_path / "qlib/features/sh600000/close.day.bin").write_bytes(b"\0\0\x80\x7f")
    with pytest.raises(SourceError, match=r"close\.day\.bin: damaged"):
        read_qlib(tmp_path / "qlib", None)


def test_a_folder_that_qlib_wrote(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "golden" / "qlib" / "binary_folder"
    import_files([folder], tmp_path / "s", ImportOptions(venue="XSHG"))
    history = MarketHistory.open(tmp_path / "s")
    assert history.symbols().height == 8
    bars = history.scan().collect().sort("symbol", "close_utc")
    write_qlib(bars, history.actions(), tmp_path / "out")
    import_files([tmp_path / "out"], tmp_path / "again", ImportOptions(venue="XSHG"))
    again = MarketHistory.open(tmp_path / "again").scan().collect().sort("symbol", "close_utc")
    np.testing.assert_allclose(again["close"], bars["close"], rtol=1e-6)
