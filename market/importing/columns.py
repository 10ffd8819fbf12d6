"""Finding and reading the columns of a source: usual names, numbers and times as text.

Knows one frame at a time; no stores, no calendars beyond a time zone's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time

import polars as pl

from market.errors import ConfigError, SourceError
from market.fields import FEATURES, PRICES

FIELDS = ("symbol", "timestamp", *FEATURES)
"""What a source's columns can stand for."""

_USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "symbol": ("symbol", "ticker", "code", "tscode", "instrument", "secid", "stock", "tic", "name"),
    "timestamp": (
        *("timestamp", "timestamps", "datetime", "opentime", "date", "tradedate", "day", "time"),
        *("begin", "startdate", "unix", "index", "indexlevel0", ""),
    ),
    "open": ("open", "o", "openprice", "openingprice", "1open"),
    "high": ("high", "h", "highprice", "max", "2high"),
    "low": ("low", "l", "lowprice", "min", "3low"),
    "close": ("close", "c", "closeprice", "closingprice", "last", "closelast", "4close", "price"),
    "volume": ("volume", "vol", "v", "qty", "basevolume", "5volume", "volumebtc", "shares"),
    "amount": (
        *("amount", "turnover", "quotevolume", "quoteassetvolume", "amt", "value"),
        *("tradedvalue", "tradevalue", "money", "volumeusdt", "volumeusd", "dollarvolume"),
    ),
}
"""Lower-case names without blanks and punctuation, the preferred first."""

_MISSING_TEXT = ("", "null", "none", "nan", "na", "n/a", "-", "--")

_FAMILIES: dict[str, tuple[str, ...]] = {
    "year first": (
        *("%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d %I-%p"),
        *("%Y%m%d", "%Y%m%d %H:%M:%S", "%Y%m%d %H:%M", "%Y%m%d %H%M%S", "%Y%m%d%H%M%S"),
    ),
    "month first": (
        *("%m-%d-%Y", "%m-%d-%Y %H:%M:%S%.f", "%m-%d-%Y %H:%M"),
        *("%m-%d-%Y %I:%M:%S %p", "%m-%d-%Y %I:%M %p"),
    ),
    "day first": (
        *("%d-%m-%Y", "%d-%m-%Y %H:%M:%S%.f", "%d-%m-%Y %H:%M"),
        *("%d-%m-%Y %I:%M:%S %p", "%d-%m-%Y %I:%M %p"),
    ),
    "named month": ("%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%d %b %Y", "%d-%b-%Y %H:%M:%S"),
}
"""Formats tried on texts whose / and . between date parts were made -, and T a blank."""

_EPOCH_SCALES = ((1e17, 1e-3), (1e14, 1.0), (1e11, 1e3), (0.0, 1e6))
"""From which magnitude on an epoch number times what is microseconds: ns, us, ms, s."""
_THOUSANDS = r"^\D?\d{1,3}(,\d{3})+(\.\d*)?\D?$"
_OFFSET = r"\s*(Z|[+-]\d{2}:?\d{2})$"


@dataclass(frozen=True)
class Columns:
    """Which column of a source stands for which field."""

    of: dict[str, str]
    """Field name to column name; time_of_day beside timestamp where date and time are apart."""
    unused: tuple[str, ...]


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
    free = {_plain(name): name for name in reversed(names) if name not in mapped.values()}
    for field in FIELDS:
        found = [free[usual] for usual in _USUAL_NAMES[field] if usual in free]
        if field not in of and found:
            of[field] = found[0]
    if _plain(of.get("timestamp", "")) == "date" and "time" in free:
        of["time_of_day"] = free["time"]
    missing = [field for field in ("timestamp", *PRICES) if field not in of]
    if missing:
        wanted = ", ".join("time" if field == "timestamp" else field for field in missing)
        raise SourceError(
            f"{source}: no column for {wanted}; found {', '.join(names)}. Name it with "
            f"--map {missing[0]}=COLUMN"
        )
    return Columns(of, tuple(name for name in names if name not in of.values()))


def usual_name(name: str) -> str:
    """The field that a column's name usually stands for; else the name in plain letters."""
    plain = _plain(name)
    return next((field for field, usual in _USUAL_NAMES.items() if plain in usual), plain)


def read_number(column: pl.Series, source: str, *, optional: bool) -> pl.Series:
    """A column as float64: null where it is empty, NaN where it holds something else.

    optional: NaN in a numeric column means missing (volumes of sources that have none).
    Raises SourceError for decimal commas, which would read as thousands.
    """
    if column.dtype == pl.String:
        plain = column.cast(pl.Float64, strict=False)
        if plain.null_count() == column.null_count():
            return plain.fill_nan(None)  # "nan" is how some sources write nothing
        text = column.str.strip_chars()
        empty = text.str.to_lowercase().is_in(_MISSING_TEXT)
        comma = text.filter(text.str.contains(r"\d,\d") & ~text.str.contains(_THOUSANDS))
        if len(comma):
            raise SourceError(
                f"{source}: column {column.name!r} holds {comma[0]!r}; write decimals with a point"
            )
        digits = text.str.replace_all(r"[$€£,_\s]", "")
        for suffix, power in (("[kK]", "e3"), ("[mM]", "e6"), ("[bB]", "e9")):
            digits = digits.str.replace(rf"^([\d.]+){suffix}$", f"${{1}}{power}")
        value = digits.cast(pl.Float64, strict=False)
        value = value.fill_null(float("nan"))
        return value.set(empty.fill_null(True), None)
    value = column.cast(pl.Float64, strict=False)
    return value.fill_nan(None) if optional else value


def read_times(column: pl.Series, tz: str | None, source: str) -> pl.Series:
    """A column of labels as naive datetime[us], null where a label cannot be read.

    Instants (epoch numbers, texts or values with a UTC offset) become wall time in tz; where they
    are all midnight in their own zone they name days, and stay as they are. Without tz, labels keep
    the offset they came with.
    Raises SourceError where no label at all can be read, or day and month cannot be told apart.
    """
    dtype = column.dtype
    if isinstance(dtype, pl.Datetime):
        wall = column.dt.replace_time_zone(None).cast(pl.Datetime("us"))
        if dtype.time_zone is None:
            return wall
        utc = column.dt.convert_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
        return _in_zone(wall, utc.dt.replace_time_zone(None), tz)
    if dtype == pl.Date:
        return column.cast(pl.Datetime("us"))
    if dtype.is_numeric():
        return _read_numeric_times(column.cast(pl.Float64, strict=False), tz, column, source)
    if dtype != pl.String:
        raise _unreadable(column, source)
    text = column.str.strip_chars()
    number = text.cast(pl.Float64, strict=False)
    if number.null_count() < len(text) / 2:
        return _read_numeric_times(number, tz, column, source)
    return _read_text_times(text, tz, column, source)


def _read_numeric_times(
    number: pl.Series, tz: str | None, column: pl.Series, source: str
) -> pl.Series:
    """Numbers such as 20240311 as days, others as seconds or finer since 1970 in UTC."""
    digits = number.cast(pl.Int64, strict=False)
    if digits.drop_nulls().is_between(19000101, 22001231).all():
        return _require_some(
            digits.cast(pl.String).str.to_datetime("%Y%m%d", strict=False, time_unit="us"),
            column,
            source,
        )
    largest = float(number.abs().max() or 0.0)  # type: ignore[arg-type]
    scale = next(scale for least, scale in _EPOCH_SCALES if largest >= least)
    if largest < 1e8:  # 1973 in seconds: smaller numbers are row numbers rather than times
        raise _unreadable(column, source)
    # Multiplied as integers where they are whole, so that no microsecond is lost.
    micros = digits // 1000 if scale < 1 else digits * int(scale)
    utc = _require_some(micros.cast(pl.Datetime("us")), column, source)
    return _in_zone(utc, utc, tz)


def _read_text_times(text: pl.Series, tz: str | None, column: pl.Series, source: str) -> pl.Series:
    offset = text.str.extract(_OFFSET)
    dated = offset.is_not_null() & text.str.contains(r"\d:\d")
    body = text.set(~dated.fill_null(False), None).str.replace(_OFFSET, "")
    plain = body.fill_null(text)
    plain = plain.str.replace(r"^(\d+)[/.](\d+|[A-Za-z]{3})[/.](\d+)", "${1}-${2}-${3}")
    plain = plain.str.replace(r"^(\d{4}-?\d\d-?\d\d)T", "${1} ")
    labels = _parse_family(plain, column, source)
    if not dated.any():
        return labels
    signed = offset.str.replace("Z", "+0000").str.replace(":", "")
    minutes = (
        signed.str.slice(1, 2).cast(pl.Int64, strict=False) * 60
        + signed.str.slice(3, 2).cast(pl.Int64, strict=False)
    ) * signed.str.starts_with("-").cast(pl.Int64).replace({1: -1, 0: 1})
    ahead = (minutes.fill_null(0) * 60_000_000).cast(pl.Duration("us"))
    return _in_zone(labels, labels - ahead, tz)


def _parse_family(plain: pl.Series, column: pl.Series, source: str) -> pl.Series:
    """Read with the family of formats that fits most of the labels."""
    usual = _read_with(plain, _FAMILIES["year first"])
    if usual.null_count() == plain.null_count() < len(plain):
        return usual
    distinct = plain.unique().drop_nulls()
    read = {name: _read_with(distinct, formats) for name, formats in _FAMILIES.items()}
    hits = {name: len(values) - values.null_count() for name, values in read.items()}
    best = max(hits, key=lambda name: hits[name])
    if not hits[best]:
        raise _unreadable(column, source)
    if best in ("month first", "day first") and hits["month first"] == hits["day first"]:
        raise SourceError(
            f"{source}: the dates in column {column.name!r} can be month/day or day/month, for "
            f"example {column.drop_nulls()[0]!r}; write them as 2024-03-11"
        )
    return _read_with(plain, _FAMILIES[best])


def _read_with(text: pl.Series, formats: tuple[str, ...]) -> pl.Series:
    values = pl.Series(text.name, [None] * len(text), pl.Datetime("us"))
    for each in formats:
        missing = values.is_null() & text.is_not_null()
        if not missing.any():
            break
        if "%H" in each or "%I" in each:
            with_hour = each if "%M" in each else each.replace("%I", "%I:%M")
            source = text if "%M" in each else text.str.replace(r"-([AP]M)$", ":00-${1}")
            read = source.str.to_datetime(with_hour, strict=False, exact=True, time_unit="us")
        else:
            read = text.str.to_date(each, strict=False, exact=True).cast(pl.Datetime("us"))
        values = values.fill_null(read)
    return values


def _in_zone(wall: pl.Series, utc: pl.Series, tz: str | None) -> pl.Series:
    """Wall time in tz of instants that had their own wall time; days stay days."""
    if tz is None or (wall.dt.time().drop_nulls() == time(0)).all():
        return wall
    return utc.dt.replace_time_zone("UTC").dt.convert_time_zone(tz).dt.replace_time_zone(None)


def _require_some(values: pl.Series, column: pl.Series, source: str) -> pl.Series:
    if values.null_count() == len(values):
        raise _unreadable(column, source)
    return values


def _unreadable(column: pl.Series, source: str) -> SourceError:
    given = column.drop_nulls()
    example = repr(given[0]) if len(given) else "no value"
    return SourceError(
        f"{source}: column {column.name!r} holds no readable time, for example {example}; write "
        "times as 2024-03-11 or 2024-03-11 09:30, or name another column with --map timestamp=..."
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
