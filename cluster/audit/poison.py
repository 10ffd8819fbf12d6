"""Worlds that differ only after a moment. Knows bars and corporate actions as frames.

What a poison leaves alone is exactly what was known: every bar that closed by the moment, every
action dated by then and, for `within_the_bar`, the open of the bar that was trading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl

AT_OPEN = timedelta(microseconds=1)
"""What is known at a bar's open is known this long after the close before."""
PRICES = ("open", "high", "low", "close")
ACTIONS_SCHEMA = pl.Schema(
    {"symbol": pl.String(), "known_at": pl.Datetime("us", "UTC"), "factor": pl.Float64()}
)


@dataclass(frozen=True)
class World:
    """What a pipeline may read."""

    bars: pl.DataFrame
    """Rows of the lake."""
    actions: pl.DataFrame
    """symbol, known_at, factor: a split of 10 for 1 has factor 0.1."""


Poison = Callable[[World, datetime], World]


def no_actions() -> pl.DataFrame:
    """An empty frame of corporate actions."""
    return pl.DataFrame(schema=ACTIONS_SCHEMA)


def other_values(world: World, moment: datetime) -> World:
    """Later prices go another way, volumes too."""
    return _scaled(world, moment, spread=0.05)


def extreme_values(world: World, moment: datetime) -> World:
    """Later prices jump by orders of magnitude."""
    return _scaled(world, moment, spread=3.0)


def missing_values(world: World, moment: datetime) -> World:
    """Four of ten later rows are gone."""
    keep = np.random.default_rng(7).random(world.bars.height) > 0.4
    later = world.bars["close_utc"] > moment
    return replace(world, bars=world.bars.filter(~later | pl.Series(keep)))


def late_actions(world: World, moment: datetime) -> World:
    """Every symbol splits 10 for 1 after the moment."""
    later = pl.col("close_utc") > moment
    tenth = [pl.when(later).then(pl.col(c) / 10).otherwise(pl.col(c)).alias(c) for c in PRICES]
    symbols = world.bars["symbol"].unique().sort()
    dated = pl.DataFrame({"symbol": symbols}).with_columns(
        known_at=pl.lit(moment + timedelta(hours=1)).cast(pl.Datetime("us", "UTC")),
        factor=pl.lit(0.1),
    )
    return World(world.bars.with_columns(tenth), pl.concat([world.actions, dated]))


def other_symbols(world: World, moment: datetime) -> World:
    """Half of the symbols vanish after the moment, and a stranger arrives."""
    symbols = world.bars["symbol"].unique().sort().to_list()
    later = pl.col("close_utc") > moment
    kept = world.bars.filter(~(later & pl.col("symbol").is_in(symbols[::2])))
    stranger = world.bars.filter(later & (pl.col("symbol") == symbols[0])).with_columns(
        symbol=pl.lit("STRANGER")
    )
    return replace(world, bars=pl.concat([kept, stranger]))


def within_the_bar(world: World, moment: datetime) -> World:
    """The bar that was trading keeps its open and turns the other way, five times as far; later
    bars go another way too."""
    poisoned = _scaled(world, moment, spread=0.05).bars
    first = world.bars.filter(pl.col("close_utc") > moment)["close_utc"].min()
    trading = pl.col("close_utc") == first
    opened, closed = world.bars["open"], world.bars["close"]
    turned = opened * (opened / closed) ** 5 * pl.col("close") / closed
    bars = poisoned.with_columns(
        pl.when(trading).then(opened).otherwise(pl.col("open")).alias("open"),
        pl.when(trading).then(turned).otherwise(pl.col("close")).alias("close"),
    ).with_columns(
        pl.max_horizontal(*PRICES).alias("high"), pl.min_horizontal(*PRICES).alias("low")
    )
    return replace(world, bars=bars)


POISONS: dict[str, Poison] = {
    "other values": other_values,
    "missing values": missing_values,
    "extreme values": extreme_values,
    "late actions": late_actions,
    "other symbols": other_symbols,
    "within the bar": within_the_bar,
}


def _scaled(world: World, moment: datetime, spread: float) -> World:
    rng = np.random.default_rng(11)
    factor = pl.Series("factor", np.exp(spread * rng.standard_normal(world.bars.height)))
    later = pl.col("close_utc") > moment
    changed = [
        pl.when(later).then(pl.col(c) * factor).otherwise(pl.col(c)).alias(c)
        for c in (*PRICES, "volume", "amount")
    ]
    return replace(world, bars=world.bars.with_columns(changed))
