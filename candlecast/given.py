"""What decides a backtest: forecasts, scores, or weights, orders and signals of one's own.

Knows frames and their columns; nothing of bars or books.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import polars as pl

from backtest.figures.outside import Series
from backtest.scores.brought import SIZES
from backtest.scores.forecasts import FORECAST_COLUMNS
from backtest.scores.reading import DATE_COLUMNS, usual_columns
from candlecast.forecasts import Forecasts
from candlecast.frames import as_polars
from market.errors import BacktestInputError
from market.importing.columns import usual_name


class Source(NamedTuple):
    """What decides: forecasts, or scores."""

    forecasts: pl.DataFrame | None = None
    scores: pl.DataFrame | None = None
    path_stats: pl.DataFrame | None = None
    paths: pl.LazyFrame | None = None
    provenance: Mapping[str, str] = {}


def told_by_columns(frame: Any) -> Literal["weights", "orders", "signals"] | None:
    """What a long frame of one's own holds, by its columns; None for scores and all else."""
    names = {str(name).strip().lower() for name in getattr(frame, "columns", ())}
    if "score" in names or not names:
        return None
    if "weight" in names:
        return "weights"
    if "entry" in names:
        return "signals"
    return "orders" if names & set(SIZES) and "close" not in names else None


def own_table(frame: Any, what: str) -> pl.DataFrame:
    """A frame of one's own, its columns named as files' are."""
    return usual_columns(as_polars(frame, what))


def own_series(values: Any, what: str) -> Series:
    """A frame, or a pandas series with dates as its index, of values by date."""
    if hasattr(values, "to_frame") and not hasattr(values, "columns"):
        name = what if values.name is None else str(values.name)
        return Series(name, as_polars(values.to_frame("value").reset_index(), what))
    return Series(what, as_polars(values, what))


def decided_by(scores: Any) -> Source:
    """Forecasts, rows of a forecast table, or scores with the columns that `backtest` looks for.

    Raises BacktestInputError for a frame that is none of them.
    """
    if scores is None:
        return Source()
    if isinstance(scores, Forecasts):
        return Source(
            forecasts=scores.steps.collect(),
            path_stats=scores.path_stats.collect(),
            paths=scores.sampled,
            provenance={"model": scores.model},
        )
    frame = as_polars(scores, "scores")
    if set(FORECAST_COLUMNS) <= set(frame.columns):
        return Source(forecasts=frame)
    return Source(scores=_scores(frame))


def _scores(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns by the names that backtest.scores.own.user_scores looks for."""
    if not frame.height:
        raise BacktestInputError("scores: the frame has no rows; expected symbol, date and score")
    found = {usual_name(name): name for name in reversed(frame.columns)}
    renamed: dict[str, str] = {}
    for wanted in ("symbol", "score"):
        if wanted not in frame.columns:
            if wanted not in found:
                raise BacktestInputError(
                    f"scores: no column for {wanted}; found {', '.join(frame.columns)}. Expected "
                    "symbol, date and score, one row per symbol and date; give weights with a "
                    "column per symbol as weights="
                )
            renamed[found[wanted]] = wanted
    if not any(name in frame.columns for name in DATE_COLUMNS):
        if "timestamp" not in found:
            raise BacktestInputError(
                f"scores: no column for the date; found {', '.join(frame.columns)}. Expected "
                "symbol, date and score, one row per symbol and date"
            )
        renamed[found["timestamp"]] = "date"
    scores = frame.rename(renamed)
    if not (scores["score"].dtype.is_numeric() or scores["score"].dtype == pl.Null):
        raise BacktestInputError(
            f"scores: the column score holds {scores['score'].dtype}, such as "
            f"{scores['score'][0]!r}; expected numbers"
        )
    return scores
