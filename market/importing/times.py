"""Times of a source's rows: each value read by itself, how to read them decided by the majority.

Knows one column at a time; no stores, no calendars beyond a time zone's name. A value that does not
fit how its column is written is null: one bad row never moves the others.
"""

from __future__ import annotations

from datetime import date, datetime, time
from typing import NamedTuple

import polars as pl

from market.errors import SourceError
from market.importing import time_text
from market.importing.numbers import is_text

_EPOCH = datetime(1970, 1, 2)
_OLDEST = datetime(1800, 1, 1)
_COMPACT = {
    8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S", 17: "%Y%m%d%H%M%S%3f"
}  # fmt: skip
"""Digits of a stamp without signs, and what they are."""
_RARE = 0.1
"""A spelling that fewer of a column's values have is a slip, unless it is the column's own."""
_EXCEL = (25_570, 80_000)
"""Spreadsheet days that are taken for dates: of 1970 to 2119; smaller ones may count from 1970."""
_EXCEL_ZERO = 25_569 * 86_400
"""Seconds from 1899-12-30 to 1970."""


class Times(NamedTuple):
    """One column of times, read."""

    wall: pl.Series
    """Label in local time, naive datetime[us]; null where it cannot be read."""
    instant: pl.Series
    """The same as UTC, naive datetime[us]; null where the source gives local time only."""
    notes: tuple[str, ...] = ()
    """How the column was read, where that is not plain to see."""


class TimeRules(NamedTuple):
    """What is known about a column before it is read."""

    tz: str | None
    """Time zone labels are wanted in."""
    source: str
    last_day: date
    day_first: bool | None = None
    daily: bool | None = None
    """Whether the bars are daily; None: not known yet."""
    utc: bool = False
    """Labels without an offset are UTC (a column called "Gmt time")."""

    @property
    def far(self) -> datetime:
        """What lies later was read in the wrong way, rather than dated wrongly."""
        return datetime(self.last_day.year + 50, 1, 1)


def read_times(column: pl.Series, rules: TimeRules) -> Times:
    """A column of labels in local time and, where the source says them, as instants.

    Instants (epoch numbers, texts or values with an offset) become wall time in rules.tz; where
    most of them are midnight in their own zone they name days, and stay as they are. Without tz,
    labels keep the offset they came with.
    Raises SourceError where no label at all can be read, where day and month cannot be told apart,
    or where labels with and without an offset are mixed and no time zone says how to read both.
    """
    dtype = column.dtype
    nothing = pl.Series(column.name, [None], pl.Datetime("us")).new_from_index(0, len(column))
    if isinstance(dtype, pl.Datetime):
        own = _bounded(column.dt.replace_time_zone(None), rules.source)
        if dtype.time_zone is None:
            return _of_utc(own, rules) if rules.utc else Times(own, nothing)
        utc = own if dtype.time_zone == "UTC" else None
        if utc is None:
            fits = own.is_not_null()
            zoned = column.set(~fits, None) if not fits.all() else column
            utc = zoned.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
            own = zoned.dt.replace_time_zone(None).cast(pl.Datetime("us"))
            utc = utc.cast(pl.Datetime("us"))
            if dtype.time_zone is not None and not fits.all():
                own = own.set(~fits, None)
        return _in_zone(own, utc, rules)
    if dtype == pl.Date:
        days = column.to_physical()
        plain = column.set(~days.is_between(-719_162, 2_932_896).fill_null(True), None)
        return Times(plain.cast(pl.Datetime("us")), nothing)
    if dtype.is_numeric() and not dtype.is_decimal():
        return _read_numbers(column, rules)
    if not is_text(column):
        raise _unreadable(column, rules.source)
    text = column.cast(pl.String).str.strip_chars()
    some = text.drop_nulls().head(1000)
    if len(some) and some.str.contains(r"^-?\d+(\.\d+)?([eE]\+?\d+)?$").mean() > 0.5:  # type: ignore[operator]
        return _read_numbers(text, rules)
    return _read_text(text, column, rules)


def join_clock(day: pl.Series, clock: pl.Series) -> pl.Series | None:
    """A date column and a time-of-day column as one text; None where the second is not a time of
    day.

    Clocks without signs may have lost their leading zeros: 93000 is 09:30:00, and 930 is 09:30
    where no clock of the column has more than four digits.
    """
    if day.dtype.is_temporal():
        left = day.cast(pl.Datetime("us")).dt.strftime("%Y-%m-%d")
    elif day.dtype.is_numeric():
        left = day.cast(pl.Int64, strict=False).cast(pl.String)
    else:
        left = day.cast(pl.String).str.strip_chars()
    if clock.dtype == pl.Time:
        right = clock.dt.strftime("%H:%M:%S")
    elif clock.dtype.is_numeric():
        right = clock.cast(pl.Int64, strict=False).cast(pl.String)
    elif is_text(clock):
        right = clock.cast(pl.String).str.strip_chars()
    else:
        return None
    digits = right.str.extract(r"^(\d{1,6})(?:\.0*)?$")
    if digits.null_count() * 2 < len(digits):
        wide = 4 if int(digits.str.len_chars().max() or 0) <= 4 else 6  # type: ignore[arg-type]
        padded = digits.str.zfill(wide)
        seconds = padded.str.slice(4, 2) if wide == 6 else pl.Series(["00"])
        right = padded.str.slice(0, 2) + ":" + padded.str.slice(2, 2) + ":" + seconds
    elif not right.drop_nulls().head(1000).str.contains(r"^\d{1,2}[:.]\d{2}").any():
        return None
    return (left + " " + right).rename(day.name)


def _bounded(wall: pl.Series, source: str) -> pl.Series:
    """Microseconds, null outside the years 1 to 9999, which nothing later could show.

    Raises SourceError where many are outside: no program writes such times, so the file is damaged.
    """
    assert isinstance(wall.dtype, pl.Datetime)
    per_second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[wall.dtype.time_unit]
    ticks = wall.to_physical()
    first, last = ticks.min(), ticks.max()
    if first is None or (first >= -(10**9) * per_second and last < 10**10 * per_second):  # type: ignore[operator]
        return wall.cast(pl.Datetime("us"))
    fits = ticks.is_between(-62_135_596_800 * per_second, 253_402_300_799 * per_second)
    lost = float((~fits).mean() or 0.0)  # type: ignore[arg-type]
    if lost > _RARE:
        raise SourceError(
            f"{source}: {lost:.0%} of the times in column {wall.name!r} lie beyond the year 9999; "
            "the file is damaged, or its unit of time is another one"
        )
    return (wall if fits.all() else wall.set(~fits.fill_null(True), None)).cast(pl.Datetime("us"))


def _read_numbers(column: pl.Series, rules: TimeRules) -> Times:
    """Digits such as 20240311 or 20240311093000, or seconds and finer since 1970 in UTC."""
    if column.dtype.is_integer():
        whole: pl.Series = column.cast(pl.Int64, strict=False)
    else:
        whole = (
            column.cast(pl.String).str.extract(r"^(-?\d+)(?:\.0*)?$").cast(pl.Int64, strict=False)
        )
    stamps = _compact(whole, rules)
    micros = _epochs(column, whole, rules)
    hits = len(stamps) - stamps.null_count(), len(micros) - micros.null_count()
    if max(hits) * 2 < len(column) - column.null_count():
        found = _short_dates(column, rules) or _excel_days(column, rules)
        if found is not None:
            return found
    if not max(hits):
        raise _unreadable(column, rules.source)
    nothing = pl.Series(column.name, [None], pl.Datetime("us")).new_from_index(0, len(column))
    if hits[0] >= hits[1]:
        return _of_utc(stamps, rules) if rules.utc else Times(stamps, nothing)
    return _in_zone(micros, micros, rules)


def _short_dates(column: pl.Series, rules: TimeRules) -> Times | None:
    """Digits such as 240311 or 11032024; None where most are not."""
    digits = column.cast(pl.String).str.replace(r"\.0*$", "").str.strip_chars()
    parted = digits.str.replace(r"^(\d\d)(\d\d)(\d\d|(?:19|20)\d\d)$", "${1}-${2}-${3}")
    if float((parted != digits).mean() or 0.0) < 1 - _RARE:  # type: ignore[arg-type]
        return None
    try:
        found = _read_text(parted.rename(column.name), column, rules)
    except SourceError as error:
        if "can be month/day" in str(error):
            raise
        return None
    return found if found.wall.null_count() <= _RARE * len(column) else None


def _excel_days(column: pl.Series, rules: TimeRules) -> Times | None:
    """Days since 1899-12-30, as spreadsheets count; None where most are no such numbers."""
    days = column.cast(pl.Float64, strict=False)
    fits = days.is_between(_EXCEL[0], _EXCEL[1]).fill_null(False)
    numbered = column.name.strip().lower() in ("", "index", "id", "n", "no", "nr", "row")
    if numbered or float(fits.mean() or 0.0) < 1 - _RARE:  # type: ignore[arg-type]
        return None
    seconds = (days.set(~fits, None) * 86_400).round().cast(pl.Int64)
    micros = ((seconds - _EXCEL_ZERO) * 1_000_000).cast(pl.Datetime("us")).rename(column.name)
    nothing = pl.Series(column.name, [None], pl.Datetime("us")).new_from_index(0, len(column))
    note = f"times such as {column.drop_nulls()[0]} are read as a spreadsheet's days since 1899"
    found = _of_utc(micros, rules) if rules.utc else Times(micros, nothing)
    return found._replace(notes=(note,))


def _compact(whole: pl.Series, rules: TimeRules) -> pl.Series:
    text = whole.cast(pl.String)
    length = text.str.len_chars()
    found = pl.Series(whole.name, [None], pl.Datetime("us")).new_from_index(0, len(whole))
    for digits, spelling in _COMPACT.items():
        has = (length == digits).fill_null(False)
        share = float(has.mean() or 0.0)  # type: ignore[arg-type]
        if share <= _RARE:
            continue
        if digits == 10:  # polars wants minutes beside hours
            text, spelling = text.set(has, None).fill_null(text + "00"), "%Y%m%d%H%M"
        some = text.set(~has, None)
        if digits == 8:
            read = some.str.to_date(spelling, strict=False).cast(pl.Datetime("us"))
        else:
            read = some.str.to_datetime(spelling, strict=False, time_unit="us")
        likely = read.is_between(_OLDEST, rules.far)
        found = found.fill_null(read.set(~likely.fill_null(False), None))
    return found


def _epochs(column: pl.Series, whole: pl.Series, rules: TimeRules) -> pl.Series:
    """Microseconds since 1970 of every value by its own magnitude: s, ms, us or ns."""
    number = column.cast(pl.Float64, strict=False)
    exact = pl.DataFrame({"n": number, "i": whole})
    n, i, size = pl.col("n"), pl.col("i"), pl.col("n").abs()
    # Before March 1973 seconds have eight digits, as row numbers may: then many must be below 0,
    # or begin a series that goes on beyond.
    small = (number.abs() < 1e8).fill_null(False)
    old = not _rare(number < -1e6) or not (_rare(small) or _rare(number >= 1e8))
    micros = (
        pl.when((size < 1e8) & (not old))
        .then(None)
        .when(size < 1e11)
        .then((i * 1_000_000).fill_null((n * 1e6).round().cast(pl.Int64, strict=False)))
        .when(size < 1e14)
        .then((i * 1_000).fill_null((n * 1e3).round().cast(pl.Int64, strict=False)))
        .when(size < 1e17)
        .then(i.fill_null(n.cast(pl.Int64, strict=False)))
        .when(size < 1e20)
        .then(i // 1_000)
    )
    read = exact.select(micros.cast(pl.Int64).cast(pl.Datetime("us"))).to_series()
    likely = read.is_between(_OLDEST if old else _EPOCH, rules.far) & (number != 0)
    return read.set(~likely.fill_null(False), None).rename(column.name)


def _rare(chosen: pl.Series) -> bool:
    return float(chosen.mean() or 0.0) <= _RARE  # type: ignore[arg-type]


def _read_text(text: pl.Series, column: pl.Series, rules: TimeRules) -> Times:
    nothing = pl.Series(column.name, [None], pl.Datetime("us")).new_from_index(0, len(column))
    if not rules.utc and (plain := time_text.read_plain(text)) is not None:
        return Times(plain, nothing)
    distinct = text.unique().drop_nulls()
    counts = text.value_counts(name="n")
    counts = pl.DataFrame({"text": distinct}).join(
        counts.rename({text.name: "text"}), on="text", how="left", maintain_order="left"
    )
    where = f"{rules.source}: the dates in column {column.name!r}"
    read = time_text.read_labels(
        distinct, counts["n"], rules.day_first, rules.last_day, where, rules.tz
    )
    if read.wall.null_count() == len(distinct):
        raise _unreadable(column, rules.source)
    table = pl.DataFrame({"text": distinct, "wall": read.wall, "instant": read.instant})
    rows = pl.DataFrame({"text": text}).join(table, on="text", how="left", maintain_order="left")
    wall, instant = rows["wall"].rename(column.name), rows["instant"].rename(column.name)
    aware = instant.is_not_null()
    if not aware.any():
        whole = _of_utc(wall, rules) if rules.utc else Times(wall, nothing)
        return whole._replace(notes=read.notes)
    found = _in_zone(wall, instant, rules)
    naive = wall.is_not_null() & ~aware
    if not naive.any():
        return found._replace(notes=read.notes)
    if rules.tz is None:
        raise SourceError(
            f"{rules.source}: column {column.name!r} mixes labels with and without a time zone, "
            f"{text.filter(aware)[0]!r} and {text.filter(naive)[0]!r}; say --tz or --venue, and "
            "those without are read as its wall time"
        )
    note = f"{int(naive.sum()):,} labels without a time zone are read as wall time in {rules.tz}"
    return Times(wall.zip_with(naive, found.wall), found.instant, (*read.notes, note))


def _of_utc(wall: pl.Series, rules: TimeRules) -> Times:
    return _in_zone(wall, wall, rules)


def _in_zone(own: pl.Series, utc: pl.Series, rules: TimeRules) -> Times:
    """Wall time in rules.tz of instants that had their own wall time; days stay days."""
    nothing = pl.Series(own.name, [None], pl.Datetime("us")).new_from_index(0, len(own))
    known = utc.is_not_null()
    midnight = (own.filter(known).dt.time() == time(0)).mean()
    days = rules.daily is not False and float(midnight or 0.0) > 0.5  # type: ignore[arg-type]
    if days:
        return Times(own, nothing)
    if rules.tz is None:
        return Times(own, utc)
    there = utc.dt.replace_time_zone("UTC").dt.convert_time_zone(rules.tz)
    return Times(there.dt.replace_time_zone(None).rename(own.name), utc)


def _unreadable(column: pl.Series, source: str) -> SourceError:
    given = column.drop_nulls()
    example = repr(given[0]) if len(given) else "no value"
    return SourceError(
        f"{source}: column {column.name!r} holds no readable time, for example {example[:60]}; "
        "write times as 2024-03-11 or 2024-03-11 09:30, or name another column with --map "
        "timestamp=..."
    )
