"""Opening Delta tables. Knows Delta; nothing of rows."""

from __future__ import annotations

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from market.errors import StoreError, reason_of


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
