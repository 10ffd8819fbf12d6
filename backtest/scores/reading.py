"""Tables of one's own, read by stated types: symbols stay text, numbers are numbers, dates dates.

Knows files and columns; nothing of bars or portfolios.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from backtest.fills.terms import LEAST_MOST, Terms
from market.errors import BacktestInputError

DATE_COLUMNS = ("as_of", "as_of_date", "date", "session", "timestamp", "time", "datetime")
DATES = ("%Y-%m-%d", "%Y%m%d", "%Y/%m/%d", "%d.%m.%Y", "%d-%b-%Y", "%d %b %Y", "%d-%m-%Y")
"""Forms of a date; 17/01/2023 besides, where the file shows which number is the day."""
CLOCKS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y%m%dT%H:%M:%S", "%Y%m%dT%H:%M")


def read_table(path: Path, what: str) -> pl.DataFrame:
    """A Parquet file as it is, or a CSV file with every column as text.

    what: words for messages. Raises BacktestInputError for a file that is not there or not a table.
    """
    if not path.is_file():
        raise BacktestInputError(f"{path}: no such {what} file")
    try:
        if path.suffix.lower() == ".parquet":
            return pl.read_parquet(path)
        frame = pl.read_csv(path, infer_schema=False, encoding="utf8-lossy")
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BacktestInputError(f"{path}: not a table of {what}: {reason}") from error
    return frame.rename({name: name.strip().lstrip("\ufeff") for name in frame.columns})


def need(frame: pl.DataFrame, names: Sequence[str], where: str) -> None:
    """Raise BacktestInputError naming columns that are not there."""
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise BacktestInputError(
            f"{where}: lacks the column {', '.join(missing)}; found {', '.join(frame.columns)}"
        )


def with_symbols(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its symbols as text, without blanks around them."""
    return frame.with_columns(pl.col("symbol").cast(pl.String).str.strip_chars())


def with_numbers(frame: pl.DataFrame, *names: str) -> pl.DataFrame:
    """The frame with these columns as float64; blanks are null.

    Raises BacktestInputError naming symbol and row of a text that is not a number, and of
    infinities.
    """
    for name in names:
        if frame.schema[name] == pl.String:
            text = pl.col(name).str.strip_chars().replace("", None)
            made = frame.with_columns(text.alias(name))
            cast = made.with_columns(pl.col(name).cast(pl.Float64, strict=False))
            bad = made.filter(pl.col(name).is_not_null() & cast[name].is_null())
        else:
            try:
                made = cast = frame.with_columns(pl.col(name).cast(pl.Float64))
            except pl.exceptions.PolarsError as error:
                raise BacktestInputError(
                    f"column {name} is {frame.schema[name]} (rule: numbers)"
                ) from error
            bad = frame.head(0)
        bad = bad if bad.height else made.filter(cast[name].is_infinite().fill_null(False))
        if bad.height:
            row = bad.row(0, named=True)
            where = row.get("symbol", "row")
            day = next((f" of {row[c]}" for c in DATE_COLUMNS if c in row), "")
            raise BacktestInputError(f"{where}: {name}{day} is {row[name]!r} (rule: a number)")
        frame = cast
    return frame


def with_flags(frame: pl.DataFrame, *names: str) -> pl.DataFrame:
    """The frame with these columns as true or false: true, 1, yes, y; a blank is false."""
    for name in names:
        if frame.schema[name] == pl.Boolean:
            frame = frame.with_columns(pl.col(name).fill_null(False))
            continue
        text = pl.col(name).cast(pl.String).str.strip_chars().str.to_lowercase().fill_null("")
        yes, no = ("true", "1", "1.0", "yes", "y"), ("false", "0", "0.0", "no", "n", "", "nan")
        bad = frame.filter(~text.is_in((*yes, *no)))
        if bad.height:
            row = bad.row(0, named=True)
            raise BacktestInputError(
                f"{row.get('symbol', 'row')}: {name} is {row[name]!r} (rule: true or false)"
            )
        frame = frame.with_columns(text.is_in(yes).alias(name))
    return frame


def when_column(frame: pl.DataFrame, what: str) -> str:
    """The column that says when. Raises BacktestInputError where there is none."""
    found = next((name for name in DATE_COLUMNS if name in frame.columns), None)
    if found is None:
        raise BacktestInputError(f"{what} have no date: expected one of {', '.join(DATE_COLUMNS)}")
    return found


def as_times(values: pl.Series) -> pl.Series:
    """Dates (Date), instants (Datetime in UTC) or local labels (Datetime without a time zone).

    Text may be ISO, 20230117, 2023/01/17, 17.01.2023, 17-Jan-2023, or 17/01/2023 where some day
    beyond the 12th shows which is which; with a time of day, and with an offset an instant. Local
    times that are all midnight are dates. Raises BacktestInputError for anything else.
    """
    dtype = values.dtype
    if dtype == pl.Date:
        return values
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is not None:
            return values.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
        values = values.dt.cast_time_unit("us")
        return values.dt.date() if (values.dt.truncate("1d") == values).all() else values
    if not (dtype.is_integer() or dtype == pl.String):
        raise BacktestInputError(f"dates are {dtype} (rule: dates, instants, or text of them)")
    text = values.cast(pl.String).str.strip_chars()
    for form in (*DATES, *_slashed(text)):
        found = text.str.to_date(form, strict=False)
        if not found.is_null().any():
            return found
    zoned = text.str.contains(r"\d(Z|[+-]\d\d:?\d\d)$")
    local = text.str.replace(r"(\d)[ T]+(\d)", "${1}T${2}")
    if zoned.all():
        local = local.str.replace(r"Z$", "+00:00").str.replace(r"([+-]\d\d):?(\d\d)$", "${1}:${2}")
        forms = tuple(form + "%:z" for form in CLOCKS)
    else:
        forms = CLOCKS
    for form in forms:
        parsed = local.str.to_datetime(form, strict=False, time_unit="us")
        if not parsed.is_null().any():
            return as_times(parsed)
    wrong = text.filter(text.str.to_date(DATES[0], strict=False).is_null())
    raise BacktestInputError(
        f"{wrong[0] if len(wrong) else text[0]!r} is not a date that all others agree with (rule: "
        "2023-01-17, 20230117, 17.01.2023, 17-Jan-2023, with a time of day 2023-01-17T10:00, an "
        "instant 2023-01-17T10:00Z)"
    )


def _slashed(text: pl.Series) -> tuple[str, ...]:
    """Whether 17/01/2023 is day/month or month/day; nothing where the values do not tell."""
    parts = text.str.extract_groups(r"^(\d{1,2})/(\d{1,2})/\d{4}$").struct.unnest()
    numbers = parts.select(pl.all().cast(pl.Int64, strict=False))
    first, second = (numbers.to_series(i).max() for i in (0, 1))
    if first is None or second is None:
        return ()
    if first > 12:  # type: ignore[operator]
        return ("%d/%m/%Y",)
    return ("%m/%d/%Y",) if second > 12 else ()  # type: ignore[operator]


def read_groups(path: Path) -> dict[str, str]:
    """Group of each symbol, from a table of symbol and group."""
    frame = read_table(path, "groups")
    need(frame, ("symbol", "group"), str(path))
    frame = with_symbols(frame).with_columns(pl.col("group").cast(pl.String))
    doubled = frame.filter(pl.col("symbol").is_duplicated())
    if doubled.height:
        raise BacktestInputError(
            f"{doubled['symbol'][0]}: two groups in {path} (rule: one row per symbol)"
        )
    return dict(frame.select("symbol", "group").iter_rows())


def read_terms(path: Path) -> Terms:
    """What differs from symbol to symbol; see `Terms`."""
    frame = read_table(path, "terms")
    need(frame, ("symbol",), str(path))
    frame = with_symbols(frame)
    return Terms(with_numbers(frame, *(n for n in LEAST_MOST if n in frame.columns)))


def read_actions(path: Path) -> pl.DataFrame:
    """Splits, dividends and funding of raw prices; see `PriceTable.with_actions`."""
    frame = read_table(path, "actions")
    need(frame, ("symbol", "session"), str(path))
    numbers = [name for name in ("split", "dividend", "funding") if name in frame.columns]
    frame = with_numbers(with_symbols(frame), *numbers)
    times = as_times(frame["session"])
    if times.dtype != pl.Date:
        raise BacktestInputError(f"{path}: sessions are instants (rule: dates)")
    return frame.with_columns(times.alias("session"))
