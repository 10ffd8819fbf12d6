"""Do wide forecasts move more? Interval widths beside what happened. Knows forecast rows alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

LEAST_FORECASTS = 100
"""Fewer say nothing about their fifths."""
GROUPS = 5
NORMAL_WIDTH = 3.29
"""Standard deviations between the 5 and 95 % quantiles of a normal distribution."""


class WidthGroup(NamedTuple):
    """A fifth of all forecasts, by how wide their last interval is."""

    forecasts: int
    expected: float
    """Mean standard deviation of the log return that the 5-95 % intervals stand for."""
    realised: float
    """Root mean square of the log returns that followed."""
    inside: float
    """Share of them within the 5-95 % interval; 0.9 is right."""


def interval_widths(
    rows: pl.DataFrame, judged: pl.DataFrame, horizon: int
) -> tuple[WidthGroup, ...]:
    """Fifths from narrow to wide; empty where fewer than LEAST_FORECASTS are judged.

    rows: forecast rows. judged: as_of, symbol and `realised`, the return over the horizon.
    """
    last = rows.filter(pl.col("step") == horizon).select(
        "as_of", "symbol", "last_close", "close_q05", "close_q95"
    )
    both = last.join(
        judged.select("as_of", "symbol", "realised"), on=["as_of", "symbol"], how="inner"
    ).filter(pl.col("realised").is_finite() & (pl.col("close_q05") > 0))
    if both.height < LEAST_FORECASTS:
        return ()
    low, high = (
        np.log(both[name].to_numpy() / both["last_close"].to_numpy())
        for name in ("close_q05", "close_q95")
    )
    moved = np.log1p(both["realised"].to_numpy())
    inside = (low <= moved) & (moved <= high)
    order = np.argsort(high - low, kind="stable")
    return tuple(
        WidthGroup(
            len(part),
            float((high - low)[part].mean() / NORMAL_WIDTH),
            float(np.sqrt((moved[part] ** 2).mean())),
            float(inside[part].mean()),
        )
        for part in np.array_split(order, GROUPS)
    )
