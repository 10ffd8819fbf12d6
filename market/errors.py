"""Errors a user can act on. Knows nothing of the rest of the project but how secrets are hidden.

Every message names the file, symbol, row or key that is wrong, the rule, and what to do next.
The command line prints them as one line and exits with code 2.
"""

import re

from market.secrets import hidden

_LONGEST = 160


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


def reason_of(error: BaseException) -> str:
    """Why it failed, in a line: what the system said, else the first and the last of its lines."""
    if told := getattr(error, "strerror", None):
        return str(told)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()
    lines = [each for line in plain if (each := line.strip(" \t↳"))]
    if not lines:
        return type(error).__name__
    refused = re.fullmatch(r"(.*?)\s*\(os error \d+\)", lines[-1])
    if refused:
        return refused[1]
    return hidden(": ".join(dict.fromkeys((lines[0], lines[-1]))))[:_LONGEST]
