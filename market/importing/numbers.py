"""Numbers as text: decimal signs, groups of digits, currencies, missing markers.

Knows columns of one source at a time. How a source writes numbers is decided by all of its columns
together, since 1,234 alone can be two things.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from market.errors import SourceError

_MISSING = (
    *("", "null", "none", "nan", "na", "n/a", "n.a.", "n.a", "#n/a", "#na", "#n/a n/a", "#value!"),
    *("<na>", "nat", "nil", "\\n", "-", "--", "---", "—", "–", ".", "..", "x", "?", "*", "missing"),
    *("undefined", "#div/0!", "#ref!", "#num!", "-nan", "+nan", "1.#qnan", "-1.#ind", "#name?"),
    *("(null)", "[null]", "nd", "n/d", "n.d.", "n.v.", "k.a.", "n. a.", "n. v.", "k. a.", "s/d"),
    *("#nv", "#n/a requesting data...", "no data", "nodata", "not available", "unavailable"),
    *("unknown", "unch", "unchanged", "nan%", "blank", "empty", "halted", "suspended"),
)
"""What sources write where they have no value, in lower case."""
_CURRENCY = (
    r"(?:[$€£¥₹₩₺₽]|(?:US|HK|NT|C|A|R|S)\$|Rs\.?|kr\.?|zł|USD|EUR|GBP|GBX|JPY|CNY|HKD|INR|KRW|TWD|CHF|"
    r"CAD|AUD|NZD|SGD|BRL|MXN|ZAR|SEK|NOK|DKK|PLN|CZK|HUF|TRY|RUB|ILS|THB)?"
)
_SIGNS = rf"^([-+]?)\s*{_CURRENCY}\s*"
_END = rf"\s*{_CURRENCY}$"
_POWERS = (("[kK]", "e3"), ("[mM]", "e6"), ("[bB]", "e9"), ("[tT]", "e12"))
_SAMPLE = 20_000


@dataclass(frozen=True)
class NumberStyle:
    """How a source writes numbers."""

    decimal: str = "."
    thousands: str = ","


def is_text(column: pl.Series) -> bool:
    """Whether a column holds text, also as categories."""
    return column.dtype in (pl.String, pl.Categorical, pl.Enum)


def number_style(
    columns: Sequence[pl.Series], source: str, decimal: str | None, thousands: str | None
) -> NumberStyle:
    """How these columns, the prices and volumes of one source, write numbers.

    decimal, thousands: as told, or None. Raises SourceError naming the option to give where the
    columns can be read in two ways.
    """
    if decimal is not None:
        return NumberStyle(decimal, thousands if thousands is not None else ",."[decimal == ","])
    if thousands is not None:
        return NumberStyle(",."[thousands == ","], thousands)
    odd: list[pl.Series] = []
    points = pl.Series([], dtype=pl.String)
    for column in columns:
        if is_text(column):
            text = column.cast(pl.String).drop_nulls().head(_SAMPLE)
            odd.append(text.filter(text.str.contains(",", literal=True)))
            points = points.append(text.filter(text.str.contains(r"\.\d{3}\.\d{3}(\D|$)")))
    commas = pl.concat(odd) if odd else pl.Series([], dtype=pl.String)
    commas = commas.str.replace_all(r"[\s'’\x{a0}\x{202f}\x{2009}]", "")
    if len(points):  # two of them group digits
        return NumberStyle(",", ".")
    if not len(commas):
        return NumberStyle()
    decimal_commas = int(commas.str.contains(r"\.\d{3},\d|^\D*\d+,(\d{1,2}|\d{4,})\D*$").sum())
    if decimal_commas > _decimal_points(columns):
        return NumberStyle(",", ".")
    if decimal_commas:  # slips among numbers with a point
        return NumberStyle()
    grouped = commas.str.contains(r",\d{2,3},\d{3}|,\d{3}\.\d|[kKmMbB]\s*$")
    texts = [each.cast(pl.String) for each in columns if is_text(each)]
    pointed = any(
        each.head(_SAMPLE).str.contains(r"^\D*\d+\.(\d{1,2}|\d{4,})\D*$").any() for each in texts
    )
    if grouped.any() or pointed or any(each.dtype.is_float() for each in columns):
        return NumberStyle()
    raise SourceError(
        f"{source}: the comma in numbers such as {commas[0]!r} can be a decimal sign or stand "
        "between thousands; say --decimal , or --thousands ,"
    )


def _decimal_points(columns: Sequence[pl.Series]) -> int:
    """How many of these values can only be meant with a decimal point."""
    found = 0
    for column in columns:
        some = column.head(_SAMPLE)
        if is_text(column):
            plain = some.cast(pl.String).str.contains(r"^\D*\d+\.(\d{1,2}|\d{4,})\D*$")
            found += int(plain.sum())
        elif column.dtype.is_float():
            found += int((some % 1 != 0).fill_null(False).sum())
    return found


def read_number(column: pl.Series, source: str, style: NumberStyle, *, optional: bool) -> pl.Series:
    """A column as float64: null where it is empty or a missing marker, NaN where it is not a
    number.

    optional: NaN in a numeric column means missing, and so does a sign alone in a column of text
    (volumes of sources that have none).
    Raises SourceError where the column's type holds no numbers.
    """
    if is_text(column):
        text = column.cast(pl.String)
        if style.decimal == ".":
            plain = text.cast(pl.Float64, strict=False)
            if plain.null_count() == text.null_count():
                return plain.fill_nan(None)  # "nan" is how some sources write nothing
        return _read_text(text, style, optional)
    if column.dtype == pl.Null:
        return column.cast(pl.Float64)
    if not column.dtype.is_numeric():
        raise SourceError(
            f"{source}: column {column.name!r} is of type {column.dtype}, which holds no numbers; "
            "convert it, or name another column with --map"
        )
    value = column if column.dtype == pl.Float64 else column.cast(pl.Float64, strict=False)
    return value.fill_nan(None) if optional and value.is_nan().any() else value


def _read_text(text: pl.Series, style: NumberStyle, optional: bool) -> pl.Series:
    distinct = text.unique()
    if len(distinct) * 2 < len(text):
        values = _read_distinct(distinct, style, optional)
        frame = pl.DataFrame({"text": distinct, "value": values})
        return (
            pl.DataFrame({"text": text})
            .join(frame, on="text", how="left", nulls_equal=True, maintain_order="left")["value"]
            .alias(text.name)
        )
    return _read_distinct(text, style, optional)


def _read_distinct(text: pl.Series, style: NumberStyle, optional: bool) -> pl.Series:
    cleaned = text.str.replace_all("[\u00a0\u202f\u2009]", " ").str.strip_chars()
    empty = cleaned.str.to_lowercase().is_in(_MISSING)
    if optional:  # a sign alone, where no volume is known
        empty = empty | cleaned.str.contains(r"^[^\p{L}\d]+$")
    point = r"\." if style.decimal == "." else ","
    group = {",": ",", ".": r"\.", " ": " ", "'": "['’]", "": "(?!)"}[style.thousands]
    groups = "(?:(?:[ '’]|" + group + r")\d{3})+" if style.thousands else "(?!)"
    if style.thousands == "":
        whole = r"\d+"
    else:
        indian = rf"\d{{1,2}}(?:{group}\d{{2}})*{group}\d{{3}}"
        whole = rf"\d{{1,3}}{groups}|{indian}|\d+"
    shape = rf"{_SIGNS}((?:{whole})?(?:{point}\d*)?(?:[eE][-+]?\d+)?)([kKmMbBtT]?){_END}"
    parts = cleaned.str.extract_groups(shape.replace("(?!)", r"[^\s\S]"))
    frame = parts.struct.unnest()
    sign, digits, suffix = (frame[name] for name in frame.columns)
    digits = digits.str.replace_all(r"[ '’]", "")
    if style.decimal == ",":
        digits = digits.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    else:
        digits = digits.str.replace_all(",", "", literal=True)
    for letters, power in _POWERS:
        suffix = suffix.str.replace(f"^{letters}$", power)
    # One column of text per row: pieces that are null make the whole null.
    joined = pl.select(pl.concat_str([pl.lit(sign), pl.lit(digits), pl.lit(suffix)])).to_series()
    plain = cleaned.cast(pl.Float64, strict=False) if style.decimal == "." else None
    value = joined.cast(pl.Float64, strict=False)
    if plain is not None:  # inf, and everything else that is a number as it stands
        value = value.fill_null(plain)
    value = value.fill_null(float("nan"))
    return value.set(empty.fill_null(True), None).alias(text.name)
