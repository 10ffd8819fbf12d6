"""The unit of work of a run. Plain records, so that a worker which gets one loads nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from market.spec import AsOf


@dataclass(frozen=True)
class ShardSymbol:
    """One symbol of a shard and the moments it is forecast from."""

    symbol: str
    as_ofs: tuple[AsOf, ...]


@dataclass(frozen=True)
class Shard:
    """A unit of work: a few symbols, read together and forecast by one replica."""

    key: str
    """Hash of its symbols and moments: the same work has the same key in a later attempt."""
    members: tuple[ShardSymbol, ...]
    start: date
    """First session any of its windows needs."""
    as_of: AsOf
    """Last moment any of its windows needs."""

    @property
    def n_forecasts(self) -> int:
        return sum(len(member.as_ofs) for member in self.members)
