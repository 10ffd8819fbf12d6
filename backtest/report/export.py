"""A backtest's tables as files, for other programs. Computes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from backtest.figures.trades import holdings
from backtest.results import BacktestResult

Form = Literal["parquet", "csv"]


def write_tables(result: BacktestResult, folder: Path, form: Form = "parquet") -> list[Path]:
    """equity, orders, trades, holdings and untraded of the strategy; older files are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    book = result.strategy
    tables = {
        "equity": book.daily,
        "orders": book.orders,
        "trades": result.trades,
        "holdings": holdings(book.simulation, result.prices),
        "untraded": book.untraded,
    }
    paths = []
    for name, frame in tables.items():
        path = folder / f"{name}.{form}"
        if form == "csv":
            frame.write_csv(path)
        else:
            frame.write_parquet(path)
        paths.append(path)
    return paths
