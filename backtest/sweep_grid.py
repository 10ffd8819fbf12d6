"""The points of a sweep: a grid of settings or random draws from it, and in which order they run.

Knows settings and numbers; a point is made when it is asked for, so that a million of them are two
arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.fills.costs import Costs
from backtest.fills.rules import Rules
from backtest.settings import BacktestSettings
from backtest.weights.settings import StrategySettings
from market.errors import ConfigError
from market.settings import overlay, place

Int = npt.NDArray[np.int64]
Point = dict[str, Any]

SIGNAL_KEYS = ("score", "momentum", "momentum_skip", "horizon", "rebalance")
STRATEGY_KEYS = ("strategy", *(name for name in StrategySettings.model_fields if name != "name"))
ENGINE_KEYS = ("cash", *Costs.model_fields, *Rules.model_fields)
KEYS = (*SIGNAL_KEYS, *STRATEGY_KEYS, *ENGINE_KEYS)
"""Settings a sweep may vary; with or without the names of their groups."""
READ_BY = (
    "strategy", "name", "plugin", "scenarios", "short", "leverage", "limit", "take_profit", "lag",
)  # fmt: skip
"""Settings on which it depends whether another is read."""


@dataclass(frozen=True)
class Grid(Sequence[Point]):
    """Combinations of values, the last key varying fastest, or some of them."""

    values: Mapping[str, tuple[Any, ...]]
    chosen: Int
    """Numbers of the combinations."""

    def __len__(self) -> int:
        return len(self.chosen)

    @overload
    def __getitem__(self, at: int) -> Point: ...
    @overload
    def __getitem__(self, at: slice) -> Grid: ...
    def __getitem__(self, at: int | slice) -> Point | Grid:
        if isinstance(at, slice):
            return Grid(self.values, self.chosen[at])
        places = np.unravel_index(int(self.chosen[at]), self.sizes)
        return {
            key: values[int(i)]
            for (key, values), i in zip(self.values.items(), places, strict=True)
        }

    def __iter__(self) -> Iterator[Point]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        same = self.values == other.values and len(self) == len(other)
        return same and bool((self.chosen == other.chosen).all())

    __hash__ = None  # type: ignore[assignment]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Values of each key."""
        return tuple(len(values) for values in self.values.values())

    def columns(self) -> pl.DataFrame:
        """One row per point, a column per key."""
        places = np.unravel_index(self.chosen, self.sizes)
        return pl.DataFrame(
            {
                key: pl.Series(key, list(values), strict=False).gather(places[i])
                for i, (key, values) in enumerate(self.values.items())
            }
        )

    def order(self) -> Int:
        """Places in which points run: by fill price, then signal, then strategy, so that what those
        share is made once."""
        names = [key.rpartition(".")[2] for key in self.values]
        ranks = {"fill": 0} | dict.fromkeys(SIGNAL_KEYS, 1) | dict.fromkeys(STRATEGY_KEYS, 2)
        by_weight = sorted(range(len(names)), key=lambda i: (ranks.get(names[i], 3), i))
        places = np.unravel_index(self.chosen, self.sizes)
        sizes = [self.sizes[i] for i in by_weight]
        turned = np.ravel_multi_index([places[i] for i in by_weight], sizes)
        return np.argsort(turned, kind="stable").astype(np.int64)

    def one_by_one(self) -> list[Point]:
        """The first point, with each other value of each key in turn."""
        first = {key: values[0] for key, values in self.values.items()}
        return [first] + [
            first | {key: value} for key, values in self.values.items() for value in values[1:]
        ]

    def readers(self) -> list[Point]:
        """All combinations of the settings on which it depends what else is read."""
        kept = {
            key: values if key.rpartition(".")[2] in READ_BY else values[:1]
            for key, values in self.values.items()
        }
        sizes = [len(values) for values in kept.values()]
        return list(Grid(kept, np.arange(int(np.prod(sizes, dtype=np.int64)))))


def expand(grid: Mapping[str, Sequence[Any]], samples: int = 0, seed: int = 0) -> Grid:
    """Every combination of the grid, or `samples` different random ones in a fixed order."""
    for key, values in grid.items():
        path = place(BacktestSettings, key)
        if path is None or (path[-1] if len(path) > 1 else key) not in KEYS:
            raise ConfigError(f"grid: {key}: a sweep cannot vary it; it can vary {', '.join(KEYS)}")
        if not values:
            raise ConfigError(f"grid: {key}: no value to try")
    given = {key: tuple(values) for key, values in grid.items()}
    total = int(np.prod([len(values) for values in given.values()], dtype=np.int64)) if given else 0
    if total < 2:
        raise ConfigError("grid: a sweep needs at least two combinations")
    if not samples or samples >= total:
        return Grid(given, np.arange(total))
    rng = np.random.default_rng(seed)
    chosen: dict[int, None] = {}
    while len(chosen) < samples:
        chosen[int(rng.integers(total))] = None
    return Grid(given, np.array(list(chosen), np.int64))


@lru_cache(maxsize=256)
def _group_of(key: str) -> str:
    """The group of settings that a key belongs to; nothing for those of no group."""
    path = place(BacktestSettings, key) or (key,)
    return path[0] if path[0] in BacktestSettings.flat_groups else ""


@dataclass(frozen=True)
class Maker:
    """Makes the settings of points from a base, validating each group's combinations once."""

    base: BacktestSettings
    _made: dict[tuple[Any, ...], BacktestSettings] = field(
        default_factory=dict, repr=False, compare=False
    )

    def at(self, point: Point) -> BacktestSettings:
        """The base with a point's settings. Raises ConfigError for what does not go together."""
        by_group: dict[str, Point] = {}
        for key, value in point.items():
            by_group.setdefault(_group_of(key), {})[key] = value
        made = self._part("", by_group.get("", {}), point)
        parts = {
            group: getattr(self._part(group, given, point), group)
            for group, given in by_group.items()
            if group
        }
        return made.model_copy(update=parts)

    def _part(self, group: str, given: Point, point: Point) -> BacktestSettings:
        key = (group, *((name, type(value), repr(value)) for name, value in given.items()))
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = self._validated(given, point)
        return found

    def _validated(self, given: Point, point: Point) -> BacktestSettings:
        shared = self.base.model_dump(include=set(BacktestSettings.model_fields))
        try:
            return BacktestSettings.model_validate(overlay(BacktestSettings, shared, given))
        except ValueError as error:
            words = ", ".join(f"{name} {value}" for name, value in point.items())
            raise ConfigError(f"grid: {error} (at {words})") from error
