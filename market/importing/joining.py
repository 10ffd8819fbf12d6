"""Good bars of all sources of one import: one per symbol and time, as the sources count.

Knows shelves of bars; nothing of what the store holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from market.errors import StoreError
from market.lake.appending import OnConflict, compare, key_of
from market.lake.shelves import Shelves
from market.spec import StoreSpec

NTH = "nth"
"""Column that tells which source, counted from 0, a bar on the shelves came from."""
_CONFLICTS = {"symbol": pl.String(), "timestamp": pl.Datetime("us"),
              "close_stored": pl.Float64(), "close": pl.Float64()}  # fmt: skip


class Joined(NamedTuple):
    """What happened to bars that several sources hold."""

    equal: int
    """Bars that a source before had, equal."""
    conflicts: pl.DataFrame
    """symbol, timestamp, close of the earlier source (close_stored) and of the later one."""


def join_sources(
    shelves: Shelves, spec: StoreSpec, policy: OnConflict, names: Sequence[str]
) -> Joined:
    """Leave on the shelves what importing the sources one after the other would leave.

    names: of the sources. Raises StoreError naming both where they differ and the policy says
    error.
    """
    key, equal = key_of(spec), 0
    conflicts: list[pl.DataFrame] = []
    for bucket in shelves.buckets() if shelves.shared else ():
        shared = shelves.shared & set(shelves.symbols(bucket))
        if not shared:
            continue
        bars = shelves.bars(bucket)
        twice = bars.filter(pl.col("symbol").is_in(sorted(shared)) & pl.struct(key).is_duplicated())
        if not twice.height:
            continue
        first = twice.unique(key, keep="first", maintain_order=True)
        last = twice.unique(key, keep="last", maintain_order=True)
        differing = compare(twice, first, key).conflicts
        conflicts.append(differing)
        equal += twice.height - first.height - differing.height
        rest = bars.join(twice.select(key).unique(), on=key, how="anti")
        chosen = last if policy is OnConflict.REPLACE else first
        shelves.replace(bucket, pl.concat([rest, chosen]))
    if not conflicts:
        return Joined(equal, pl.DataFrame(schema=_CONFLICTS))
    found = pl.concat(conflicts).sort(key)
    if found.height and policy is OnConflict.ERROR:
        one = found.row(0, named=True)
        raise StoreError(
            f"{names[one[NTH]]} and {names[one[f'{NTH}_stored']]} both hold {one['symbol']} "
            f"{one['timestamp']}, with close {one['close']:.10g} and {one['close_stored']:.10g} "
            f"({found.height:,} such bars). Nothing was written; are they one symbol? Choose "
            "--on-conflict keep (the first stays) or --on-conflict replace (the last wins)"
        )
    return Joined(equal, found.select(list(_CONFLICTS)))
