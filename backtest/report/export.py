"""A backtest's tables as files, for other programs. Computes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from backtest.figures.through_time import monthly_profit
from backtest.figures.trades import by_group, by_symbol, holdings
from backtest.results import BacktestResult

Form = Literal["parquet", "csv"]


def write_tables(result: BacktestResult, folder: Path, form: Form = "parquet") -> list[Path]:
    """equity, orders, trades, holdings, untraded and profits of the strategy; older files are
    replaced. equity has a column per benchmark; of profits there are by_symbol, by_month, and
    by_group where groups were given."""
    folder.mkdir(parents=True, exist_ok=True)
    book = result.strategy
    tables = {
        "equity": result.equity_of_all(),
        "orders": book.orders,
        "trades": result.trades,
        "holdings": holdings(book.simulation, result.prices),
        "untraded": book.untraded,
        "profits_by_symbol": by_symbol(result.trades),
        "profits_by_month": monthly_profit(book.daily),
    }
    if result.groups:
        tables["profits_by_group"] = by_group(result.trades, result.groups)
    paths = []
    for name, frame in tables.items():
        path = folder / f"{name}.{form}"
        if form == "csv":
            frame.write_csv(path)
        else:
            frame.write_parquet(path)
        paths.append(path)
    return paths
