"""Layouts that are not a plain table of bars: no header, several symbols side by side, NSE series.

Knows columns of text; turns each of these into a table with one bar per row, which columns and
times then read like any other.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from market.errors import ConfigError, SourceError
from market.fields import PRICES
from market.importing.cells import unwrapped
from market.importing.names import FIELDS, USUAL_NAMES, plain
from market.importing.numbers import NumberStyle, read_number
from market.importing.text import RAGGED_COLUMN, Table

ROW_COLUMN = "\0row"
"""Row of the source, 1-based, where a layout gives several bars per row or leaves rows out."""

_WIDTHS = {
    12: ("volume", "close_time", "amount", "trades", "taker_volume", "taker_amount", "ignore"),
    8: ("vwap", "volume", "trades"),
    7: ("volume", "trades"),
}
"""What follows time, open, high, low and close in files without a header, by number of columns:
Binance; Kraken's interface; Kraken's and most others' files."""
_FIELD_WORDS = {
    "open": "open", "high": "high", "low": "low", "close": "close", "volume": "volume",
    "adjclose": "adj close", "dividends": "dividends", "stocksplits": "stock splits",
}  # fmt: skip
_WORD = r"(?P<field>adj[ _.]?close|open|high|low|close|volume|dividends|stock[ _.]?splits)"
_BETWEEN = r"(?:', '|[_ .:|/,-])"
_PREFIX = re.compile(rf"(?i)^(?:\(')?{_WORD}{_BETWEEN}(?P<symbol>.+?)(?:'\))?$")
_SUFFIX = re.compile(rf"(?i)^(?:\(')?(?P<symbol>.+?){_BETWEEN}{_WORD}(?:'\))?$")
_UNIT = re.compile(
    r"(?i)[-($[]*(?:usd?|eur|gbp|gbx|jpy|cny|hkd|inr|krw|chf|cad|aud|price|float)[])]*"
)
"""What a row of units below the header says of prices."""
_SERIES = ("EQ", "BE", "BZ")
_SAMPLE = 200


def as_bars(
    table: Table, positions: Sequence[str], source: str, mapped: dict[str, str]
) -> tuple[pl.DataFrame, list[str]]:
    """One bar per row, under names that find_columns knows, and what was done about it.

    Raises SourceError where a file without a header cannot be bars in the usual order.
    """
    frame = unwrapped(table.frame)
    table = replace(table, frame=frame)
    if positions:
        return _by_position(frame, positions, source), []
    if not table.header:
        return _without_header(frame, source)
    if table.extra:
        return _stacked_headers(table, source, mapped)
    return unstack_names(frame, mapped)


def _by_position(frame: pl.DataFrame, positions: Sequence[str], source: str) -> pl.DataFrame:
    columns = [name for name in frame.columns if name != RAGGED_COLUMN]
    names = {"date": "timestamp", "datetime": "timestamp", "time": "timestamp"}
    wanted = [each.strip().lower() for each in positions]
    both = "date" in wanted and "time" in wanted
    chosen: dict[str, str] = {}
    for column, name in zip(columns, wanted, strict=False):
        if name in ("", "_", "-"):
            continue
        field = "time" if name == "time" and both else names.get(name, name)
        field = "date" if name == "date" and both else field
        if field not in (*FIELDS, "time", "date"):
            raise ConfigError(
                f"--columns {name}: columns are {', '.join(FIELDS)}, or _ for one to leave out"
            )
        chosen[column] = field
    if len(wanted) > len(columns):
        raise SourceError(
            f"{source}: --columns names {len(wanted)} columns, the file has {len(columns)}"
        )
    keep = [*chosen, *([RAGGED_COLUMN] if RAGGED_COLUMN in frame.columns else [])]
    return frame.select(keep).rename(chosen)


def _without_header(frame: pl.DataFrame, source: str) -> tuple[pl.DataFrame, list[str]]:
    """Columns of a file without a header by what they hold: time, then open, high, low, close."""
    columns = [name for name in frame.columns if name != RAGGED_COLUMN]
    some = frame.head(_SAMPLE)
    lead = next((n for n in (1, 2, 3) if _are_prices(some, columns[n : n + 4])), None)
    if lead is None:
        raise SourceError(
            f"{source}: no header, and the columns are not time, open, high, low, close; name them "
            "by position with --columns, such as --columns time,open,high,low,close,volume"
        )
    first = [some[name].cast(pl.String) for name in columns[:lead]]
    clocks = [bool(each.str.contains(r"^\d{1,2}:\d\d").mean() == 1.0) for each in first]
    dates = [
        bool(each.str.contains(r"^\d{4}.?\d\d.?\d\d|^\d{1,2}[-/.]|^\d{9,}").mean() == 1.0)
        for each in first
    ]
    names = ["symbol" if not (c or d) else "time" if c else "date"
             for c, d in zip(clocks, dates, strict=True)]  # fmt: skip
    if names.count("date") != 1 or names.count("symbol") > 1 or names.count("time") > 1:
        raise SourceError(
            f"{source}: no header, and the first columns are not dates; name them by position with "
            "--columns, such as --columns time,open,high,low,close,volume"
        )
    width = len(columns) - lead + 1
    after = _WIDTHS.get(width, ("volume",))
    if width == 7 and _is_adjusted(some, *columns[lead + 3 : lead + 5]):
        after = ("adj close", "volume")
    names += [*PRICES, *after][: len(columns) - lead]
    names += [f"c{i}" for i in range(len(names), len(columns))]
    shown = ", ".join(names)
    renamed = frame.rename(dict(zip(columns, names, strict=True)))
    return renamed, [f"no header: the columns are read as {shown}"]


def _are_prices(some: pl.DataFrame, columns: list[str]) -> bool:
    """Whether four columns keep the rule low <= open, close <= high in nearly all rows."""
    if len(columns) < 4:
        return False
    o, h, lo, c = (
        read_number(some[name], "", NumberStyle(), optional=True).fill_nan(None) for name in columns
    )
    fits = (lo <= o) & (lo <= c) & (h >= o) & (h >= c) & (lo > 0)
    return float(fits.fill_null(False).mean() or 0.0) >= 0.9  # type: ignore[arg-type]


def _is_adjusted(some: pl.DataFrame, close: str, between: str) -> bool:
    """Whether the column after the close is an adjusted close rather than a volume: below it, by
    about the same factor in all rows."""
    whole, part = (
        read_number(some[name], "", NumberStyle(), optional=True) for name in (close, between)
    )
    factor = (part / whole).drop_nulls()
    if len(factor) < 5:
        return False
    least, most = factor.quantile(0.05) or 0.0, factor.quantile(0.95) or 0.0
    return least > 0.01 and most <= 1.001 and most < least * 1.3


def _stacked_headers(
    table: Table, source: str, mapped: dict[str, str]
) -> tuple[pl.DataFrame, list[str]]:
    """yfinance's two or three header rows: fields and tickers, in either order."""
    frame = table.frame
    columns = [name for name in frame.columns if name != RAGGED_COLUMN]
    top = [re.sub(r"_duplicated_\d+$", "", name) for name in columns]
    rows = [top, *(list(row) for row in table.extra)]
    score = [sum(plain(cell) in _FIELD_WORDS for cell in row) for row in rows]
    fields = rows[max(range(len(rows)), key=lambda i: score[i])]
    others = [
        row for row in rows
        if row is not fields and sum(bool(cell.strip()) for cell in row[1:]) >= 1
    ]  # fmt: skip
    named = columns[0] in mapped.values()
    beside = [i for i, field in enumerate(fields) if i and plain(field) in ("date", "datetime")]
    time = columns[beside[0] if beside else 0]
    renamed = frame if named else frame.rename({time: "timestamp"})
    if not others:
        return renamed, []
    if len(others) > 1:
        raise SourceError(f"{source}: more than two header rows; keep those of fields and tickers")
    pairs = [
        (column, _FIELD_WORDS[plain(field)], ticker.strip())
        for column, field, ticker in zip(columns[1:], fields[1:], others[0][1:], strict=False)
        if plain(field) in _FIELD_WORDS and ticker.strip()
    ]
    having: dict[str, set[str]] = defaultdict(set)
    for _, field, name in pairs:
        having[name].add(field)
    if not any(set(PRICES) <= own and not _UNIT.fullmatch(name) for name, own in having.items()):
        note = f"the row {', '.join(others[0])[:80]} below the header is left out: units"
        plainly = renamed.rename(dict(zip([c for c, _, _ in pairs], [f for _, f, _ in pairs],
                                          strict=True)))  # fmt: skip
        return plainly, [note]
    return _unstack(renamed, pairs)


def unstack_names(frame: pl.DataFrame, mapped: dict[str, str]) -> tuple[pl.DataFrame, list[str]]:
    """Columns such as Close_AAAA, AAAA.Close or ('Close', 'AAAA') as one bar per row and symbol.

    Frames whose columns are not all of this kind come back as they are.
    """
    known = {plain(name) for name in frame.columns}
    if mapped or all(any(usual in known for usual in USUAL_NAMES[price]) for price in PRICES):
        return frame, []
    pairs = []
    for column in frame.columns:
        found = _PREFIX.match(column) or _SUFFIX.match(column)
        if found:
            symbol = re.sub(r"^\((.+)\)$", r"\1", found["symbol"])
            pairs.append((column, _FIELD_WORDS[plain(found["field"])], symbol))
    counts = Counter(symbol for _, field, symbol in pairs if field in PRICES)
    if not any(count >= 4 for count in counts.values()):
        return frame, []
    return _unstack(frame, pairs)


def _unstack(
    frame: pl.DataFrame, pairs: list[tuple[str, str, str]]
) -> tuple[pl.DataFrame, list[str]]:
    """One bar per row from (column, field, symbol); days a symbol has no bar are left out."""
    by_symbol: dict[str, dict[str, str]] = defaultdict(dict)
    for column, field, symbol in pairs:
        by_symbol[symbol].setdefault(field, column)
    taken = {column for column, _, _ in pairs}
    shared = [name for name in frame.columns if name not in taken]
    numbered = frame.with_row_index(ROW_COLUMN, offset=1)
    fields = list(dict.fromkeys(field for _, field, _ in pairs))
    parts = []
    for symbol, columns in by_symbol.items():
        part = numbered.select(
            ROW_COLUMN,
            *shared,
            pl.lit(symbol).alias("symbol"),
            *(
                (pl.col(columns[field]) if field in columns else pl.lit(None)).alias(field)
                for field in fields
            ),
        )
        prices = [name for name in PRICES if name in fields]
        parts.append(part.filter(~pl.all_horizontal(pl.col(prices).is_null())))
    notes = [f"{len(by_symbol)} symbols side by side: {', '.join(list(by_symbol)[:5])}"]
    return pl.concat(parts, how="vertical_relaxed"), notes if len(by_symbol) > 1 else []


def one_series(
    frame: pl.DataFrame, symbol: str, series: str, source: str
) -> tuple[pl.DataFrame, list[str]]:
    """One NSE series per symbol: EQ where it has one, else BE, else BZ.

    Raises SourceError where a symbol has several series and none of these.
    """
    letters = pl.col(series).cast(pl.String).str.strip_chars().str.to_uppercase()
    per = frame.lazy().select(symbol, letters.alias(series)).unique().collect()
    several = per.filter(pl.len().over(symbol) > 1)
    if not several.height:
        return frame, []
    ranks = {name: rank for rank, name in enumerate(_SERIES)}
    rank = pl.col(series).replace_strict(ranks, default=None, return_dtype=pl.Int64)
    best = several.with_columns(rank=rank).group_by(symbol).agg(pl.col("rank").min())
    unclear = best.filter(pl.col("rank").is_null())
    if unclear.height:
        name = unclear[symbol][0]
        found = several.filter(pl.col(symbol) == name)[series].sort().to_list()
        raise SourceError(
            f"{source}: {name} has the series {', '.join(found)}; keep one of them, or give each a "
            "symbol of its own"
        )
    names = pl.DataFrame({"rank": list(range(len(_SERIES))), "chosen": list(_SERIES)})
    chosen = best.join(names, on="rank", how="left").select(symbol, "chosen")
    if ROW_COLUMN not in frame.columns:
        frame = frame.with_row_index(ROW_COLUMN, offset=1)
    joined = frame.join(chosen, on=symbol, how="left", maintain_order="left")
    kept = joined.filter(pl.col("chosen").is_null() | (letters == pl.col("chosen")))
    left = frame.height - kept.height
    shown = ", ".join(best[symbol].sort().head(3).to_list())
    note = f"{left:,} rows of other series than EQ (or BE, BZ) are left out, for example of {shown}"
    return kept.drop("chosen"), [note]
