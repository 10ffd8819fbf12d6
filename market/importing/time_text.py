"""Times written as text: every usual order of year, month and day, clocks, offsets, named zones.

Knows distinct texts of one column. Whether 03/04 is March or April, and whether 01/16/24 begins
with a year, is decided by which reading fits most rows.
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

from market.errors import SourceError
from market.importing.time_words import plain_words

_PLAIN = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAY = r"(?i)^(mon|tue|wed|thu|fri|sat|sun)[a-z]*[,.]?\s+"
_CLOCK = (
    r"(?i)^(?:[T,_\s-]*)"
    r"(?:(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,:](\d{1,9}))?)?|(\d{2})(\d{2})(\d{2})?|(\d{1,2})[-\s]?(?=[ap]m))"
    r"(?:[\s-]*([ap])\.?m(?:\.|\b))?"
)
_OFFSETS = {
    **dict.fromkeys(("Z", "UTC", "GMT", "UT", "WET"), 0), "BST": 60, "CET": 60, "MEZ": 60,
    "CEST": 120, "MESZ": 120, "EET": 120, "EEST": 180, "MSK": 180, "IST": 330, "SGT": 480,
    "HKT": 480, "JST": 540, "KST": 540, "AEST": 600, "AEDT": 660, "EST": -300, "EDT": -240,
    "CST": -360, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420, "BRT": -180,
    "UCT": 0, "EASTERN STANDARD TIME": -300, "EASTERN DAYLIGHT TIME": -240,
    "CENTRAL STANDARD TIME": -360, "CENTRAL DAYLIGHT TIME": -300,
}  # fmt: skip
"""Minutes ahead of UTC of the abbreviations that exchanges and brokers write."""
_EAST = ("Asia/", "Australia/")
_ZONES = {
    "ET": "America/New_York", "CT": "America/Chicago", "PT": "America/Los_Angeles",
    "EASTERN TIME": "America/New_York", "EST5EDT": "America/New_York", "CST6CDT": "America/Chicago",
    "JAPAN": "Asia/Tokyo", "HONGKONG": "Asia/Hong_Kong", "SINGAPORE": "Asia/Singapore",
    "PRC": "Asia/Shanghai", "ROK": "Asia/Seoul",
}  # fmt: skip
"""Zones that change with the season, or are a place's, by other names."""
_ORDERS = {
    "year first": ("y", "m", "d"), "month first": ("m", "d", "y"), "day first": ("d", "m", "y"),
}  # fmt: skip


class Labels(NamedTuple):
    """Distinct texts, read."""

    wall: pl.Series
    """Local time as written, naive datetime[us]; null where it cannot be read."""
    instant: pl.Series
    """UTC where the text says an offset or a zone."""
    notes: tuple[str, ...]


def read_plain(text: pl.Series) -> pl.Series | None:
    """A column all of whose labels are written in one usual way, year first; None for any other."""
    first = text.drop_nulls().head(1)
    for spelling in _PLAIN if len(first) else ():
        if "H" not in spelling:
            one = first.str.to_date(spelling, strict=False)
        else:
            one = first.str.to_datetime(spelling, strict=False, time_unit="us").dt.date()
        if one.null_count() or one.dt.year()[0] < 1000:
            continue
        if "H" not in spelling:
            read = text.str.to_date(spelling, strict=False).cast(pl.Datetime("us"))
        else:
            read = text.str.to_datetime(spelling, strict=False, time_unit="us")
        # Fewer than four digits of a year would be read as the first centuries.
        return read if read.null_count() == text.null_count() and _ordinary(read) else None
    return None


def read_labels(
    text: pl.Series,
    count: pl.Series,
    day_first: bool | None,
    last_day: date,
    where: str,
    tz: str | None,
) -> Labels:
    """Distinct labels, each by itself, in the order of day and month that fits most rows.

    count: how many rows have each. where: begins an error's text. Raises SourceError where two
    orders fit equally well.
    """
    bare = text.str.replace(_WEEKDAY, "").str.replace(r"(?i)(\d)(st|nd|rd|th)\b", "${1}")
    bare = plain_words(bare)
    parts = _dates(bare)
    rest = parts["rest"]
    clock = _clock(rest)
    wall, order = _resolve(parts, count, day_first, last_day, text, where)
    moment = wall + clock["clock"]
    after = clock["rest"].str.replace(r"^([+-][\d:]+|Z)\s*\[[A-Za-z_/+-]+\d*\]$", "${1}")
    ahead, zone = _zones(after, tz)
    unread = (after != "") & ahead.is_null() & zone.is_null()
    # IBKR writes UTC as 20240102-14:30:00.
    ibkr = text.str.contains(r"^\d{8}-\d\d:\d\d:\d\d$")
    ahead = ahead.set(ibkr & ahead.is_null(), 0)
    moment = moment.set(unread.fill_null(True), None)
    offset = (ahead.cast(pl.Int64) * 60_000_000).cast(pl.Duration("us"))
    instant = moment - offset
    for each in zone.unique().drop_nulls():
        if each == tz:
            continue  # wall time in the very zone that is wanted
        there = moment.set(zone.ne_missing(pl.Series([each])).fill_null(True), None)
        as_utc = there.dt.replace_time_zone(each, ambiguous="earliest", non_existent="null")
        instant = instant.fill_null(as_utc.dt.convert_time_zone("UTC").dt.replace_time_zone(None))
    notes = []
    if order is not None and order != "year first":
        notes.append(f"dates such as {text[0]!r} are read {order}")
    if ibkr.any():
        notes.append(f"labels such as {text.filter(ibkr)[0]!r} are UTC")
    return Labels(moment, instant, tuple(notes))


def _ordinary(read: pl.Series) -> bool:
    least = read.dt.year().min()  # as a number: Python's dates end at the years 1 and 9999
    return least is None or int(least) >= 1000  # type: ignore[arg-type]


def _dates(bare: pl.Series) -> pl.DataFrame:
    """Numbers a, b, c of each date as text, its kind, and what follows it.

    Kinds: "ymd" (four digits first), "named" (d, month name, y), "short" (three short numbers).
    """
    named_month = r"(?i)(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
    patterns = {
        "ymd": r"^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:$|[^\d])",
        "compact": r"^(\d{4})(\d{2})(\d{2})(?:$|[^\d]|\d{6}$|\d{4}$)",
        "short": r"^(\d{1,2})[-/. ](\d{1,2})[-/. ](\d{4}|\d{2})(?:$|[^\d])",
        "day named": rf"^(\d{{1,2}})[-/. ]?{named_month}[-/., ]*(\d{{4}}|\d{{2}})(?:$|[^\d])",
        "named day": rf"^{named_month}[-/. ]+(\d{{1,2}})[, ]+(\d{{4}}|\d{{2}})(?:$|[^\d])",
        "year named": rf"^(\d{{4}})[-/. ]?{named_month}[-/., ]*(\d{{1,2}})(?:$|[^\d])",
    }  # fmt: skip
    spans = {
        "ymd": r"^\d{4}[-/.]\d{1,2}[-/.]\d{1,2}", "compact": r"^\d{8}",
        "short": r"^\d{1,2}[-/. ]\d{1,2}[-/. ](?:\d{4}|\d{2})",
        "day named": rf"^\d{{1,2}}[-/. ]?{named_month}[-/., ]*(?:\d{{4}}|\d{{2}})",
        "named day": rf"^{named_month}[-/. ]+\d{{1,2}}[, ]+(?:\d{{4}}|\d{{2}})",
        "year named": rf"^\d{{4}}[-/. ]?{named_month}[-/., ]*\d{{1,2}}",
    }  # fmt: skip
    empty = pl.Series([None], dtype=pl.String).new_from_index(0, len(bare))
    a = b = c = kind = rest = empty
    for name, pattern in patterns.items():
        found = bare.str.extract_groups(pattern).struct.unnest()
        one, two, three = (found[column] for column in found.columns)
        if name == "named day":
            one, two = two, one
        if name == "year named":
            one, three = three, one
        fits = one.is_not_null() & kind.is_null()
        if not fits.any():
            continue
        label = {
            "compact": "ymd",
            "day named": "named",
            "named day": "named",
            "year named": "named",
        }
        a, b, c = (old.zip_with(~fits, new) for old, new in ((a, one), (b, two), (c, three)))
        rest = rest.zip_with(~fits, bare.str.replace(spans[name], ""))
        kind = kind.set(fits, label.get(name, name))
    frame = pl.DataFrame({"a": a, "b": b, "c": c, "kind": kind, "rest": rest})
    months = {month: f"{number:02d}" for number, month in enumerate(_MONTHS, 1)}
    return frame.with_columns(
        b=pl.when(pl.col("kind") == "named")
        .then(pl.col("b").str.to_lowercase().replace(months))
        .otherwise("b")
    )


def _resolve(
    parts: pl.DataFrame,
    count: pl.Series,
    day_first: bool | None,
    last_day: date,
    text: pl.Series,
    where: str,
) -> tuple[pl.Series, str | None]:
    """Dates as datetime[us], and which order the short ones were read in."""
    kind = parts["kind"]
    named = kind == "named"
    sure = _assemble(
        parts["a"].zip_with(~named.fill_null(False), parts["c"]),
        parts["b"],
        parts["c"].zip_with(~named.fill_null(False), parts["a"]),
        last_day,
    ).set((kind == "short").fill_null(True), None)
    short = (kind == "short").fill_null(False)
    if not short.any():
        return sure, None
    read: dict[str, pl.Series] = {}
    for order, letters in _ORDERS.items():
        columns = dict(zip(letters, ("a", "b", "c"), strict=True))
        year, month, day = (parts[columns[letter]] for letter in "ymd")
        found = _assemble(year, month, day, last_day)
        read[order] = found.set(~short, None)
    hits = {
        order: int((count * found.is_not_null().cast(pl.Int64)).sum())
        for order, found in read.items()
    }
    if day_first is not None:
        order = "day first" if day_first else "month first"
    else:
        best = max(hits.values())
        tied = [order for order, n in hits.items() if n == best]
        if best and len(tied) > 1 and not all(read[each].equals(read[tied[0]]) for each in tied):
            tied = _plausible(tied, read, last_day)
            if text.filter(short).str.contains(r"^\d{1,2}\.\d{1,2}\.").all():
                tied = [each for each in tied if each != "month first"]  # nobody writes 12.31.2024
        if best and len(tied) > 1 and not all(read[each].equals(read[tied[0]]) for each in tied):
            raise SourceError(
                f"{where} can be month/day or day/month, for example {text.filter(short)[0]!r}; "
                "say --day-first or --month-first, or write them as 2024-03-11"
            )
        order = tied[0]
    return sure.fill_null(read[order]), order


def _plausible(tied: list[str], read: dict[str, pl.Series], last_day: date) -> list[str]:
    """Of readings that fit equally well, those without future dates; a leading two-digit year only
    where it alone makes the dates lie close together."""
    spans: dict[str, float] = {}
    for order in tied:
        days = read[order].drop_nulls().dt.date()
        if (days <= last_day).all():
            spans[order] = (days.max() - days.min()).days  # type: ignore[operator, union-attr]
    others = [span for order, span in spans.items() if order != "year first"]
    if "year first" in spans and others:
        if spans["year first"] < min(others):
            return ["year first"]
        del spans["year first"]
    return list(spans) or tied


def _assemble(year: pl.Series, month: pl.Series, day: pl.Series, last_day: date) -> pl.Series:
    short = year.str.len_chars() == 2
    century = last_day.year // 100 * 100
    number = year.cast(pl.Int64, strict=False)
    recent = number + century
    whole = number.zip_with(
        ~short.fill_null(False), recent.zip_with(recent <= last_day.year, recent - 100)
    )
    iso = pl.DataFrame(
        {"y": whole.cast(pl.String).str.zfill(4), "m": month.str.zfill(2), "d": day.str.zfill(2)}
    ).select(pl.concat_str("y", "m", "d", separator="-"))
    return iso.to_series().str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))


def _clock(rest: pl.Series) -> pl.DataFrame:
    """Time of day after the date (midnight where there is none), and what follows it."""
    pieces = rest.str.extract_groups(_CLOCK.replace("(?=[ap]m)", "")).struct.unnest()
    hour_c, minute_c, second_c, fraction, hour_d, minute_d, second_d, hour_e, half = (
        pieces[column] for column in pieces.columns
    )
    alone = hour_e.is_not_null() & half.is_null()  # "5" after a date is not a time
    hour = hour_c.fill_null(hour_d).fill_null(hour_e).set(alone.fill_null(False), None)
    numbers = pl.DataFrame(
        {
            "h": hour.cast(pl.Int64, strict=False),
            "m": minute_c.fill_null(minute_d).cast(pl.Int64, strict=False).fill_null(0),
            "s": second_c.fill_null(second_d).cast(pl.Int64, strict=False).fill_null(0),
            "f": fraction.str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64, strict=False)
            .fill_null(0),
            "half": half.str.to_lowercase(),
        }
    )  # fmt: skip
    h = pl.col("h")
    hour12 = pl.when(pl.col("half") == "p").then(h % 12 + 12).when(pl.col("half") == "a")
    numbers = numbers.with_columns(h=hour12.then(h % 12).otherwise(h))
    fits = (pl.col("h") <= 23) & (pl.col("m") <= 59) & (pl.col("s") <= 59)
    micros = ((pl.col("h") * 60 + pl.col("m")) * 60 + pl.col("s")) * 1_000_000 + pl.col("f")
    found = numbers.select(
        pl.when(h.is_null()).then(0).when(fits).then(micros).cast(pl.Duration("us")).alias("clock")
    ).to_series()
    has = hour.is_not_null()
    after = rest.str.replace(_CLOCK.replace("(?=[ap]m)", ""), "")
    left = after.zip_with(has, rest).str.strip_chars(" ,")
    return pl.DataFrame({"clock": found, "rest": left})


def _zones(rest: pl.Series, tz: str | None) -> tuple[pl.Series, pl.Series]:
    """Minutes ahead of UTC, or the name of the zone, of what follows a clock."""
    signed = rest.str.extract_groups(r"(?i)^(?:GMT|UTC)?\s*([+-])(\d{1,2}):?(\d{2})?$")
    frame = signed.struct.unnest()
    sign, hours, minutes = (frame[column] for column in frame.columns)
    ahead = hours.cast(pl.Int64, strict=False) * 60 + minutes.cast(
        pl.Int64, strict=False
    ).fill_null(0)
    ahead = ahead.zip_with(sign.fill_null("+") == "+", -ahead)
    known = dict(_OFFSETS)
    if tz is not None and tz.startswith(_EAST):
        known["CST"] = 480
    named = rest.str.to_uppercase().replace_strict(known, default=None, return_dtype=pl.Int64)
    ahead = ahead.fill_null(named)
    zone = rest.str.extract(r"^\[?([A-Za-z_]+/[A-Za-z_/+-]+\d*)\]?$")
    zone = zone.fill_null(
        rest.str.to_uppercase().replace_strict(_ZONES, default=None, return_dtype=pl.String)
    )
    good = [each for each in zone.unique().drop_nulls() if _is_zone(each)]
    return ahead, zone.set(~zone.is_in(good).fill_null(False), None)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
