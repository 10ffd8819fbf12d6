"""What a source of bars over the network must offer, and importing from one. Knows no source.

A source is found by name: one of ours, or one that an installed package offers under the entry
point `candlecast.sources`. What it fetches is read, checked and stored like a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from market.errors import ConfigError, SourceError
from market.importing.job import Sources, cut, run_import
from market.importing.layouts import unstack_names
from market.importing.options import ImportOptions
from market.importing.rows import SourceRows, rows_of
from market.importing.tables import as_table
from market.lake.appending import ImportReport, OnConflict
from market.plugins import plugins
from market.spec import parse_freq

GROUP = "candlecast.sources"
_OURS = {
    "yfinance": "market.sources.yahoo:YahooSource",
    "ccxt": "market.sources.exchange:CcxtSource",
}


@dataclass(frozen=True)
class Request:
    """Which bars are wanted."""

    symbols: tuple[str, ...]
    start: date
    end: date | None = None
    """Last day, inclusive; None: up to now."""
    freq: str = "1d"


class Fetched(NamedTuple):
    """Bars of one or several symbols, in any shape that import_frame takes."""

    name: str
    """Where they came from, for messages and quarantine."""
    frame: Any
    symbol: str | None
    """Of a frame without a symbol column."""


class BarSource(Protocol):
    """A place that bars are fetched from. Made without arguments, or with the text after the colon
    of `name:argument`."""

    @property
    def defaults(self) -> ImportOptions:
        """What holds of all its bars: label side, time zone, price basis, venue."""

    def fetch(self, request: Request) -> Iterator[Fetched]:
        """Whole bars alone: one that is not over yet is left out.

        Raises SourceError, one line, where the place refuses or does not answer.
        """


def find_source(name: str) -> BarSource:
    """The source of a name such as yfinance or ccxt:kraken, ours before others'.

    Raises ConfigError for an unknown name, and for a plug-in that cannot be used.
    """
    key, _, argument = name.partition(":")
    given = (argument,) if argument else ()
    if key in _OURS:
        module, _, attribute = _OURS[key].partition(":")
        ours: Callable[..., BarSource] = getattr(import_module(module), attribute)
        return ours(*given)
    offered = plugins(GROUP)
    if key not in offered:
        known = ", ".join(sorted({*_OURS, *offered}))
        raise ConfigError(f"source {name!r}: no such source; installed are {known}")
    plugin = offered[key]
    found = plugin.load()
    with plugin.guarded(f"cannot make a source of {name!r}"):
        made: BarSource = found(*given)
    plugin.require(made, ("defaults", "fetch"))
    return made


def import_source(
    source: str | BarSource,
    request: Request,
    store: str | Path,
    options: ImportOptions | None = None,
    *,
    on_conflict: OnConflict | str = OnConflict.ERROR,
) -> ImportReport:
    """Fetch bars and import them, in one step: where it fails, nothing is written.

    options: what the user says, over what the source says itself. Raises CandlecastError.
    """
    place = find_source(source) if isinstance(source, str) else source
    wanted = replace(request, freq=parse_freq(request.freq))
    given = replace(_over(options or ImportOptions(), place.defaults), freq=wanted.freq)

    def read(told: ImportOptions) -> Sources:
        notes: list[str] = []
        names: list[str] = []
        return Sources(names, _read(place, wanted, told, names, notes), notes)

    return run_import(read, store, given, OnConflict(on_conflict))


def _read(
    place: BarSource, request: Request, told: ImportOptions, names: list[str], notes: list[str]
) -> Iterator[SourceRows]:
    found = []
    for each in place.fetch(request):
        names.append(each.name)
        table, said = unstack_names(as_table(each.frame, each.name), told.columns)
        rows = rows_of(table, each.name, told, each.symbol)
        found += [*said, *rows.notes]
        yield rows
    if not names:
        raise SourceError(f"no bars of {', '.join(request.symbols[:5])} since {request.start}")
    notes += cut(found)


def _over(given: ImportOptions, below: ImportOptions) -> ImportOptions:
    """The user's options; those left at their default come from the source."""
    plain: Mapping[str, Any] = {each.name: getattr(ImportOptions(), each.name)
                                for each in fields(ImportOptions)}  # fmt: skip
    values = {
        name: getattr(below, name) if getattr(given, name) == default else getattr(given, name)
        for name, default in plain.items()
    }
    return ImportOptions(**values)
