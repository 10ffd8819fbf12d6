"""From forecast tables to portfolios and what they earned. Knows bars, forecasts and costs.

Never imports torch or ray; vectorbt is imported by `vectorbt_bridge` alone, inside its functions.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backtest.pipeline import run_backtest
    from backtest.report.tear_sheet import write_tear_sheet
    from backtest.report.words import headline
    from backtest.results import BacktestResult
    from backtest.settings import BacktestSettings

__all__ = ["BacktestResult", "BacktestSettings", "headline", "run_backtest", "write_tear_sheet"]

_HOMES = {
    "BacktestResult": "backtest.results",
    "BacktestSettings": "backtest.settings",
    "headline": "backtest.report.words",
    "run_backtest": "backtest.pipeline",
    "write_tear_sheet": "backtest.report.tear_sheet",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'backtest' has no attribute {name!r}")
