"""Splits and dividends: kept beside raw bars, applied as known at a date, looked for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import (
    ImportOptions,
    MarketHistory,
    StoreSpec,
    eligibility,
    import_files,
    import_frame,
    stack_windows,
    window_at,
)
from market.actions.factors import SymbolActions, factors
from market.actions.suspects import find_suspects, write_suspects
from market.actions.table import ACTION_SCHEMA, no_actions, read_actions
from market.errors import ConfigError, SourceError
from market.flags import Flag
from market.windows import adjusted_view, continuous_values

MakeBars = Callable[..., pl.DataFrame]
EX = date(2024, 1, 22)


def split_bars(make_bars: MakeBars, ratio: float = 4.0) -> pl.DataFrame:
    """30 daily bars of A whose raw prices fall by a split on EX, and of B without one."""
    bars = make_bars(["A", "B"])
    after = (pl.col("timestamp") >= datetime(EX.year, EX.month, EX.day)) & (pl.col("symbol") == "A")
    prices = ("open", "high", "low", "close")
    return bars.with_columns(
        *(pl.when(after).then(pl.col(p) / ratio).otherwise(p).alias(p) for p in prices),
        volume=pl.when(after).then(pl.col("volume") * ratio).otherwise("volume"),
    )


def action(day: date = EX, split: float = 4.0, dividend: float = 0.0,
           announced: date | None = None) -> pl.DataFrame:  # fmt: skip
    row = {"symbol": "A", "ex_date": day, "split": split, "dividend": dividend,
           "announced": announced}  # fmt: skip
    return pl.DataFrame([row], schema=ACTION_SCHEMA)


@pytest.fixture
def store(tmp_path: Path, daily_spec: StoreSpec, make_bars: MakeBars) -> Path:
    import_frame(split_bars(make_bars), tmp_path / "store", daily_spec)
    return tmp_path / "store"


def test_prices_are_adjusted_as_known_at_a_date(store: Path, make_bars: MakeBars) -> None:
    MarketHistory.open(store).record_actions(action())
    history = MarketHistory.open(store)
    whole = make_bars(["A"]).sort("timestamp")
    last = history.resolve_as_of("2024-02-12")
    split = history.prices("split", last, symbols=["A"])
    np.testing.assert_allclose(split["close"], whole["close"] / 4, rtol=1e-12)
    np.testing.assert_allclose(split["volume"], whole["volume"] * 4, rtol=1e-12)
    raw = history.prices("raw", last, symbols=["A"])
    assert raw.equals(history.scan(symbols=["A"]).collect().sort("close_utc"))
    before = history.resolve_as_of("2024-01-19")
    assert history.prices("split", before).equals(history.prices("raw", before))
    with pytest.raises(ConfigError, match="must be raw, split or total"):
        history.prices("log", last)  # type: ignore[arg-type]


def test_total_returns_are_those_of_a_holder(store: Path) -> None:
    MarketHistory.open(store).record_actions(action(split=1.0, dividend=2.0))
    history = MarketHistory.open(store)
    as_of = history.resolve_as_of("2024-02-12")
    raw = history.prices("raw", as_of, symbols=["A"])
    total = history.prices("total", as_of, symbols=["A"])
    at = raw["session"].to_list().index(EX)
    held = raw["close"][at] / (raw["close"][at - 1] - 2.0)
    assert total["close"][at] / total["close"][at - 1] == pytest.approx(held, rel=1e-12)
    assert history.prices("split", as_of, symbols=["A"]).equals(raw)


@pytest.mark.parametrize("later", [date(2024, 2, 5), date(2024, 3, 1)])
def test_what_is_announced_later_changes_nothing_before(store: Path, later: date) -> None:
    """Also an action in force that nobody knew of, and one that is yet to come."""
    history = MarketHistory.open(store)
    as_of = history.resolve_as_of("2024-02-02")
    clean = {basis: history.prices(basis, as_of) for basis in ("raw", "split", "total")}  # type: ignore[arg-type]
    window = window_at(history.series(["A"])[0], as_of, 20)
    before = stack_windows([(history.series(["A"])[0], window)], np.empty((1, 20, 6))).copy()
    for poison in (action(announced=later), action(day=later, dividend=9.0)):
        poisoned = MarketHistory.open(store, version=history.record_actions(poison))
        for basis, bars in clean.items():
            assert poisoned.prices(basis, as_of).equals(bars)  # type: ignore[arg-type]
        series = poisoned.series(["A"])[0]
        after = stack_windows([(series, window)], np.empty((1, 20, 6)))
        assert after.tobytes() == before.tobytes()


def test_windows_come_in_the_raw_unit_of_as_of(store: Path, make_bars: MakeBars) -> None:
    MarketHistory.open(store).record_actions(action())
    history = MarketHistory.open(store)
    series = history.series(["A"])[0]
    as_of = history.resolve_as_of("2024-02-02")
    window = window_at(series, as_of, 20)
    values = stack_windows([(series, window)], np.empty((1, 20, 6)))[0]
    whole = make_bars(["A"]).sort("timestamp")["close"].to_numpy()[window.first : window.last]
    np.testing.assert_allclose(values[:, 3], whole / 4, rtol=1e-12)
    assert values[-1, 3] == series.values_NF[window.last - 1, 3]


@pytest.mark.parametrize("announced", [None, date(2024, 2, 5)])
def test_training_reads_what_a_forecast_would(
    store: Path, make_bars: MakeBars, announced: date | None
) -> None:
    MarketHistory.open(store).record_actions(action(announced=announced))
    raw, other = MarketHistory.open(store).series(["A", "B"])
    values_NF = continuous_values(raw)
    assert continuous_values(other) is other.values_NF
    ex = int(np.searchsorted(raw.sessions_N, np.datetime64(EX)))
    np.testing.assert_array_equal(values_NF[:ex], raw.values_NF[:ex])  # the past stays as it was
    if announced is not None:
        np.testing.assert_array_equal(values_NF, raw.values_NF)
        return
    whole = make_bars(["A"]).sort("timestamp")
    np.testing.assert_allclose(values_NF[:, 3], whole["close"], rtol=1e-12)
    np.testing.assert_allclose(values_NF[:, 4], whole["volume"], rtol=1e-12)
    for last in range(10, len(raw)):  # every window, but for its unit, is the forecast's
        seen_LF = adjusted_view(raw, window_at(raw, raw.close_utc_N[last], 8))
        own_LF = values_NF[last - 7 : last + 1]
        unit = own_LF[-1, 3] / seen_LF[-1, 3]
        np.testing.assert_allclose(own_LF[:, :4], seen_LF[:, :4] * unit, rtol=1e-12)
        np.testing.assert_allclose(own_LF[:, 4], seen_LF[:, 4] / unit, rtol=1e-12)


def test_windows_over_a_suspected_split_are_left_out(store: Path) -> None:
    history = MarketHistory.open(store)
    sessions = np.array(history.sessions(), "datetime64[D]")
    series = {each.symbol: each for each in history.series()}

    def reason(symbol: str, day: str, allow: bool = False) -> str | None:
        return eligibility(
            series[symbol], history.resolve_as_of(day), 10, sessions=sessions,
            allow_suspected_splits=allow,
        )  # fmt: skip

    assert reason("A", "2024-01-19") is None
    said = reason("A", "2024-01-24")
    assert said is not None
    assert said.startswith("suspected split: close ")
    assert "--allow-suspected-splits" in said
    assert reason("A", "2024-01-24", allow=True) is None
    assert reason("A", "2024-02-09") is None, "the move has left the lookback"
    assert reason("B", "2024-01-24") is None
    assert series["A"].flags_N.tolist().count(int(Flag.SUSPECTED_SPLIT)) == 1
    for explained in (action(), action(split=1.0)):  # a split, or the word that it is none
        version = history.record_actions(explained)
        known = MarketHistory.open(store, version=version).series(["A"])[0]
        assert not (known.flags_N & int(Flag.SUSPECTED_SPLIT)).any()


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(4.0, "4:1"), (1.5, "3:2"), (2.0, "2:1"), (0.1, "1:10"), (0.5, "1:2"), (1.05, None)],
)
def test_moves_that_look_like_splits(make_bars: MakeBars, ratio: float, words: str | None,
                                     tmp_path: Path, daily_spec: StoreSpec) -> None:  # fmt: skip
    report = import_frame(split_bars(make_bars, ratio), tmp_path / "s", daily_spec)
    said = [note for note in report.notes if "corporate action explains" in note]
    assert (words is not None) == bool(said)
    if words is not None:
        assert f"A {'falls' if ratio > 1 else 'rises'}" in said[0]
        assert "on 2024-01-22" in said[0]
        assert f"looks like a {words} split" in said[0]
    history = MarketHistory.open(tmp_path / "s")
    bars = history.scan().collect()
    assert find_suspects(bars, action()) == []
    cut = bars.filter(pl.col("session") <= EX)
    assert find_suspects(cut, no_actions()) == find_suspects(bars, no_actions())


@pytest.mark.parametrize("ratio", [4.0, 1.5, 0.1])
def test_suspects_are_written_as_they_are_recorded(
    make_bars: MakeBars, daily_spec: StoreSpec, tmp_path: Path, ratio: float
) -> None:
    import_frame(split_bars(make_bars, ratio), tmp_path / "s", daily_spec)
    bars = MarketHistory.open(tmp_path / "s").scan().collect()
    write_suspects(find_suspects(bars, no_actions()), tmp_path / "to-check.csv")
    recorded = read_actions(tmp_path / "to-check.csv")
    assert recorded.select("symbol", "ex_date").rows() == [("A", EX)]
    assert recorded["split"].to_list() == pytest.approx([ratio])
    assert find_suspects(bars, recorded) == []


def test_a_move_between_two_imports_is_seen(
    make_bars: MakeBars, tmp_path: Path, daily_spec: StoreSpec
) -> None:
    bars = split_bars(make_bars)
    cut = datetime(EX.year, EX.month, EX.day)
    import_frame(bars.filter(pl.col("timestamp") < cut), tmp_path / "s", daily_spec)
    report = import_frame(bars.filter(pl.col("timestamp") == cut), tmp_path / "s", daily_spec)
    assert any("looks like a 4:1 split" in note for note in report.notes)


def test_actions_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "actions.csv"
    path.write_text(
        "Symbol,Ex_Date,Split,Dividend,Announced\nA,2024-01-22,4:1,,\nB,20240301,1:10,,2024-02-01\n"
        "A,2024-02-01,,0.5,\nC,2024-02-01,3-for-2,0,\n"
    )
    rows = read_actions(path)
    assert rows.select("symbol", "split", "dividend").rows() == [
        ("A", 4.0, 0.0), ("A", 1.0, 0.5), ("B", 0.1, 0.0), ("C", 1.5, 0.0)
    ]  # fmt: skip
    assert rows["announced"][2] == date(2024, 2, 1)
    path.write_text("symbol,ex_date,split\nA,2024-01-22,4\nB,soon,2\n")
    with pytest.raises(SourceError, match="row 2 is not a corporate action: symbol 'B'"):
        read_actions(path)
    path.write_text("symbol,when\nA,2024-01-22\n")
    with pytest.raises(SourceError, match="need the columns symbol, ex_date"):
        read_actions(path)


def yahoo(bars: pl.DataFrame, path: Path, **columns: list[float]) -> Path:
    frame = bars.filter(pl.col("symbol") == "A").drop("symbol", "amount")
    frame.with_columns(pl.Series(name, values) for name, values in columns.items()).write_csv(path)
    return path


def test_splits_the_prices_hold_already_are_not_applied_again(
    make_bars: MakeBars, tmp_path: Path
) -> None:
    at = [each.date() for each in make_bars(["A"])["timestamp"]].index(EX)
    column = [0.0] * 30
    column[at] = 4.0
    options = ImportOptions(venue="XNYS", price_basis="raw")
    path = yahoo(split_bars(make_bars), tmp_path / "A.csv", **{"Stock Splits": column})
    report = import_files([path], tmp_path / "raw", options)
    assert report.new_actions == 1
    actions = MarketHistory.open(tmp_path / "raw").actions()
    assert actions.select("symbol", "ex_date", "split").row(0) == ("A", EX, 4.0)

    path = yahoo(make_bars(["A"]), tmp_path / "A.csv", **{"Stock Splits": column})
    report = import_files([path], tmp_path / "adjusted", options)
    assert report.new_actions == 0
    assert any("1 splits are not kept, the prices hold them already" in n for n in report.notes)


def test_dividends_from_an_adjusted_close(make_bars: MakeBars, tmp_path: Path) -> None:
    bars = make_bars(["A"])
    close = bars["close"].to_list()
    at = [each.date() for each in bars["timestamp"]].index(EX)
    factor = 1 - 1.0 / close[at - 1]
    adjusted = [c * factor if i < at else c for i, c in enumerate(close)]
    path = yahoo(bars, tmp_path / "A.csv", **{"Adj Close": adjusted})
    import_files([path], tmp_path / "s", ImportOptions(venue="XNYS"))
    history = MarketHistory.open(tmp_path / "s")
    found = history.actions()
    assert found.select("ex_date", "split").row(0) == (EX, 1.0)
    assert found["dividend"][0] == pytest.approx(1.0, abs=1e-3)
    total = history.prices("total", history.resolve_as_of("2024-02-12"))
    np.testing.assert_allclose(total["close"], adjusted, rtol=1e-4)


def test_unexplained_dividends_are_asked_about(make_bars: MakeBars, tmp_path: Path) -> None:
    column = [0.0] * 30
    column[9] = 0.5
    path = yahoo(make_bars(["A"]), tmp_path / "A.csv", Dividends=column)
    report = import_files([path], tmp_path / "s", ImportOptions(venue="XNYS"))
    assert any("--price-basis raw" in note for note in report.notes)
    assert MarketHistory.open(tmp_path / "s").actions().is_empty()


def test_stores_keep_their_actions_by_version(store: Path) -> None:
    before = MarketHistory.open(store)
    version = before.record_actions(action())
    assert before.actions().is_empty()
    assert MarketHistory.open(store, version=version).actions().height == 1
    assert MarketHistory.open(store).record_actions(action()) == version, "nothing new"
    changed = MarketHistory.open(store).record_actions(action(split=2.0))
    assert MarketHistory.open(store, version=changed).actions()["split"].to_list() == [2.0]


@given(
    splits=st.lists(st.sampled_from([0.1, 0.5, 1.5, 2.0, 4.0]), max_size=4),
    seed=st.integers(0, 1000),
)
def test_adjusting_leaves_returns_between_actions_alone(splits: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    days = np.arange("2024-01-01", "2024-03-01", dtype="datetime64[D]")
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, len(days))))
    ex = np.sort(rng.choice(days[1:], len(splits), replace=False)) if splits else days[:0]
    actions = SymbolActions(ex, ex, np.array(splits), np.zeros(len(splits)))
    price, volume = factors(days, close, actions, days[-1], "split")
    assert price[-1] == 1.0
    np.testing.assert_allclose(price * volume, 1.0, rtol=1e-12)
    steps = set(np.flatnonzero(np.diff(price) != 0) + 1)
    assert steps == {int(np.searchsorted(days, day)) for day in ex}
    cut = len(days) // 2
    early = factors(days[:cut], close[:cut], actions, days[cut - 1], "split").price_N
    known = actions.known(days[cut - 1])
    again = factors(days[:cut], close[:cut], known, days[-1], "split").price_N
    assert early.tobytes() == again.tobytes()
