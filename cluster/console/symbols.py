"""One symbol at one date: its bars, what every model said, and what happened since.

Knows nights and the history; nothing of HTTP or pages. Bars after the date are read apart from
those before it, and only to be drawn beside the forecast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import polars as pl

from cluster.console.nights import Night, Nights
from cluster.console.universe import notes
from market.errors import AsOfError, ForecastInputError, StoreError
from market.lake.history import MarketHistory
from market.table.schema import Published

_LEAST_PAST, _MOST_PAST = 60, 160
PRICES = ("timestamp", "open", "high", "low", "close")
_STATS = ("return_mean", "return_std", "expected_drawdown", "path_volatility", "floored")
_EMPTY = pl.DataFrame(
    schema={"timestamp": pl.Datetime("us"), **dict.fromkeys(PRICES[1:], pl.Float64())}
)


@dataclass(frozen=True)
class SymbolView:
    """Everything the page of a symbol shows."""

    symbol: str
    night: Night
    steps: pl.DataFrame
    """The chosen model's rows, sorted by step."""
    past: pl.DataFrame
    after: pl.DataFrame
    stats: dict[str, Any] | None
    """Statistics of whole paths."""
    models: list[dict[str, Any]]
    """Every model of the table that forecast the symbol on this date, the chosen one first."""
    notes: list[str]

    @property
    def outcome(self) -> float | None:
        """Return from the last close to the newest bar within the horizon; None without one."""
        if not self.after.height:
            return None
        return float(self.after["close"][-1] / self.steps["last_close"][0] - 1)


def look(nights: Nights, like: Published, day: date, symbol: str) -> SymbolView:
    """A symbol as one model saw it at a date, the others beside it.

    Raises ForecastInputError where it has no forecast there.
    """
    night = nights.at(like, day)
    steps = night.steps.filter(pl.col("symbol") == symbol)
    if not steps.height:
        raise ForecastInputError(f"{symbol}: no forecast of {like.model} from {day}")
    past, after = bars_around(nights, night, steps, symbol)
    stats = night.path_stats.filter(pl.col("symbol") == symbol)
    models = [told(like.model, steps, stats)]
    for other in nights.models_at(like):
        if other.model_id == like.model_id:
            continue
        try:
            there = nights.at(other, day)
        except StoreError:
            continue
        own = there.steps.filter(pl.col("symbol") == symbol)
        if own.height:
            its = there.path_stats.filter(pl.col("symbol") == symbol)
            models.append(told(other.model, own, its))
    return SymbolView(
        symbol, night, steps, past, after, stats.row(0, named=True) if stats.height else None,
        models, notes(int(steps["flags"][0])),
    )  # fmt: skip


def told(name: str, steps: pl.DataFrame, stats: pl.DataFrame) -> dict[str, Any]:
    """One model's forecast as returns from the last close, by step, and its last step's figures."""
    change = {
        key: (steps[column] / steps["last_close"] - 1).to_list()
        for key, column in (
            ("mean", "close_mean"), ("low", "close_q10"), ("median", "close_q50"),
            ("high", "close_q90"),
        )
    }  # fmt: skip
    row = stats.row(0, named=True) if stats.height else {}
    return {
        "name": name,
        "published": steps["published"][0],
        "p_up": steps["p_up"][-1],
        "volatility": row.get("path_volatility"),
        "drawdown": row.get("expected_drawdown"),
        **change,
    }


def bars_around(
    nights: Nights, night: Night, steps: pl.DataFrame, symbol: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars known at the night, and those of its horizon that have happened since."""
    try:
        history = nights.history()
    except StoreError:
        return _EMPTY, _EMPTY
    return around(history, night.as_of, night.key.as_of_date, symbol, steps.height)


def around(
    history: MarketHistory, as_of: Any, day: date, symbol: str, horizon: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The last bars up to as_of, and at most `horizon` after it."""
    wanted = min(_MOST_PAST, max(_LEAST_PAST, 2 * horizon))
    start = day - timedelta(days=2 * wanted + 10) if history.spec.daily else None
    bars = (
        history.scan(symbols=[symbol], start=start)
        .select("close_utc", *PRICES)
        .sort("close_utc")
        .collect()
    )
    known = bars.filter(pl.col("close_utc") <= as_of).tail(wanted)
    after = bars.filter(pl.col("close_utc") > as_of).head(horizon)
    return known.select(PRICES), after.select(PRICES)


def day_of(text: str | None, otherwise: date) -> date:
    """A date as written in an address. Raises AsOfError for anything else."""
    if not text:
        return otherwise
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise AsOfError(f"as_of {text[:40]!r} is not a date; write 2016-06-30") from None


def as_json(view: SymbolView, model: Mapping[str, Any]) -> dict[str, Any]:
    """The forecast for programs: prices by step, path statistics, models beside it."""
    steps = view.steps.drop("run_id", "as_of_date", "symbol", "freq", "venue", "n_paths",
                            "last_close", "price_basis", "flags", "published")  # fmt: skip
    first = view.steps.row(0, named=True)
    return {
        "symbol": view.symbol,
        **model,
        "as_of": view.night.as_of,
        "run_id": view.night.run_id,
        "n_paths": first["n_paths"],
        "last_close": first["last_close"],
        "price_basis": first["price_basis"],
        "published": first["published"],
        "flags": view.notes,
        "steps": steps.drop("as_of").to_dicts(),
        "path_stats": {
            key: value for key, value in (view.stats or {}).items() if key in _STATS
        },
        "happened": view.after.to_dicts(),
    }  # fmt: skip
