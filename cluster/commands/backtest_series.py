"""Benchmarks and risk-free rates as a command line names them. Knows files and the store."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from backtest.figures.outside import Series, symbol_series
from backtest.fills.prices import BAR_COLUMNS
from backtest.scores.reading import read_table
from market.lake.history import MarketHistory

ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".gz")


def file_series(path: Path, what: str) -> Series:
    """A file of values by date. what: words for messages."""
    return Series(path.name, read_table(path, what))


def benchmark_series(named: str, history: MarketHistory, actions: pl.DataFrame | None) -> Series:
    """The levels of a file, or the closes of a symbol of the store."""
    path = Path(named)
    if path.is_file() or path.suffix.lower() in ENDINGS:
        return Series(path.stem, read_table(path, "benchmark"))
    bars = history.scan().select(BAR_COLUMNS).filter(pl.col("symbol") == named).collect()
    return symbol_series(bars, named, actions)
