"""Errors as a Python user reads them. Knows messages alone.

The rooms below write for the command line: `--venue XNYS`. Here that is `venue XNYS`, since the
names of flags and of keywords are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from market.errors import CandlecastError

__all__ = ["CandlecastError", "speaks_python"]

_FLAGS = re.compile(
    r"(?P<command>'candlecast [^']*')"
    r"|--map (?P<field>\w+)=(?P<column>\w+|\.\.\.)"
    r"|--(?P<flag>[a-z](?:[a-z_-]*[a-z])?)"
)
_OTHER_NAMES = {"map": "columns"}
P = ParamSpec("P")
R = TypeVar("R")


def speaks_python(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with the flags in its errors' messages turned into keywords."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except CandlecastError as error:
            error.args = (_FLAGS.sub(_keyword, str(error)), *error.args[1:])
            raise

    return called


def _keyword(found: re.Match[str]) -> str:
    if found["command"]:
        return found["command"]
    if found["field"]:
        return f"columns={{{found['field']!r}: {found['column']!r}}}"
    flag = found["flag"].replace("-", "_")
    return _OTHER_NAMES.get(flag, flag)
