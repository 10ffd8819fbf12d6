"""Opening Delta tables, and what went wrong in a line. Knows Delta; nothing of rows."""

from __future__ import annotations

import re

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from market.errors import StoreError
from market.secrets import hidden

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST = 160


def open_table(place: str, version: int | None = None) -> DeltaTable | None:
    """The table at a path or URL, at its newest version or the one given; None where there is none.

    Raises StoreError where it is damaged, or the store does not let it be read.
    """
    try:
        if not DeltaTable.is_deltatable(place):
            return None
        return DeltaTable(place, version=version)
    except TableNotFoundError:  # removed in between
        return None
    except (DeltaError, OSError) as error:
        raise StoreError(
            f"{place}: cannot be read ({reason_of(error)}); try again, and where it stays so check "
            "credentials, region and endpoint in the environment, or restore its log from a copy"
        ) from error


def reason_of(error: Exception) -> str:
    """The first and the last line of an error, in one: what failed, and why."""
    lines = [_COLOURS.sub("", line).strip(" ↳") for line in str(error).splitlines()]
    told = list(dict.fromkeys(line for line in lines if line))
    if not told:
        return type(error).__name__
    return hidden(": ".join(dict.fromkeys([told[0], told[-1]])))[:_LONGEST]
