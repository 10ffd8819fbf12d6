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

    rows: source, symbol, timestamp; each symbol of one source alone.
    """
    labels = rows.select("source", "symbol", "timestamp").drop_nulls(["symbol", "timestamp"])
    firsts = (
        labels.group_by("symbol")
        .agg(
            pl.len().alias("n"), pl.col("timestamp").min().alias("first"), pl.col("source").first()
        )
        .filter(pl.col("n") <= _TAIL)
    )
    step = int(held.spec.step.astype(np.int64))
    if not firsts.height or not held.contents.bars:
        return
    labels = labels.join(firsts.select("symbol"), on="symbol", how="semi")
    first = firsts["first"].min()
    assert isinstance(first, datetime)
    begin = first - timedelta(days=60)
    stored = (
        held.scan(symbols=firsts["symbol"].to_list(), start=begin.date())
        .select("symbol", "timestamp")
        .collect()
        .join(firsts.select("symbol", "first"), on="symbol")
        .filter(
            (pl.col("timestamp") < pl.col("first"))
            & (pl.col("timestamp") >= pl.col("first") - pl.duration(days=60))
        )
    )
    day = 86_400_000_000
    coarse = 5 * day if held.spec.daily else step + 1
    gap = pl.col("timestamp").diff().over("symbol").dt.total_microseconds()
    gaps = (
        pl.concat([stored.drop("first"), labels.drop("source")])
        .unique()
        .sort("symbol", "timestamp")
        .with_columns(gap=gap)
        .drop_nulls()
        .group_by("symbol", maintain_order=True)
        .agg(pl.col("gap").tail(_TAIL))
    )
    odd = gaps.filter(
        (pl.col("gap").list.len() >= _TAIL)
        & (pl.col("gap").list.min() >= coarse)
        & (pl.col("gap").list.eval(pl.element() % pl.element().min()).list.sum() == 0)
    ).join(firsts.select("symbol", "source"), on="symbol", how="left", maintain_order="left")
    if odd.height:
        raise SourceError(
            f"{odd['source'][0]}: bars of {odd['symbol'][0]} are {words(odd['gap'][0][-1])} "
            f"apart, with those stored before them; the store holds {held.spec.freq}: choose "
            "another --store, or resample them"
        )
