"""Strategies of one's own, on a view that ends at the decision's close. Knows prices and scores.

A strategy is a function: `def decide(view: View) -> Mapping[str, float]`, target weights by symbol,
called once per decision in order of time. Or, marked by `on_history`, a function of all bars that
returns target weights in the form of `backtest.scores.brought.weight_entries`: faster to write with
whole columns, and easier to get wrong; so both kinds are audited.

It is named in the settings by "module:function", or by the name of an entry point in the group
candlecast.strategies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.fills.inputs import Targets
from backtest.fills.prices import PriceTable
from backtest.fills.targets import one_set, starts
from backtest.scores.decisions import Signal
from market.errors import BacktestInputError, ConfigError
from market.plugins import one_line, plugins

Float = npt.NDArray[np.float64]
GROUP = "candlecast.strategies"
AUDITED = 4
"""Decisions that an audit makes again."""


@dataclass(frozen=True)
class View:
    """All that is known at one decision's close."""

    as_of: np.datetime64
    """The close, in UTC."""
    session: np.datetime64
    symbols: tuple[str, ...]
    scores: Mapping[str, float]
    """Of the names that have one; empty where scores are not what is traded."""
    weights: Mapping[str, float]
    """What the decision before asked for."""
    _read: Callable[[str, int], Float]

    def last(self, field: str, n: int) -> Float:
        """The last n bars of open, high, low, close or volume, shape (n, symbols), oldest first.

        NaN where a name has no bar; fewer rows where there are fewer. A copy.
        """
        return self._read(field, n)

    def closes(self, n: int) -> Float:
        """The last n closes known, splits and dividends reinvested; as `last`."""
        return self._read("known", n)


Strategy = Callable[[Any], Any]


def on_history(function: Strategy) -> Strategy:
    """Mark a strategy that takes a frame of all bars and returns a frame of target weights."""
    function.__dict__["on_history"] = True
    return function


def strategy_named(name: str) -> Strategy:
    """The function behind "module:function" or the name of an entry point. Raises ConfigError."""
    if ":" in name:
        module, _, function = name.partition(":")
        try:
            found = getattr(import_module(module), function)
        except Exception as error:  # whatever other people's code raises
            raise ConfigError(f"strategy.plugin: {name}: {one_line(error)}") from error
    else:
        offered = plugins(GROUP)
        if name not in offered:
            known = ", ".join(offered) or "none is installed"
            raise ConfigError(
                f"strategy.plugin: {name}: no entry point of that name in {GROUP} ({known}); "
                "write module:function for one that is not installed"
            )
        found = offered[name].load()
    if not callable(found):
        raise ConfigError(f"strategy.plugin: {name}: is not a function")
    return found  # type: ignore[no-any-return]


def plugin_targets(made: Signal, function: Strategy) -> Targets:
    """Decisions of a function of views, audited: some are made again with all later bars spoiled.

    Raises BacktestInputError for weights that are not numbers, for unknown symbols, and for a
    strategy whose decisions change with what comes after them.
    """
    decided = _decide(made, made.prices, function, len(made.row_D))
    chosen = np.unique(np.linspace(0, len(made.row_D) - 1, AUDITED).astype(int))
    for d in chosen:
        again = _decide(made, _spoiled(made.prices, int(made.row_D[d])), function, int(d) + 1)
        _same(decided[: d + 1], again, made)
    sizes = np.array([len(weights) for weights in decided], np.int64)
    columns = [made.prices.column(symbol) for weights in decided for symbol in weights]
    weight_M = np.array([w for weights in decided for w in weights.values()], np.float64)
    return one_set(made.row_D, starts(sizes), np.array(columns, np.int64), weight_M)


def history_weights(bars: pl.DataFrame, function: Strategy) -> pl.DataFrame:
    """Weights of a function of all bars, audited: made again from the bars up to some dates, the
    weights up to there must be the same. Raises BacktestInputError where they are not."""
    whole = _frame(function(bars))
    ends = bars["session"].unique().sort()
    for at in np.unique(np.linspace(len(ends) // 2, len(ends) - 1, AUDITED).astype(int)):
        end = ends[int(at)]
        again = _frame(function(bars.filter(pl.col("session") <= end)))
        when = next(name for name in ("as_of", "date", "session") if name in whole.columns)
        upto = pl.col(when).cast(pl.Date) <= end
        early, late = (frame.filter(upto).sort(when, "symbol") for frame in (whole, again))
        if not early.select(when, "symbol", "weight").equals(late.select(when, "symbol", "weight")):
            raise BacktestInputError(
                f"strategy {getattr(function, '__name__', '?')} looks ahead: its weights up to "
                f"{end} change when the bars after it are taken away"
            )
    return whole


def _frame(made: Any) -> pl.DataFrame:
    named = isinstance(made, pl.DataFrame) and {"symbol", "weight"} <= set(made.columns)
    if not named or not {"as_of", "date", "session"} & set(made.columns):
        raise BacktestInputError(
            "a strategy on all bars returns a frame of symbol, weight and one of as_of, date, "
            "session"
        )
    return made  # type: ignore[no-any-return]


def _decide(
    made: Signal, prices: PriceTable, function: Strategy, count: int
) -> list[dict[str, float]]:
    score_DN = made.matrix("score")
    known = set(prices.symbols)
    decided: list[dict[str, float]] = []
    for d in range(count):
        row = int(made.row_D[d])
        scored = np.flatnonzero(np.isfinite(score_DN[d]))
        view = View(
            as_of=prices.close_utc_T[row],
            session=prices.sessions_T[row],
            symbols=prices.symbols,
            scores={prices.symbols[c]: float(score_DN[d, c]) for c in scored},
            weights=dict(decided[-1]) if decided else {},
            _read=_reader(prices, row),
        )
        weights = {str(name): float(weight) for name, weight in dict(function(view)).items()}
        for name, weight in weights.items():
            if name not in known or not np.isfinite(weight):
                raise BacktestInputError(
                    f"{name}: the strategy wants {weight} of it on {prices.sessions_T[row]} (rule: "
                    "known symbols, weights that are numbers)"
                )
        decided.append(weights)
    return decided


def _reader(prices: PriceTable, row: int) -> Callable[[str, int], Float]:
    def read(field: str, n: int) -> Float:
        fields = {
            "open": prices.open_TN, "high": prices.high_TN, "low": prices.low_TN,
            "close": prices.close_TN, "volume": prices.volume_TN, "known": prices.total_marks,
        }  # fmt: skip
        if field not in fields:
            raise BacktestInputError(f"a view has {', '.join(fields)}, no {field}")
        return fields[field][max(row + 1 - n, 0) : row + 1].copy()

    return read


def _spoiled(prices: PriceTable, row: int) -> PriceTable:
    """The table with every number after `row` replaced."""

    def spoil(value_TN: Float) -> Float:
        out = value_TN.copy()
        out[row + 1 :] = np.where(np.isfinite(out[row + 1 :]), 1e9 - out[row + 1 :], 1e9)
        return out

    return replace(
        prices,
        open_TN=spoil(prices.open_TN),
        high_TN=spoil(prices.high_TN),
        low_TN=spoil(prices.low_TN),
        close_TN=spoil(prices.close_TN),
        volume_TN=spoil(prices.volume_TN),
        mark_TN=spoil(prices.mark_TN),
    )


def _same(decided: list[dict[str, float]], again: list[dict[str, float]], made: Signal) -> None:
    for d, (before, after) in enumerate(zip(decided, again, strict=True)):
        if before != after:
            session = made.prices.sessions_T[made.row_D[d]]
            raise BacktestInputError(
                f"strategy looks ahead: its weights of {session} change when what comes after is "
                "changed, or it does not decide the same twice"
            )
