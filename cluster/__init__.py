"""The same on many machines, and the command line. Imports market, forecaster and backtest.

Names load on first use, so that `candlecast --help` does not pay for Ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.forecasting.job import ForecastReport, run_forecast
    from cluster.settings import ForecastSettings, load_settings

_HOME = {
    "ForecastReport": "forecasting.job",
    "ForecastSettings": "settings",
    "load_settings": "settings",
    "run_forecast": "forecasting.job",
}

__all__ = ["ForecastReport", "ForecastSettings", "load_settings", "run_forecast"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cluster' has no attribute {name!r}")
    return getattr(import_module(f"cluster.{_HOME[name]}"), name)
