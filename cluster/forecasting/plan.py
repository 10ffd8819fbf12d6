"""What a run will do, decided before anything runs: who is eligible when, and under which id.

Knows the history and the settings; of Ray only that somebody may look at symbols there. The run's
id is a hash of everything the rows depend on, the bars read included: bars after an as_of are not
among them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

import numpy as np
import polars as pl

from cluster.calibration.past import fits, past_forecasts, recipe_of
from cluster.forecasting.eligible import Look, Looking, one_by_one
from cluster.forecasting.identity import digest, identity_of
from cluster.forecasting.shards import Shard, ShardSymbol
from cluster.settings import ForecastSettings
from forecaster.calibration.gate import Fitted
from forecaster.interface import FixedWindow
from forecaster.registry import LoadedModel
from market.errors import ForecastInputError
from market.lake.history import MarketHistory
from market.lake.universe import draw, parse_universe
from market.spec import AsOf
from market.table.forecasts import ForecastTable
from market.table.schema import SymbolNote

SYMBOLS_PER_SHARD = 64
_SERIES_PER_TILE = 16
"""Series that fill whole tiles of the models from eight paths up."""
_SHARDS_PER_REPLICA = 24
"""Or the last shard would leave the other replicas idle for too long."""
_MIN_LOOKBACK = 2
"""With fewer bars a window has no scale."""


@dataclass(frozen=True)
class Plan:
    """Everything decided on the driver."""

    run_id: str
    identity: dict[str, Any]
    """What run_id is the hash of."""
    as_ofs: tuple[AsOf, ...]
    """Ascending."""
    members: tuple[ShardSymbol, ...]
    """Eligible symbols, sorted, each with its eligible moments."""
    first_sessions: dict[str, date]
    """Per symbol, the first session its windows need."""
    buckets: dict[str, int]
    """Per symbol, the files of the lake it lies in."""
    skipped: tuple[SymbolNote, ...]
    recipe: str | None = None
    """Names forecasts that can calibrate each other; None where no closes are kept."""
    fitted: Mapping[np.datetime64, Fitted] = field(default_factory=dict)
    """What each moment's past says."""
    sampled: frozenset[tuple[str, np.datetime64]] = frozenset()
    """Symbols and moments whose raw closes are kept for later nights."""

    def eligible(self) -> Counter[AsOf]:
        """How many symbols can be forecast from each moment."""
        return Counter(as_of for member in self.members for as_of in member.as_ofs)

    @property
    def n_forecasts(self) -> int:
        return sum(len(member.as_ofs) for member in self.members)

    def symbols_per_shard(self, wanted: int | Literal["auto"], replicas: int) -> int:
        """As set, or: whole tiles for the model, and several shards for every replica."""
        if wanted != "auto":
            return wanted
        symbols_per_tile = math.ceil(_SERIES_PER_TILE * len(self.members) / self.n_forecasts)
        even = math.ceil(len(self.members) / (replicas * _SHARDS_PER_REPLICA))
        tiles = math.ceil(even / symbols_per_tile)
        return min(SYMBOLS_PER_SHARD, tiles * symbols_per_tile)

    def frame(self, shards: Sequence[Shard]) -> pl.DataFrame:
        """What the run set out to do, one row per symbol and moment: shard, or why there is none.

        Columns symbol, as_of, shard (null where excluded), reason (null where eligible).
        """
        rows = [
            (member.symbol, as_of.close_utc, shard.key, None)
            for shard in shards
            for member in shard.members
            for as_of in member.as_ofs
        ]
        left_out = [
            (symbol, note.as_of, None, note.reason)
            for note in self.skipped
            for symbol in note.symbols
        ]
        schema = pl.Schema(
            {
                "symbol": pl.String(),
                "as_of": pl.Datetime("us", "UTC"),
                "shard": pl.String(),
                "reason": pl.String(),
            }
        )
        return pl.DataFrame([*rows, *left_out], schema=schema, orient="row").sort("symbol", "as_of")

    def shards(self, symbols_per_shard: int) -> list[Shard]:
        """Cut along the lake's buckets, so that a shard's read opens few files, and by number of
        moments, so that symbols of a shard bring whole tiles together."""
        members = sorted(self.members, key=lambda m: (self.buckets[m.symbol], -len(m.as_ofs)))
        return [
            self._shard(tuple(members[first : first + symbols_per_shard]))
            for first in range(0, len(members), symbols_per_shard)
        ]

    def _shard(self, members: tuple[ShardSymbol, ...]) -> Shard:
        work = [[m.symbol, [a.close_utc.isoformat() for a in m.as_ofs]] for m in members]
        return Shard(
            key=digest(json.dumps(work).encode()),
            members=members,
            start=min(self.first_sessions[m.symbol] for m in members),
            as_of=max((a for m in members for a in m.as_ofs), key=lambda a: a.close_utc),
        )


def build_plan(
    history: MarketHistory,
    loaded: LoadedModel,
    settings: ForecastSettings,
    table: ForecastTable,
    looking: Looking = one_by_one,
) -> Plan:
    """Resolve dates, universe and eligibility, look at the past of the table, and name the run.

    looking: where eligibility and hashes of bars are computed; the plan is the same.
    Raises CandlecastError for an as_of outside the history, an empty universe, a horizon beyond
    the model's context, and where no symbol is eligible at any date.
    """
    if isinstance(loaded.forecaster, FixedWindow):
        loaded.forecaster.require_window(settings.lookback, settings.horizon)
    context = loaded.forecaster.max_context
    if context is not None and settings.horizon > context - _MIN_LOOKBACK:
        raise ForecastInputError(
            f"--horizon {settings.horizon}: {loaded.name} holds {context} bars, of which "
            f"{_MIN_LOOKBACK} must be known ones; choose a horizon of at most "
            f"{context - _MIN_LOOKBACK}"
        )
    as_ofs = sorted(history.resolve_as_of_range(settings.as_of), key=lambda a: a.close_utc)
    universe = parse_universe(settings.universe)
    wanted: dict[str, list[AsOf]] = defaultdict(list)
    for as_of in as_ofs:
        for symbol in universe.members(history, as_of):
            wanted[symbol].append(as_of)
    if not wanted:
        raise ForecastInputError(
            f"--universe {settings.universe}: no symbol of {history.root} belongs to it between "
            f"{as_ofs[0].session} and {as_ofs[-1].session}; see 'candlecast data ls'"
        )

    def by_bucket(symbol: str) -> tuple[int, str]:
        return history.bucket_of(symbol), symbol  # each file of the lake is opened for few reads

    look = Look(
        history,
        as_ofs[-1],
        np.array(history.sessions(end=as_ofs[-1].session), dtype="datetime64[D]"),
        settings.lookback,
        settings.max_gap_sessions,
        settings.allow_suspected_splits,
    )
    members: list[ShardSymbol] = []
    first_sessions: dict[str, date] = {}
    reasons: dict[tuple[AsOf, str], list[str]] = defaultdict(list)
    digests: dict[str, bytes] = {}
    parts = [(symbol, tuple(wanted[symbol])) for symbol in sorted(wanted, key=by_bucket)]
    for found in looking(look, parts):
        for as_of, reason in found.reasons:
            reasons[as_of, reason].append(found.symbol)
        if found.first_session is not None:
            digests[found.symbol] = found.digest
            members.append(ShardSymbol(found.symbol, found.eligible))
            first_sessions[found.symbol] = found.first_session
    members.sort(key=lambda member: member.symbol)
    skipped = tuple(
        SymbolNote(as_of=as_of.close_utc, reason=reason, symbols=tuple(sorted(symbols)))
        for (as_of, reason), symbols in sorted(reasons.items(), key=_by_moment)
    )
    if not members:
        example = skipped[0]
        raise ForecastInputError(
            f"none of {len(wanted)} symbols can be forecast from {len(as_ofs)} date(s); "
            f"for example {example.symbols[0]}: {example.reason}"
        )
    bars_hash = hashlib.blake2b(digest_size=16)
    for symbol in sorted(digests):
        bars_hash.update(digests[symbol])
    recipe: str | None = None
    fitted: dict[np.datetime64, Fitted] = {}
    if settings.calibration != "off":
        recipe = recipe_of(history, loaded, settings)
    if settings.calibration == "on" and recipe is not None:
        past = past_forecasts(table, history, recipe, settings, as_ofs)
        fitted = fits(past, as_ofs)
    bars = bars_hash.hexdigest()
    identity = identity_of(history.spec, loaded, settings, as_ofs, bars, fitted)
    return Plan(
        run_id=digest(json.dumps(identity, sort_keys=True).encode()),
        identity=identity,
        as_ofs=tuple(as_ofs),
        members=tuple(members),
        first_sessions=first_sessions,
        buckets={member.symbol: history.bucket_of(member.symbol) for member in members},
        skipped=skipped,
        recipe=recipe,
        fitted=fitted,
        sampled=_sampled(members, settings) if recipe is not None else frozenset(),
    )


def _sampled(
    members: Sequence[ShardSymbol], settings: ForecastSettings
) -> frozenset[tuple[str, np.datetime64]]:
    by_moment: dict[AsOf, list[str]] = defaultdict(list)
    for member in members:
        for as_of in member.as_ofs:
            by_moment[as_of].append(member.symbol)
    return frozenset(
        (symbol, as_of.close_us)
        for as_of, symbols in by_moment.items()
        for symbol in draw(symbols, as_of, settings.calibration_symbols)
    )


def _by_moment(note: tuple[tuple[AsOf, str], list[str]]) -> tuple[datetime, str]:
    (as_of, reason), _ = note
    return as_of.close_utc, reason
