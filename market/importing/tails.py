"""Whether what is appended goes on in the store's step. Knows the end of a store's series.

A night brings a bar or two per symbol, which show no step of their own: together with the bars
before them they do.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from market.errors import SourceError
from market.importing.steps import words
from market.lake.history import MarketHistory

_TAIL = 4
"""So many coarser steps in a row, the last ones of a series, are another frequency."""


def require_store_step(rows: pl.DataFrame, held: MarketHistory) -> None:
    """Raise SourceError where rows and the stored bars before them end in steps of another length.

    rows: source, symbol, timestamp of one source.
    """
    labels = rows.select("symbol", "timestamp").drop_nulls()
    few = labels.group_by("symbol").len().filter(pl.col("len") <= _TAIL)["symbol"]
    step = int(held.spec.step.astype(np.int64))
    if not len(few) or not held.contents.bars:
        return
    labels = labels.filter(pl.col("symbol").is_in(few.implode()))
    first, last = labels["timestamp"].min(), labels["timestamp"].max()
    assert isinstance(first, datetime)
    begin = first - timedelta(days=60)
    stored = (
        held.scan(symbols=few.to_list(), start=begin.date())
        .select("symbol", "timestamp")
        .filter(pl.col("timestamp") < first)
        .collect()
    )
    day = 86_400_000_000
    coarse = 5 * day if held.spec.daily else step + 1
    gap = pl.col("timestamp").diff().over("symbol").dt.total_microseconds()
    gaps = (
        pl.concat([stored, labels])
        .unique()
        .sort("symbol", "timestamp")
        .with_columns(gap=gap)
        .drop_nulls()
        .group_by("symbol")
        .agg(pl.col("gap").tail(_TAIL))
    )
    odd = gaps.filter(
        (pl.col("gap").list.len() >= _TAIL)
        & (pl.col("gap").list.min() >= coarse)
        & (pl.col("gap").list.eval(pl.element() % pl.element().min()).list.sum() == 0)
    )
    if odd.height and last is not None:
        raise SourceError(
            f"{rows['source'][0]}: bars of {odd['symbol'][0]} are {words(odd['gap'][0][-1])} "
            f"apart, with those stored before them; the store holds {held.spec.freq}: choose "
            "another --store, or resample them"
        )
