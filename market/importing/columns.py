"""Finding the columns of a source by their usual names. Knows names; no values."""

from __future__ import annotations

from dataclasses import dataclass

from market.errors import ConfigError, SourceError
from market.fields import PRICES
from market.importing.names import DAY_NAMES, FIELDS, USUAL_NAMES, pair_volumes, plain

_EXTRAS = ("series", "dividends", "splits", "adjusted_close")
"""What is read beside the fields of a bar, where it is there."""


@dataclass(frozen=True)
class Columns:
    """Which column of a source stands for which field."""

    of: dict[str, str]
    """Field name to column name; time_of_day beside timestamp where date and time are apart;
    series, dividends, splits, adjusted_close where the source has them."""
    unused: tuple[str, ...]


def usual_name(name: str) -> str:
    """The field that a column's name usually stands for; else the name in plain letters."""
    bare = plain(name)
    return next((field for field in FIELDS if bare in USUAL_NAMES[field]), bare)


def find_columns(names: list[str], mapped: dict[str, str], source: str) -> Columns:
    """Match a source's column names to fields, those in `mapped` (field to column) first.

    Raises SourceError where a price or the time has no column, naming what was found.
    """
    unknown = [field for field in mapped if field not in FIELDS]
    if unknown:
        raise ConfigError(f"--map {unknown[0]}=...: fields are {', '.join(FIELDS)}")
    absent = [name for name in mapped.values() if name not in names]
    if absent:
        raise SourceError(
            f"{source}: --map names the column {absent[0]!r}; found {', '.join(names)}"
        )
    of = dict(mapped)
    volume, amount = pair_volumes(names)
    for field, column in (("volume", volume), ("amount", amount)):
        if column is not None:
            of.setdefault(field, column)
    free = {plain(name): name for name in reversed(names) if name not in of.values()}
    for field in (*FIELDS, *_EXTRAS):
        found = [free[usual] for usual in USUAL_NAMES[field] if usual in free]
        if field not in of and found:
            of[field] = found[0]
    if plain(of.get("timestamp", "")) in DAY_NAMES and "timestamp" not in mapped:
        clock = next((free[each] for each in ("time", "timeofday", "时间") if each in free), None)
        if clock is not None:
            of["time_of_day"] = clock
    missing = [field for field in ("timestamp", *PRICES) if field not in of]
    if missing:
        wanted = ", ".join("time" if field == "timestamp" else field for field in missing)
        shown = [name for name in names if name.isprintable()]
        raise SourceError(
            f"{source}: no column for {wanted}; found {', '.join(shown)[:400]}. Name it with "
            f"--map {missing[0]}=COLUMN"
        )
    return Columns(of, tuple(name for name in names if name not in of.values()))
