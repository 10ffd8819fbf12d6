"""Planted leaks are caught, each beside an honest twin that passes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from cluster.audit.harness import KNOWN_AT, Audit, audit
from cluster.audit.poison import AT_OPEN, World
from forecaster.calibration import MODEL, PastForecasts, fit
from forecaster.calibration.past import POOLED
from market.synthetic import SimulatorParams, simulate_market

HORIZON = 5


@pytest.fixture(scope="module")
def world() -> World:
    bars = simulate_market(SimulatorParams(seed=4, n_symbols=4, n_sessions=160)).sort(
        "symbol", "timestamp"
    )
    closes = (pl.col("timestamp") + pl.duration(hours=21)).dt.replace_time_zone("UTC")
    bars = bars.with_columns(closes.cast(pl.Datetime("us", "UTC")).alias("close_utc"))
    known_split = pl.DataFrame(
        {"symbol": [bars["symbol"][0]], "known_at": [bars["close_utc"][20]], "factor": [0.5]},
        schema={"symbol": pl.String, "known_at": pl.Datetime("us", "UTC"), "factor": pl.Float64},
    )
    return World(bars, known_split)


@pytest.fixture(scope="module")
def moment(world: World) -> datetime:
    found = world.bars["close_utc"].unique().sort()[120]
    assert isinstance(found, datetime)
    return found.astimezone(UTC)


def rolling(world: World, value: pl.Expr) -> pl.DataFrame:
    """One number per symbol and bar, known at the bar's close."""
    return world.bars.select(
        pl.col("close_utc").alias(KNOWN_AT), "symbol", value.over("symbol").alias("value")
    )


def normalised(bars_ahead: int) -> Callable[[World], dict[str, pl.DataFrame]]:
    """Instance normalisation of the close over the 20 bars up to now, and some ahead."""
    close = pl.col("close").shift(-bars_ahead)
    mean, std = close.rolling_mean(20 + bars_ahead), close.rolling_std(20 + bars_ahead)
    return lambda world: {"windows": rolling(world, (pl.col("close") - mean) / std)}


def averaged(centred: bool) -> Callable[[World], dict[str, pl.DataFrame]]:
    return lambda world: {"scores": rolling(world, pl.col("close").rolling_mean(5, center=centred))}


def ranked(centred: bool) -> Callable[[World], dict[str, pl.DataFrame]]:
    """The place of a return among those around it: a probability integral transform."""
    change = pl.col("close").pct_change()
    place = (change - change.rolling_mean(21, center=centred)) / change.rolling_std(
        21, center=centred
    )
    return lambda world: {"scores": rolling(world, place)}


def filled(same_bar: bool) -> Callable[[World], dict[str, pl.DataFrame]]:
    """Buys at the open where the close rose: that of this bar, or of the one before."""

    def pipeline(world: World) -> dict[str, pl.DataFrame]:
        rose = (pl.col("close") > pl.col("close").shift(1)).over("symbol")
        decided = rose if same_bar else rose.shift(1).over("symbol")
        opened = pl.col("close_utc").shift(1).over("symbol") + AT_OPEN
        orders = world.bars.select(
            opened.alias(KNOWN_AT), "symbol", pl.col("open").alias("price"), decided.alias("buy")
        )
        return {"orders": orders.drop_nulls()}

    return pipeline


def adjusted(known_only: bool) -> Callable[[World], dict[str, pl.DataFrame]]:
    """Prices divided by the splits that follow them: all there are, or those known at the bar."""

    def pipeline(world: World) -> dict[str, pl.DataFrame]:
        factors = world.bars.join(world.actions, on="symbol", how="left").with_columns(
            pl.when(
                pl.col("known_at").is_not_null()
                & ((pl.col("known_at") <= pl.col("close_utc")) if known_only else pl.lit(True))
            )
            .then(pl.col("factor"))
            .otherwise(1.0)
            .alias("applied")
        )
        product = factors.group_by("symbol", "close_utc", maintain_order=True).agg(
            pl.col("close").first() * pl.col("applied").product()
        )
        return {"windows": product.rename({"close_utc": KNOWN_AT}).sort(KNOWN_AT, "symbol")}

    return pipeline


def calibrated(finished_only: bool) -> Callable[[World], dict[str, pl.DataFrame]]:
    """A fit on past windows whose horizon had ended, or on all that had begun."""

    def pipeline(world: World) -> dict[str, pl.DataFrame]:
        closes = world.bars.pivot(on="symbol", index="close_utc", values="close").sort("close_utc")
        time = closes["close_utc"].dt.replace_time_zone(None).to_numpy()
        now = np.searchsorted(time, np.datetime64("2014-06-25T00:00", "us"))
        known_names = [name for name in closes.columns if name.startswith("SIM")]
        log = np.log(closes.select(known_names).to_numpy().astype(np.float64))
        rows, symbols = np.arange(30, now), range(log.shape[1])
        rng = np.random.default_rng(0)
        n = len(rows) * len(symbols)
        steps = rows[:, None] + np.arange(1, HORIZON + 1)
        inside = steps < len(log)
        steps = np.minimum(steps, len(log) - 1)
        actual = np.where(inside[..., None], log[steps] - log[rows][:, None], np.nan)
        past = PastForecasts(
            symbols=tuple(f"S{s}" for _ in rows for s in symbols),
            as_of_N=np.repeat(time[rows], len(symbols)),
            members={name: rng.normal(0, 0.02, (n, 8, HORIZON)) for name in (MODEL, *POOLED)},
            sigma_N=np.full(n, 0.02),
            actual_NH=np.moveaxis(actual, 2, 1).reshape(n, HORIZON),
            ended_NH=np.repeat(
                np.where(inside, time[steps], np.datetime64("NaT", "us")), len(symbols), axis=0
            ),
        )
        last = time[now - 1]
        known = past.known_by(last) if finished_only else past.rows(past.as_of_N < last)
        words = str(fit(known))
        moment = (
            pl.Series(np.array([last])).dt.replace_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
        )
        return {"calibration": pl.DataFrame({KNOWN_AT: moment, "fit": [words]})}

    return pipeline


@pytest.mark.parametrize(
    ("leaking", "honest", "stage"),
    [
        (normalised(5), normalised(0), "windows"),
        (filled(True), filled(False), "orders"),
        (averaged(True), averaged(False), "scores"),
        (calibrated(False), calibrated(True), "calibration"),
        (ranked(True), ranked(False), "scores"),
        (adjusted(False), adjusted(True), "windows"),
    ],
    ids=["normalised with the horizon", "same-bar fill", "centred average",
         "unfinished horizons", "centred PIT", "future split factors"],
)  # fmt: skip
def test_a_planted_leak_is_caught_and_its_honest_twin_passes(
    leaking: Callable[[World], dict[str, pl.DataFrame]],
    honest: Callable[[World], dict[str, pl.DataFrame]],
    stage: str,
    world: World,
    moment: datetime,
) -> None:
    clean: Audit = audit(honest, world, moment)
    assert clean.leaks == ()
    assert clean.stages[stage] > 0, "something was compared"
    found = audit(leaking, world, moment)
    assert {leak.stage for leak in found.leaks} == {stage}
    first = str(found.leaks[0])
    assert stage in first
    assert f"{moment:%Y-%m}" in first or "2014-" in first, "it says where"


def test_the_first_stage_that_changed_is_named(world: World, moment: datetime) -> None:
    def pipeline(world: World) -> dict[str, pl.DataFrame]:
        return averaged(False)(world) | {"equity": averaged(True)(world)["scores"]}

    assert {leak.stage for leak in audit(pipeline, world, moment).leaks} == {"equity"}
