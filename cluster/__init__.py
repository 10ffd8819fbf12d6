"""The same on many machines, and the command line. Imports market, forecaster and backtest."""

from market.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
