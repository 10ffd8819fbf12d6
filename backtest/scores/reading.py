"""Tables of one's own, read by stated types: symbols stay text, numbers are numbers, dates dates.

Knows files and columns; nothing of bars or portfolios.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from backtest.fills.terms import LEAST_MOST, Terms
from market.errors import BacktestInputError, SourceError
from market.importing.numbers import NumberStyle, is_text, number_style, read_number
from market.importing.text import read_delimited

DATE_COLUMNS = ("as_of", "as_of_date", "date", "session", "timestamp", "time", "datetime")
SYMBOL_NAMES = ("ticker", "code", "ts_code", "instrument", "asset", "secid", "stock", "sid")
DATE_NAMES = ("day", "trade_date", "tradedate", "trading_day", "asof", "asof_date", "asofdate")
NO_NAMES = ("", "index", "unnamed: 0", "__index_level_0__", "level_0")
"""How the first column is called where nobody named it."""
DATES = (
    "%Y-%m-%d", "%Y%m%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d-%b-%Y", "%d %b %Y", "%d-%m-%Y",
    "%b %d, %Y", "%B %d, %Y", "%d %B %Y", "%d-%b-%y",
)  # fmt: skip
"""Forms of a date; 17/01/2023 besides, where the file shows which number is the day."""
CLOCKS = ("%H:%M:%S%.f", "%H:%M", "%H%M%S")
COMPACT = "%Y%m%d%H%M%S"
EPOCHS = ((8, 11, "s"), (12, 14, "ms"), (15, 17, "us"), (18, 20, "ns"))
"""Digits of whole numbers that count from 1970, and their unit; eight digits are a date."""


def read_table(path: Path, what: str) -> pl.DataFrame:
    """A Parquet file, or a CSV file with every column as text, its columns by `usual_columns`.

    what: words for messages. CSV files may be packed, and apart by semicolons or tabs. Raises
    BacktestInputError for a file that is not there or not a table.
    """
    if not path.is_file():
        raise BacktestInputError(f"{path}: no such {what} file")
    try:
        parquet = path.suffix.lower() in (".parquet", ".pq")
        frame = pl.read_parquet(path) if parquet else read_delimited(path)
    except SourceError as error:
        raise BacktestInputError(str(error)) from error
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BacktestInputError(f"{path}: not a table of {what}: {reason}") from error
    return usual_columns(frame)


def usual_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its columns named as we name them: `Date` date, `Ticker` symbol.

    Names are compared without case and blanks. Columns named by symbols keep their names, unless a
    column of symbols is there too. A first column without a name holds dates.
    """
    low = {name: name.strip().lstrip("\ufeff").lower() for name in frame.columns}
    renamed: dict[str, str] = {}
    taken = set(low.values())
    if "symbol" not in taken:
        found = next((name for name, each in low.items() if each in SYMBOL_NAMES), None)
        if found is not None:
            renamed[found] = "symbol"
    if not taken & set(DATE_COLUMNS):
        first = frame.columns[:1]
        found = next((name for name, each in low.items() if each in DATE_NAMES), None)
        if found is None and first and low[first[0]] in NO_NAMES:
            found = first[0]
        if found is not None:
            renamed[found] = "date"
    long = "symbol" in taken or "symbol" in renamed.values()
    for name, each in low.items():
        if name not in renamed and (long or each in DATE_COLUMNS):
            renamed[name] = each
    doubled = [name for name in renamed.values() if list(renamed.values()).count(name) > 1]
    if doubled:
        raise BacktestInputError(f"two columns are called {doubled[0]} (rule: one of each)")
    kept = {name: name.strip() for name in frame.columns if name not in renamed}
    return frame.rename({**renamed, **kept})


def need(frame: pl.DataFrame, names: Sequence[str], where: str) -> None:
    """Raise BacktestInputError naming columns that are not there."""
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise BacktestInputError(
            f"{where}: lacks the column {', '.join(missing)}; found {', '.join(frame.columns)}"
        )


def with_symbols(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its symbols as text, without blanks and quotes around them.

    Raises BacktestInputError naming a row without one.
    """
    text = frame["symbol"].cast(pl.String).str.strip_chars(" \t\"'")
    empty = (text.is_null() | (text == "")).arg_true()
    if len(empty):
        raise BacktestInputError(f"row {empty[0] + 1}: has no symbol (rule: every row names one)")
    return frame.with_columns(text.alias("symbol"))


def with_numbers(frame: pl.DataFrame, *names: str) -> pl.DataFrame:
    """The frame with these columns as float64; blanks, and words for nothing (NA, -), are null.

    Text may group digits (1,234.5), have a decimal comma, or be a percentage (5% is 0.05). Raises
    BacktestInputError naming symbol and row of a text that is not a number, and of infinities.
    """
    texts = [name for name in names if is_text(frame[name])]
    style = _style([frame[name] for name in texts])
    for name in names:
        if name in texts:
            text = frame[name].cast(pl.String).str.strip_chars()
            share = text.str.ends_with("%")
            value = read_number(text.str.strip_chars_end("% "), name, style, optional=True)
            value = pl.select(pl.when(share).then(value / 100).otherwise(value)).to_series()
            made, cast = frame, frame.with_columns(value.alias(name))
            bad = made.filter(value.is_nan())
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


def _style(columns: list[pl.Series]) -> NumberStyle:
    try:
        return number_style(columns, "", None, None)
    except SourceError as error:
        raise BacktestInputError(
            f"{str(error).removeprefix(': ').partition(';')[0]}; write numbers with a point"
        ) from error


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
    beyond the 12th shows which is which; with a time of day, and with an offset an instant. Whole
    numbers of ten digits and more are seconds, milliseconds … since 1970. Local times that are all
    midnight are dates. Raises BacktestInputError for anything else.
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
    if not len(text):
        return values.cast(pl.String).str.to_date(DATES[0], strict=False)
    days = (*DATES, *_slashed(text))
    for form in days:
        found = text.str.to_date(form, strict=False)
        if _modern(found):
            return found
    if (since := _since_1970(text)) is not None:
        return since
    zoned = text.str.contains(r"\d ?(Z|UTC|[+-]\d\d:?\d\d)$")
    local = text.str.replace(r"(\d)[ T,]+(\d+:|\d{6})", "${1}T${2}")
    if zoned.all():
        local = local.str.replace(r" ?(Z|UTC)$", "+00:00")
        local = local.str.replace(r" ?([+-]\d\d):?(\d\d)$", "${1}:${2}")
    offset = "%:z" if zoned.all() else ""
    for form in (*(f"{day}T{clock}{offset}" for day in days for clock in CLOCKS), COMPACT):
        parsed = local.str.to_datetime(form, strict=False, time_unit="us")
        if _modern(parsed):
            return as_times(parsed)
    wrong = text.filter(text.str.to_date(DATES[0], strict=False).is_null())
    raise BacktestInputError(
        f"{wrong[0] if len(wrong) else text[0]!r} is not a date that all others agree with (rule: "
        "2023-01-17, 20230117, 17.01.2023, 17-Jan-2023, with a time of day 2023-01-17T10:00, an "
        "instant 2023-01-17T10:00Z)"
    )


def _modern(found: pl.Series) -> bool:
    """Whether a form read every text, and none as of a year that two digits made."""
    return not found.is_null().any() and bool((found.dt.year() >= 1800).all())


def _since_1970(text: pl.Series) -> pl.Series | None:
    """Instants of whole numbers that count from 1970; None where they are something else."""
    if not text.str.contains(r"^\d+$").all():
        return None
    digits = text.str.len_chars()
    for least, end, unit in EPOCHS:
        if digits.is_between(least, end - 1).all() and digits.min() != 8:
            count = text.cast(pl.Int64)
            if unit == "s":
                count, unit = count * 1000, "ms"
            at = count.cast(pl.Datetime(unit)).dt.cast_time_unit("us")  # type: ignore[arg-type]
            return at.dt.replace_time_zone("UTC")
    return None


def _slashed(text: pl.Series) -> tuple[str, ...]:
    """Whether 17/01/2023 is day/month or month/day; nothing where the values do not tell."""
    parts = text.str.extract_groups(r"^(\d{1,2})/(\d{1,2})/\d{4}( .*)?$").struct.unnest()
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
