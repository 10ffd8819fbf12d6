"""A user's own scores, from a file or a frame. Knows bars, nothing of portfolios.

The answer is the frame that `backtest.scores.forecasts.score_column` makes of forecasts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from market.errors import BacktestInputError

Int = npt.NDArray[np.int64]

DATE_COLUMNS = ("as_of", "as_of_date", "date", "session", "timestamp")


def read_scores(path: Path, column: str = "score") -> pl.DataFrame:
    """A CSV or Parquet file of scores: symbol, a date, and the score; see `user_scores`."""
    if not path.is_file():
        raise BacktestInputError(f"{path}: no such score file")
    if path.suffix.lower() == ".parquet":
        frame = pl.read_parquet(path)
    else:
        frame = pl.read_csv(path, try_parse_dates=True)
    missing = [name for name in ("symbol", column) if name not in frame.columns]
    if missing:
        raise BacktestInputError(
            f"{path}: lacks the column {', '.join(missing)}; found {', '.join(frame.columns)}"
        )
    return frame.rename({column: "score"}) if column != "score" else frame


def user_scores(frame: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """A user's scores placed on the closes of their sessions.

    frame: symbol, score and one of DATE_COLUMNS: a date (known at that session's close) or an
    instant in UTC; with a column data_through (UTC) a score that read later bars is refused.
    bars: the lake's rows. Raises BacktestInputError naming symbol and date for unknown symbols and
    dates, dates out of order, doubled rows and leaks.
    """
    when = next((name for name in DATE_COLUMNS if name in frame.columns), None)
    if when is None:
        raise BacktestInputError(f"scores have no date: expected one of {', '.join(DATE_COLUMNS)}")
    closes = bars.group_by("session").agg(pl.col("close_utc").max()).sort("session")
    dtype = frame.schema[when]
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        placed = frame.with_columns(pl.col(when).dt.convert_time_zone("UTC").alias("as_of"))
        placed = placed.join(
            closes.rename({"close_utc": "as_of", "session": "as_of_date"}),
            on="as_of",
            how="left",
            maintain_order="left",
        )
    else:
        day = pl.col(when).cast(pl.Date)
        placed = frame.with_columns(day.alias("as_of_date")).join(
            closes.rename({"close_utc": "as_of_close", "session": "as_of_date"}),
            on="as_of_date",
            how="left",
            maintain_order="left",
        )
        placed = placed.with_columns(pl.col("as_of_close").alias("as_of"))
    lost = placed.filter(pl.col("as_of").is_null() | pl.col("as_of_date").is_null())
    if lost.height:
        row = lost.row(0, named=True)
        raise BacktestInputError(
            f"{row['symbol']}: score of {row[when]}, but no session of the store closes then; they "
            f"run from {closes['session'][0]} to {closes['session'][-1]}"
        )
    backwards = placed.filter(pl.col("as_of") < pl.col("as_of").shift(1).over("symbol"))
    if backwards.height:
        row = backwards.row(0, named=True)
        raise BacktestInputError(
            f"{row['symbol']}: score of {row['as_of_date']} comes after a later one (rule: dates "
            "increase). Sort the file by date."
        )
    doubled = placed.filter(placed.select("as_of", "symbol").is_duplicated())
    if doubled.height:
        row = doubled.row(0, named=True)
        raise BacktestInputError(
            f"{row['symbol']}: two scores of {row['as_of_date']} (rule: one per symbol and date)"
        )
    if "data_through" in placed.columns:
        leaks = placed.filter(pl.col("data_through") > pl.col("as_of"))
        if leaks.height:
            row = leaks.row(0, named=True)
            raise BacktestInputError(
                f"{row['symbol']}: the score of {row['as_of_date']} read bars up to "
                f"{row['data_through']}, after its as_of {row['as_of']} (rule: data_through <= "
                "as_of). Such a score saw the future."
            )
    unknown = placed.filter(~pl.col("symbol").is_in(bars["symbol"].unique().implode()))
    if unknown.height:
        row = unknown.row(0, named=True)
        raise BacktestInputError(
            f"{row['symbol']}: scored on {row['as_of_date']}, but the store holds no bar of it"
        )
    last_close = bars.select("symbol", pl.col("close_utc").alias("as_of"), "close")
    return (
        placed.join(last_close, on=["symbol", "as_of"], how="left", maintain_order="left")
        .filter(pl.col("close").is_not_null())
        .select(
            "as_of",
            "as_of_date",
            "symbol",
            pl.col("score").cast(pl.Float64).fill_null(float("nan")),
            pl.lit(float("nan")).alias("mean"),
            pl.lit(float("nan")).alias("deviation"),
            pl.col("close").alias("last_close"),
            pl.lit(0, pl.Int32).alias("flags"),
        )
        .sort("as_of", "symbol")
    )
