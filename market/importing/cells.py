"""What spreadsheets wrap around a cell's value: ="0700", 'text, and quotes apart by blanks.

Knows columns of text; no names, no numbers.
"""

from __future__ import annotations

import polars as pl

_WRAPPED = r"""^\s*(?:="|['"])"""
_SAMPLE = 200


def unwrapped(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with bare values in columns most of whose cells are wrapped, and bare names."""
    names = {name: _bare_name(name) for name in frame.columns}
    if len(set(names.values())) == len(names):
        frame = frame.rename(names)
    wrapped = [name for name in frame.columns if _is_wrapped(frame[name])]
    if not wrapped:
        return frame
    bare = pl.col(wrapped).str.strip_chars(" \t").str.replace(r"""^=?["'](.*?)["']?$""", "${1}")
    return frame.with_columns(bare.replace("", None))


def _bare_name(name: str) -> str:
    return name.strip(" \t'\"") or name


def _is_wrapped(column: pl.Series) -> bool:
    if column.dtype != pl.String:
        return False
    some = column.drop_nulls().head(_SAMPLE)
    return len(some) > 0 and float(some.str.contains(_WRAPPED).mean() or 0.0) > 0.5  # type: ignore[arg-type]
