"""Errors a user can act on. Knows nothing of the rest of the project but how secrets are hidden.

Every message names the file, symbol, row or key that is wrong, the rule, and what to do next.
The command line prints them as one line and exits with code 2.
"""

from market.secrets import hidden


class CandlecastError(ValueError):
    """Base of every error that is the input's fault rather than ours."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(hidden(each) if isinstance(each, str) else each for each in args))


class SourceError(CandlecastError):
    """A source file cannot be read as bars."""


class StoreError(CandlecastError):
    """A history lake or forecast table is missing, damaged or of another kind."""


class AsOfError(CandlecastError):
    """An as_of date lies outside the history or cannot be parsed."""


class ConfigError(CandlecastError):
    """A setting is unknown or out of range."""


class CheckpointError(CandlecastError):
    """Model weights or their config cannot be loaded."""


class ForecastInputError(CandlecastError):
    """A window or request cannot be forecast."""


class BacktestInputError(CandlecastError):
    """Forecasts, scores or bars cannot be backtested."""
