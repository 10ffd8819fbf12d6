"""Corporate actions as a table: its columns, and reading it from a file. Knows polars; no lake."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from market.errors import SourceError

ACTION_SCHEMA = pl.Schema(
    {
        "symbol": pl.String(),
        "ex_date": pl.Date(),
        "split": pl.Float64(),
        "dividend": pl.Float64(),
        "announced": pl.Date(),
    }
)
"""One row per symbol and ex-date: the first session that trades without the right.

split: new shares per old share; 1 where there is none, which also says that a move that looks like
a split is not one. dividend: cash per share, in the units of the prices before the ex-date; 0 where
there is none. announced: the first day the action was known, where that is after the ex-date;
null: by the ex-date.
"""

_NAMES = {
    "symbol": ("symbol", "ticker", "code", "instrument"),
    "ex_date": ("ex_date", "exdate", "ex-date", "date", "effective", "effective_date"),
    "split": ("split", "splits", "ratio", "stock_splits", "stock splits", "split_ratio"),
    "dividend": ("dividend", "dividends", "cash", "amount", "div"),
    "announced": ("announced", "announcement", "announced_on", "announcement_date"),
}


def no_actions() -> pl.DataFrame:
    """An empty table."""
    return pl.DataFrame(schema=ACTION_SCHEMA)


def read_actions(path: Path) -> pl.DataFrame:
    """Actions from a CSV or Parquet file: symbol, ex_date, split and/or dividend, announced.

    A split is new shares per old one (4), or a ratio (4:1, 3/2; 1:10 for ten old to one new).
    Raises SourceError naming file and row for anything else.
    """
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            raw = pl.read_parquet(path)
        else:
            raw = pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise SourceError(f"{path}: cannot be read as actions ({reason})") from None
    lower = {name.strip().lower(): name for name in reversed(raw.columns)}
    of = {
        field: next((lower[each] for each in names if each in lower), None)
        for field, names in _NAMES.items()
    }
    if of["symbol"] is None or of["ex_date"] is None or not (of["split"] or of["dividend"]):
        raise SourceError(
            f"{path}: actions need the columns symbol, ex_date, and split or dividend; found "
            f"{', '.join(raw.columns)}"
        )
    text = {field: raw[name].cast(pl.String) for field, name in of.items() if name is not None}
    rows = pl.DataFrame(
        {
            "symbol": text["symbol"].str.strip_chars(),
            "ex_date": _dates(text["ex_date"]),
            "split": _ratios(text.get("split"), raw.height),
            "dividend": _numbers(text.get("dividend"), raw.height),
            "announced": _dates(text["announced"])
            if "announced" in text
            else pl.Series([None], dtype=pl.Date).new_from_index(0, raw.height),
        }
    )
    return checked(rows, str(path))


def checked(rows: pl.DataFrame, source: str) -> pl.DataFrame:
    """Actions in ACTION_SCHEMA, sorted. Raises SourceError naming the first row that is none."""
    bad = rows.with_row_index("row", offset=1).filter(
        pl.col("symbol").is_null()
        | (pl.col("symbol") == "")
        | pl.col("ex_date").is_null()
        | ~pl.col("split").is_between(1e-6, 1e6).fill_null(False)
        | ~pl.col("dividend").is_between(0, 1e15).fill_null(False)
    )
    if bad.height:
        raise SourceError(
            f"{source}: row {bad['row'][0]} is not a corporate action: "
            f"symbol {bad['symbol'][0]!r}, ex_date {bad['ex_date'][0]}, "
            f"split {bad['split'][0]}, dividend {bad['dividend'][0]} "
            "(rules: a date as 2024-03-11, a split > 0 such as 4 or 4:1, a dividend >= 0)"
        )
    merged = (
        rows.group_by("symbol", "ex_date")
        .agg(pl.col("split").product(), pl.col("dividend").sum(), pl.col("announced").max())
        .sort("symbol", "ex_date")
    )
    return merged.select(pl.col(name).cast(dtype) for name, dtype in ACTION_SCHEMA.items())


def merge_actions(known: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Both tables; of a symbol and ex-date in both, the new row."""
    kept = known.join(new, on=["symbol", "ex_date"], how="anti")
    return pl.concat([kept, new]).sort("symbol", "ex_date")


def _dates(text: pl.Series) -> pl.Series:
    short = text.str.strip_chars().str.slice(0, 10)
    found = short.str.to_date("%Y-%m-%d", strict=False)
    found = found.fill_null(short.str.to_date("%Y%m%d", strict=False))
    return found.set((found.dt.year() < 1800).fill_null(False), None)


def _numbers(text: pl.Series | None, height: int) -> pl.Series:
    if text is None:
        return pl.Series([0.0]).new_from_index(0, height)
    plain = text.str.strip_chars()
    missing = plain.is_null() | (plain == "")
    return plain.cast(pl.Float64, strict=False).set(missing, 0.0)


def _ratios(text: pl.Series | None, height: int) -> pl.Series:
    if text is None:
        return pl.Series([1.0]).new_from_index(0, height)
    plain = text.str.strip_chars()
    parts = plain.str.extract_groups(r"^([\d.]+)\s*(?:[:/]|-for-|for)\s*([\d.]+)$").struct.unnest()
    new, old = (parts[name].cast(pl.Float64, strict=False) for name in parts.columns)
    missing = plain.is_null() | (plain == "")
    value = (new / old).fill_null(plain.cast(pl.Float64, strict=False)).set(missing, 1.0)
    return value.set((value == 0.0).fill_null(False), 1.0)  # 0 is how Yahoo writes "no split"
