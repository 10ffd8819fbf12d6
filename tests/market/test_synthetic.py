"""The simulated market: rules, determinism, and the habits of real markets."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from market.errors import ConfigError
from market.synthetic import SimulatorParams, simulate_market

PARAMS = SimulatorParams(seed=11, n_symbols=24, n_sessions=900)


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return simulate_market(PARAMS)


@pytest.fixture(scope="module")
def returns_TN(bars: pl.DataFrame) -> npt.NDArray[np.float64]:
    """Log returns of the symbols that trade on every session."""
    closes = bars.pivot(on="symbol", index="timestamp", values="close").sort("timestamp")
    returns = np.diff(np.log(closes.drop("timestamp").to_numpy()), axis=0)
    return returns[:, np.isfinite(returns).all(axis=0)]


def autocorrelation(x_TN: npt.NDArray[np.float64], lag: int) -> float:
    """Mean over symbols."""
    z = (x_TN - x_TN.mean(axis=0)) / x_TN.std(axis=0)
    return float((z[:-lag] * z[lag:]).mean())


def test_bars_keep_the_rules(bars: pl.DataFrame) -> None:
    prices = [pl.col(name) for name in ("open", "high", "low", "close")]
    assert bars.filter(pl.any_horizontal(*(p <= pl.col("low") - 1e-12 for p in prices))).is_empty()
    assert bars.filter(pl.any_horizontal(*(p >= pl.col("high") + 1e-12 for p in prices))).is_empty()
    assert bars.filter((pl.col("low") <= 0) | (pl.col("volume") < 0)).is_empty()
    assert bars.null_count().sum_horizontal().item() == 0
    assert not bars.select("symbol", "timestamp").is_duplicated().any()
    assert bars.equals(bars.sort("symbol", "timestamp"))
    ticks = bars["close"] / PARAMS.tick
    assert (ticks - ticks.round()).abs().max() < 1e-6


def test_timestamps_are_midnights_of_the_venues_sessions(bars: pl.DataFrame) -> None:
    assert bars.schema["timestamp"] == pl.Datetime("us")
    assert bars["timestamp"].dt.hour().max() == 0
    days = set(bars["timestamp"].dt.date())
    assert len(days) == PARAMS.n_sessions
    assert date(2014, 7, 4) not in days
    assert date(2014, 7, 3) in days


def test_one_symbol_lists_late_and_one_is_delisted(bars: pl.DataFrame) -> None:
    spans = bars.group_by("symbol").agg(
        pl.col("timestamp").min().alias("first"), pl.col("timestamp").max().alias("last")
    )
    first, last = bars["timestamp"].min(), bars["timestamp"].max()
    assert spans.filter(pl.col("first") > first)["symbol"].to_list() == ["SIM000"]
    assert spans.filter(pl.col("last") < last)["symbol"].to_list() == ["SIM001"]


def test_the_seed_decides_everything(bars: pl.DataFrame) -> None:
    assert_frame_equal(bars, simulate_market(PARAMS))
    other = simulate_market(replace(PARAMS, seed=12))
    assert not np.allclose(other["close"].head(50), bars["close"].head(50))


def test_a_longer_simulation_begins_with_the_shorter(bars: pl.DataFrame) -> None:
    short = simulate_market(replace(PARAMS, n_sessions=720))
    assert_frame_equal(short, bars.filter(pl.col("timestamp") <= short["timestamp"].max()))


def test_more_symbols_leave_the_others_alone(bars: pl.DataFrame) -> None:
    few = simulate_market(replace(PARAMS, n_symbols=5))
    assert_frame_equal(few, bars.filter(pl.col("symbol").is_in(few["symbol"].unique().implode())))


def test_returns_have_fat_tails(returns_TN: npt.NDArray[np.float64]) -> None:
    z = (returns_TN - returns_TN.mean(axis=0)) / returns_TN.std(axis=0)
    assert np.median((z**4).mean(axis=0)) > 4.0


def test_volatility_clusters_and_direction_does_not(
    returns_TN: npt.NDArray[np.float64],
) -> None:
    assert autocorrelation(np.abs(returns_TN), 1) > 0.08
    assert autocorrelation(np.abs(returns_TN), 5) > 0.05
    assert abs(autocorrelation(returns_TN, 1)) < 0.05
    assert abs(autocorrelation(returns_TN, 5)) < 0.05


def test_symbols_move_together(returns_TN: npt.NDArray[np.float64]) -> None:
    correlation = np.corrcoef(returns_TN.T)
    pairs = correlation[np.triu_indices_from(correlation, k=1)]
    assert 0.15 < pairs.mean() < 0.6


def test_typical_volatility_is_the_one_asked_for(returns_TN: npt.NDArray[np.float64]) -> None:
    yearly = np.median(returns_TN.std(axis=0)) * np.sqrt(252)
    assert 0.6 * PARAMS.annual_volatility < yearly < 1.6 * PARAMS.annual_volatility


def test_volume_follows_volatility(bars: pl.DataFrame) -> None:
    spread = (pl.col("high") / pl.col("low")).log()
    per_symbol = bars.group_by("symbol").agg(pl.corr(spread, pl.col("volume").log()).alias("r"))
    assert per_symbol["r"].min() > 0.2


def test_part_of_the_variance_falls_overnight(bars: pl.DataFrame) -> None:
    before = pl.col("close").shift(1).over("symbol")
    gaps = bars.select(
        gap=(pl.col("open") / before).log(), inside=(pl.col("close") / pl.col("open")).log()
    ).drop_nulls()
    share = gaps["gap"].var() / (gaps["gap"].var() + gaps["inside"].var())  # type: ignore[operator]
    assert 0.15 < share < 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"n_symbols": 0},
        {"n_sessions": 0},
        {"tail_df": 2.0},
        {"overnight_share": 1.0},
        {"n_symbols": 2},
        {"tick": 0.0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        replace(PARAMS, **wrong)  # type: ignore[arg-type]


def test_an_unknown_venue_is_named() -> None:
    with pytest.raises(ConfigError, match="NOWHERE"):
        simulate_market(replace(PARAMS, venue="NOWHERE"))


def test_around_the_clock_venue_trades_every_day() -> None:
    bars = simulate_market(
        SimulatorParams(seed=1, n_symbols=3, n_sessions=30, venue="24/7", late_listings=0)
    )
    assert bars["timestamp"].dt.date().n_unique() == 30
    assert bars["timestamp"].dt.weekday().n_unique() == 7
