"""A user's own scores, from a file or a frame, placed on bars. Knows bars, nothing of portfolios.

The answer is the frame that `backtest.scores.forecasts.score_column` makes of forecasts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl

from backtest.scores.reading import (
    as_times,
    need,
    read_table,
    when_column,
    with_numbers,
    with_symbols,
)
from market.errors import BacktestInputError

OnClosed = Literal["error", "previous", "next"]


def read_scores(path: Path, column: str = "score") -> pl.DataFrame:
    """A CSV or Parquet file of scores: symbol, a date, and the score; see `user_scores`."""
    frame = read_table(path, "score")
    need(frame, ("symbol", column), str(path))
    if column == "score":
        return frame
    return frame.drop("score", strict=False).rename({column: "score"})


def user_scores(
    frame: pl.DataFrame, bars: pl.DataFrame, *, on_closed: OnClosed = "error"
) -> pl.DataFrame:
    """A user's scores placed on closes of bars; names without a bar in that session are left out.

    frame: symbol, score and a date, see `placed`. Raises BacktestInputError as `placed`, and for
    scores that are not numbers.
    """
    need(frame, ("symbol", "score"), "scores")
    there = placed(with_numbers(with_symbols(frame), "score"), bars, on_closed, "score")
    nothing = pl.lit(float("nan"))
    return there.select(
        "as_of",
        "as_of_date",
        "symbol",
        pl.col("score").fill_null(float("nan")),
        nothing.alias("mean"),
        nothing.alias("deviation"),
        pl.col("close").alias("last_close"),
        pl.lit(0, pl.Int32).alias("flags"),
    ).sort("as_of", "symbol")


def placed(
    frame: pl.DataFrame, bars: pl.DataFrame, on_closed: OnClosed = "error", what: str = "score"
) -> pl.DataFrame:
    """Rows with as_of and as_of_date of the close they are decided at, and that bar's `close`.

    frame: symbol and one of reading.DATE_COLUMNS: a date (decided at that session's close), an
    instant with a time zone (at the bar that closes then), or a local label (at the close of the
    bar labelled so); several a day are several decisions. on_closed: what to do with a date that is
    no session, or an instant at which no bar closes: an error, or the session or bar before or
    after; an instant within a session is never moved back, since what is known then cannot trade
    before. With a column data_through (UTC), rows that read later bars are refused. bars: the
    lake's rows. The close of a session is the one most of its names have, so that one name's stray
    bar moves nobody else. Rows of names without a bar in that session up to then are left out.

    Raises BacktestInputError naming symbol and date for unknown symbols and dates, dates out of
    order, doubled rows and leaks.
    """
    when = when_column(frame, f"{what}s")
    times = as_times(frame[when])
    placed = frame.with_columns(times.alias("_when"))
    closes = _closes(bars, ("session",))
    if times.dtype == pl.Date:
        key, table = "session", closes
    elif isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone is not None:
        key, table = "close_utc", bars.select("close_utc", "session").unique("close_utc")
    else:
        key, table = "timestamp", _closes(bars, ("timestamp", "session"))
    table = table.with_columns(pl.col(key).alias("_when")).sort("_when")
    table = table.unique("_when", keep="first", maintain_order=True)
    table = table.select(
        "_when", pl.col("close_utc").alias("as_of"), pl.col("session").alias("as_of_date")
    )
    order = placed.with_row_index("_row").sort("_when", maintain_order=True)
    if on_closed == "error":
        placed = order.join(table, on="_when", how="left").sort("_row")
    else:
        way: Literal["backward", "forward"] = "backward" if on_closed == "previous" else "forward"
        known = table.with_columns(pl.col("_when").alias("_at")).sort("_when")
        placed = order.join_asof(known, on="_when", strategy=way).sort("_row")
        if on_closed == "previous" and key != "session":
            nxt = known.select(pl.col("_at"), pl.col("as_of_date").shift(-1).alias("_next"))
            placed = placed.join(nxt, on="_at", how="left", maintain_order="left")
            inside = (pl.col("_at") != pl.col("_when")) & (pl.col("_next") == pl.col("as_of_date"))
            bad = placed.filter(inside.fill_null(False))
            if bad.height:
                row = bad.row(0, named=True)
                raise BacktestInputError(
                    f"{row['symbol']}: {what} of {row[when]} lies within a bar: moved back, it "
                    "would trade before it was known. Use --on-closed next."
                )
    lost = placed.filter(pl.col("as_of").is_null())
    if lost.height:
        row = lost.row(0, named=True)
        more = "" if on_closed != "error" else "; --on-closed previous or next moves such dates"
        none = (
            "no session of the store closes then" if key != "timestamp" else "no bar is labelled so"
        )
        raise BacktestInputError(
            f"{row['symbol']}: {what} of {row[when]}, but {none}; they run from "
            f"{closes['session'][0]} to {closes['session'][-1]}{more}"
        )
    return _checked(placed, bars, what).drop("_when", "_row", "_at", "_next", strict=False)


def _closes(bars: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    """The close_utc that most names have, per session (their last) or per label."""
    ends = bars.group_by(*keys, "symbol").agg(pl.col("close_utc").max())
    counted = ends.group_by(*keys, "close_utc").len()
    ranked = counted.sort("len", "close_utc")
    return ranked.group_by(*keys).agg(pl.col("close_utc").last()).sort(*keys)


def _checked(placed: pl.DataFrame, bars: pl.DataFrame, what: str) -> pl.DataFrame:
    backwards = placed.filter(pl.col("as_of") < pl.col("as_of").shift(1).over("symbol"))
    if backwards.height:
        row = backwards.row(0, named=True)
        raise BacktestInputError(
            f"{row['symbol']}: {what} of {row['as_of_date']} comes after a later one (rule: dates "
            "increase). Sort the file by date."
        )
    doubled = placed.filter(placed.select("as_of", "symbol").is_duplicated())
    if doubled.height:
        row = doubled.row(0, named=True)
        raise BacktestInputError(
            f"{row['symbol']}: two {what}s of {row['as_of_date']} (rule: one per symbol and date)"
        )
    if "data_through" in placed.columns:
        through = pl.Series("data_through", as_times(placed["data_through"]))
        known = (
            placed.with_columns(
                through.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
                if through.dtype.time_zone is None  # type: ignore[attr-defined]
                else through
            )
            if through.dtype != pl.Date
            else placed.with_columns(through.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
        )
        leaks = known.filter(pl.col("data_through") > pl.col("as_of"))
        if leaks.height:
            row = leaks.row(0, named=True)
            raise BacktestInputError(
                f"{row['symbol']}: the {what} of {row['as_of_date']} read bars up to "
                f"{row['data_through']}, after its as_of {row['as_of']} (rule: data_through <= "
                "as_of). Such a score saw the future."
            )
    symbols = bars["symbol"].unique()
    unknown = placed.filter(~pl.col("symbol").is_in(symbols.implode()))
    if unknown.height:
        row = unknown.row(0, named=True)
        longer = symbols.filter(symbols.str.strip_chars_start("0") == row["symbol"].lstrip("0"))
        hint = f"; it holds {longer[0]}: write codes as text" if len(longer) else ""
        raise BacktestInputError(
            f"{row['symbol']}: {what} of {row['as_of_date']}, but the store holds no bar of it"
            f"{hint}"
        )
    last = bars.select("symbol", "close_utc", "close", pl.col("session").alias("_session"))
    found = placed.sort("as_of").join_asof(
        last.sort("close_utc"), left_on="as_of", right_on="close_utc", by="symbol",
        check_sortedness=False,
    )  # fmt: skip
    return (
        found.filter((pl.col("_session") == pl.col("as_of_date")).fill_null(False))
        .drop("_session", "close_utc", strict=False)
        .sort("_row")
    )
