"""Real files with known defects: each row lands where its defect says."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from market import (
    ImportOptions,
    Label,
    MarketHistory,
    eligibility,
    future_timestamps,
    import_files,
    parse_universe,
)


@pytest.fixture(scope="module")
def sp500(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> MarketHistory:
    store = tmp_path_factory.mktemp("sp500") / "store"
    file = shared_dir / "data" / "equities_daily_sp500.parquet"
    import_files([file], store, ImportOptions(venue="XNYS"))
    return MarketHistory.open(store)


def test_sp500_defects_are_in_quarantine(sp500: MarketHistory) -> None:
    rows = sp500.quarantine()
    assert dict(rows["rule"].value_counts().iter_rows()) == {
        "finite": 10,
        "low <= open, close <= high": 12,
    }
    assert rows.filter(pl.col("detail").str.starts_with("high "))["symbol"].to_list() == ["AOS"]
    missing = rows.filter(pl.col("rule") == "finite").select(
        "symbol", pl.col("timestamp").dt.date()
    )
    assert ("DHR", date(2015, 7, 17)) in missing.rows()
    assert sp500.symbols()["n_bars"].sum() == 492_377 - 22
    assert len(sp500.sessions()) == 1007


def test_sp500_sessions_are_those_of_the_exchange(sp500: MarketHistory) -> None:
    labels = sp500.series(["AAPL"])[0].timestamps_N
    future = future_timestamps(sp500.spec, labels[:300], len(labels) - 300)
    np.testing.assert_array_equal(future, labels[300:])


def test_sp500_eligibility(sp500: MarketHistory) -> None:
    as_of = sp500.resolve_as_of("2016-12-30")
    symbols = parse_universe("top:100").members(sp500, as_of)
    assert {"AAPL", "AMZN", "FB"} <= set(symbols)
    sessions = np.array(sp500.sessions(), "datetime64[D]")
    every = sp500.series(as_of=as_of.close_utc)
    reasons = {
        series.symbol: eligibility(series, as_of, 256, sessions=sessions) for series in every
    }
    kinds = [reason.split(":")[0] for reason in reasons.values() if reason]
    assert set(kinds) == {"too short"}
    assert reasons["AAPL"] is None


def test_index_members_with_repeated_rows(shared_dir: Path, tmp_path: Path) -> None:
    file = shared_dir / "data" / "equities_daily_nifty50_2000_2020.parquet"
    report = import_files([file], tmp_path / "store", ImportOptions(venue="XBOM"))
    assert report.quarantined == {"unique timestamp": 147}
    details = MarketHistory.open(tmp_path / "store").quarantine()["detail"]
    assert details.unique().to_list() == ["equal to the bar kept"]


def test_five_minute_bars_with_a_lunch_break(shared_dir: Path, tmp_path: Path) -> None:
    file = shared_dir / "data" / "bars_5min_xshg_600977.parquet"
    import_files([file], tmp_path / "store", ImportOptions(venue="XSHG"))
    history = MarketHistory.open(tmp_path / "store")
    assert history.spec.label is Label.END
    series = history.series()[0]
    for known in (1, 25, 256, 2000):
        future = future_timestamps(history.spec, series.timestamps_N[:known], 200)
        np.testing.assert_array_equal(future, series.timestamps_N[known : known + 200])


def test_subtractively_adjusted_prices(shared_dir: Path, tmp_path: Path) -> None:
    file = shared_dir / "data" / "equities_daily_sse50.parquet"
    report = import_files([file], tmp_path / "store", ImportOptions(venue="XSHG"))
    assert report.quarantined == {"price > 0": 35_983}
