"""Every bar rule: which rows stay, which go to quarantine, and what is said about them."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import Flag, check_bars
from market.errors import SourceError
from market.fields import FEATURES, PRICES

GOOD = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0, "amount": 1000.0}


def one_bar(**changes: float | None) -> pl.DataFrame:
    values = {**GOOD, **changes}
    row = {"symbol": "A", "timestamp": datetime(2024, 3, 11), **values}
    return pl.DataFrame([row], schema_overrides=dict.fromkeys(FEATURES, pl.Float64))


@pytest.mark.parametrize(
    ("changes", "rule", "detail"),
    [
        ({"close": None}, "finite", "close is missing"),
        ({"open": float("nan")}, "finite", "open is NaN"),
        ({"high": float("inf")}, "finite", "high is inf"),
        ({"volume": float("nan")}, "finite", "volume is NaN"),
        ({"low": 0.0}, "price > 0", "low is 0.0"),
        ({"low": -1.0}, "price > 0", "low is -1.0"),
        ({"high": 8.0}, "low <= open, close <= high", "high 8.0 < low 9.0"),
        ({"low": 10.2}, "low <= open, close <= high", "low 10.2 > min(open, close) 10.0"),
        ({"high": 10.2}, "low <= open, close <= high", "high 10.2 < max(open, close) 10.5"),
        ({"volume": -1.0}, "volume >= 0", "volume is -1.0"),
        ({"amount": -1.0}, "amount >= 0", "amount is -1.0"),
    ],
)
def test_bad_row_is_quarantined_under_its_rule(
    changes: dict[str, float | None], rule: str, detail: str
) -> None:
    checked = check_bars(one_bar(**changes))
    assert checked.good.is_empty()
    row = checked.quarantine.row(0, named=True)
    assert row["rule"] == rule
    assert row["detail"].startswith(detail)
    assert row["symbol"] == "A"
    assert row["row"] == 1


def test_a_row_without_time_or_symbol_says_so() -> None:
    rows = pl.concat([one_bar(), one_bar()]).with_columns(
        symbol=pl.Series(["A", None]),
        timestamp=pl.Series([None, datetime(2024, 3, 11)]),
        time_text=pl.Series(["soon", None]),
    )
    found = check_bars(rows).quarantine
    assert found["rule"].to_list() == ["parsable time", "symbol present"]
    assert found["detail"][0] == "'soon' is not a time"


def test_missing_volume_and_amount_are_filled_and_flagged() -> None:
    bars = check_bars(one_bar(volume=None, amount=None)).good
    assert bars["volume"][0] == 0.0
    assert bars["amount"][0] == 0.0
    assert Flag(bars["flags"][0]) == Flag.VOLUME_MISSING | Flag.AMOUNT_MISSING

    bars = check_bars(one_bar(amount=None).drop("amount")).good
    assert bars["amount"][0] == 100.0 * (10.0 + 11.0 + 9.0 + 10.5) / 4
    assert Flag(bars["flags"][0]) == Flag.AMOUNT_MISSING


def test_of_repeated_timestamps_the_first_good_row_stays() -> None:
    rows = pl.concat([one_bar(close=None), one_bar(), one_bar(), one_bar(close=10.6)])
    checked = check_bars(rows)
    assert checked.good["row"].to_list() == [2]
    assert checked.quarantine["rule"].to_list() == ["finite", *["unique timestamp"] * 2]
    assert checked.quarantine["detail"].to_list()[1:] == [
        "equal to the bar kept",
        "close 10.6 against 10.5 in the bar kept",
    ]


def test_absent_price_column_is_an_error() -> None:
    with pytest.raises(SourceError, match="need the columns low"):
        check_bars(one_bar().drop("low"))


def test_a_flat_bar_at_a_limit_is_a_good_bar() -> None:
    flat = one_bar(open=10.0, high=10.0, low=10.0, close=10.0, volume=0.0)
    assert check_bars(flat).good.height == 1


values = st.one_of(st.none(), st.sampled_from([float("nan"), float("inf"), -1.0, 0.0]),
                   st.floats(1.0, 3.0))  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 3), *[values] * 6), min_size=1, max_size=12))
def test_every_row_lands_on_exactly_one_side(rows: list[tuple[float, ...]]) -> None:
    """Against the rules written row by row in plain Python."""
    frame = pl.DataFrame(
        [
            {"symbol": "A", "timestamp": datetime(2024, 3, 1 + int(row[0])),
             **dict(zip(FEATURES, row[1:], strict=True))}
            for row in rows
        ],
        schema_overrides=dict.fromkeys(FEATURES, pl.Float64),
    )  # fmt: skip
    checked = check_bars(frame)
    seen: set[float] = set()
    expected = []
    for number, (day, *cells) in enumerate(rows, start=1):
        bar = dict(zip(FEATURES, cells, strict=True))
        prices = [bar[name] for name in PRICES]
        whole = all(price is not None and np.isfinite(price) and price > 0 for price in prices)
        sizes = [bar[name] for name in ("volume", "amount") if bar[name] is not None]
        fine = (
            whole
            and bar["low"] <= min(bar["open"], bar["close"])
            and bar["high"] >= max(bar["open"], bar["close"])
            and all(np.isfinite(size) and size >= 0 for size in sizes)
        )
        if fine and day not in seen:
            seen.add(day)
            expected.append(number)
    assert sorted(checked.good["row"]) == expected
    assert sorted([*checked.good["row"], *checked.quarantine["row"]]) == list(
        range(1, len(rows) + 1)
    )
    assert checked.quarantine["rule"].null_count() == 0
    assert checked.quarantine["detail"].null_count() == 0
    assert checked.good["timestamp"].is_sorted()
