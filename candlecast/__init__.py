"""Candle forecasts and honest backtests in a notebook, on pandas or polars frames.

>>> import candlecast as cc
>>> forecasts = cc.forecast(bars, horizon=20, venue="XNYS")   # bars: symbol, date, open … volume
>>> forecasts.plot("AAPL")
>>> result = cc.backtest(bars, scores, strategy="topk", k=20)
>>> result.to_html("tearsheet.html")

Names load on first use: importing the package loads neither torch nor ray, pandas nor polars.
"""

import sys

from candlecast._rooms import first_clash

_clash = first_clash()
if _clash is None:
    from market.faces import face

    _find, _names, __all__ = face(__name__, __file__)
elif sys.argv[:1] != ["-m"]:  # `python -m candlecast` comes by here, and its main knows a way round
    raise ImportError(str(_clash))


def __getattr__(name: str) -> object:
    if _clash is not None:
        raise ImportError(str(_clash))
    if name == "__version__":
        from importlib.metadata import version

        return version("candlecast")
    return _find(name)


def __dir__() -> list[str]:
    return [*_names(), "__version__"]
