"""What a source's own columns tell of splits and dividends. Knows one source's rows at a time."""

from __future__ import annotations

import numpy as np
import polars as pl

from market.actions.table import ACTION_SCHEMA, no_actions

_APPLIED = 0.35
"""How far, in log price, the step at a split may be from none for the prices to hold it already."""
_NOISE = 5e-4
"""Steps of adjusted close over close below this are rounding."""


def actions_of_source(
    rows: pl.DataFrame,
    splits: pl.Series | None,
    dividends: pl.Series | None,
    adjusted_close: pl.Series | None,
    price_basis: str | None,
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Actions in ACTION_SCHEMA from a source's columns, and what to say about them.

    rows: symbol, timestamp and prices, row by row beside the columns. A split that the prices
    already contain (Yahoo divides old prices by later splits) is not kept: applied again it would
    do harm. Dividends count where the prices are known to be without them: an adjusted close
    beside the close shows it, or price_basis "raw" says it.
    """
    if price_basis == "adjusted" or (splits is None and dividends is None
                                     and adjusted_close is None):  # fmt: skip
        return no_actions(), ()
    empty = pl.Series([None], dtype=pl.Float64).new_from_index(0, rows.height)
    bars = rows.select("symbol", "timestamp", "open", "close").with_columns(
        (empty if splits is None else splits).fill_nan(None).alias("split"),
        (empty if dividends is None else dividends).fill_nan(None).alias("dividend"),
        (empty if adjusted_close is None else adjusted_close).fill_nan(None).alias("adjusted"),
    )
    bars = bars.drop_nulls(["symbol", "timestamp", "open", "close"]).sort("symbol", "timestamp")
    same = pl.col("symbol") == pl.col("symbol").shift()
    last = pl.col("close").shift()
    bars = bars.with_columns(
        before=pl.when(same).then(last),
        factor=pl.when(same).then(
            (pl.col("adjusted") / pl.col("close")).shift() / (pl.col("adjusted") / pl.col("close"))
        ),
    )
    notes: list[str] = []
    parts = [_splits(bars, notes)]
    raw = price_basis == "raw"
    if adjusted_close is not None:
        parts.append(_from_adjusted(bars))
        if not parts[-1].height and dividends is not None and raw:
            parts[-1] = _dividends(bars)
    elif dividends is not None:
        found = _dividends(bars)
        if raw:
            parts.append(found)
        elif found.height:
            notes.append(
                f"{found.height} dividends are not kept: nothing shows whether the prices already "
                "hold them; say --price-basis raw where they do not"
            )
    actions = pl.concat(parts)
    if actions.height:
        merged = actions.group_by("symbol", "ex_date").agg(
            pl.col("split").product(), pl.col("dividend").sum(), pl.col("announced").max()
        )
        actions = merged.sort("symbol", "ex_date").select(ACTION_SCHEMA.names())
    return actions.cast(ACTION_SCHEMA), tuple(notes)


def _splits(bars: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    told = bars.filter(
        pl.col("split").is_not_null() & (pl.col("split") > 0) & (pl.col("split") != 1)
    )
    step = (pl.col("before") / pl.col("open")).log()
    seen = told.with_columns(
        held=step.is_null() | ((step - pl.col("split").log()).abs() > step.abs())
    )
    applied = seen.filter("held")
    if applied.height:
        shown = ", ".join(
            f"{row['symbol']} {row['timestamp']:%Y-%m-%d}"
            for row in applied.tail(3).iter_rows(named=True)
        )
        notes.append(
            f"{applied.height} splits are not kept, the prices hold them already (no such step): "
            f"{shown}"
        )
    return _table(seen.filter(~pl.col("held")), pl.col("split"), pl.lit(0.0))


def _dividends(bars: pl.DataFrame) -> pl.DataFrame:
    return _table(bars.filter(pl.col("dividend") > 0), pl.lit(1.0), pl.col("dividend"))


def _from_adjusted(bars: pl.DataFrame) -> pl.DataFrame:
    """Steps of adjusted close over close: a dividend of close before × (1 − step), or a split where
    the raw price steps with it."""
    noise = pl.max_horizontal(pl.lit(_NOISE), 0.011 / pl.min_horizontal("close", "before"))
    told = pl.col("split").is_not_null() & (pl.col("split") > 0) & (pl.col("split") != 1)
    # adjusted / close before over the same now: below 1 where something was taken off.
    steps = bars.filter(((pl.col("factor") - 1).abs() > noise) & ~told)
    raw = (pl.col("open") / pl.col("before")).log()
    is_split = (pl.col("factor").log().abs() >= float(np.log(1 / (1 - _APPLIED)))) & (
        (raw - pl.col("factor").log()).abs() < 0.5 * pl.col("factor").log().abs()
    )
    splits = steps.filter(is_split)
    paid = steps.filter(~is_split & (pl.col("factor") < 1))
    return pl.concat(
        [
            _table(splits, (1 / pl.col("factor")).round(6), pl.lit(0.0)),
            _table(paid, pl.lit(1.0), (pl.col("before") * (1 - pl.col("factor"))).round(6)),
        ]
    )


def _table(rows: pl.DataFrame, split: pl.Expr, dividend: pl.Expr) -> pl.DataFrame:
    return rows.select(
        "symbol",
        pl.col("timestamp").dt.date().alias("ex_date"),
        split.cast(pl.Float64).alias("split"),
        dividend.cast(pl.Float64).alias("dividend"),
        pl.lit(None, pl.Date).alias("announced"),
    )
