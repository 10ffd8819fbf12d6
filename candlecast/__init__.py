"""Candle forecasts and honest backtests in a notebook, on pandas or polars frames.

>>> import candlecast as cc
>>> forecasts = cc.forecast(bars, horizon=20, venue="XNYS")   # bars: symbol, date, open … volume
>>> forecasts.plot("AAPL")
>>> result = cc.backtest(bars, scores, strategy="topk", k=20)
>>> result.to_html("tearsheet.html")

Names load on first use: importing the package loads neither torch nor ray, pandas nor polars.
"""

import sys
from importlib import import_module

from candlecast._rooms import require_own_rooms

_HOME = {
    "Backtest": "backtests",
    "CandlecastError": "errors",
    "Forecasts": "forecasts",
    "Kronos": "models",
    "KronosPredictor": "models",
    "KronosTokenizer": "models",
    "Store": "store",
    "backtest": "backtests",
    "forecast": "forecasting",
    "future_timestamps": "times",
}

__all__ = [
    "Backtest",
    "CandlecastError",
    "Forecasts",
    "Kronos",
    "KronosPredictor",
    "KronosTokenizer",
    "Store",
    "__version__",
    "backtest",
    "forecast",
    "future_timestamps",
]

# `python -m candlecast` imports this first; its main knows a way around a clash of names.
if sys.argv[:1] != ["-m"]:
    require_own_rooms()


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("candlecast")
    if name not in _HOME:
        raise AttributeError(f"module 'candlecast' has no attribute {name!r}")
    require_own_rooms()
    value = getattr(import_module(f"candlecast.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
