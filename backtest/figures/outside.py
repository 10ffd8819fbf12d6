"""Series from outside the account: a benchmark's level and a risk-free rate, on the bars walked.

Knows dates, levels and rates; nothing of strategies. A value dated d is known at the close of
session d and not before: no bar reads a later one.

Legend: T bars, V values of a series.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from backtest.fills.prices import PriceTable, price_table
from backtest.scores.reading import as_times, usual_columns, when_column, with_numbers
from market.errors import BacktestInputError

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]
Time = npt.NDArray[np.datetime64]

LEVELS = ("close", "adj_close", "adjusted_close", "level", "value", "price", "index_value", "last")
RATES = ("rate", "yield", "risk_free", "rf", "value", "close")
MOST_RATE = 1.0


@dataclass(frozen=True)
class Series:
    """A table of one's own of values by date, before it is laid on bars."""

    name: str
    """As the page calls it."""
    frame: pl.DataFrame
    """A date (or instant, or local label) and one column of values."""


@dataclass(frozen=True)
class Axis:
    """The bars walked, as a `PriceTable` labels them."""

    close_utc_T: Time
    labels_T: Time
    sessions_T: Time


@dataclass(frozen=True)
class Benchmark:
    """A level on the bars walked."""

    name: str
    level_T: Float
    """The last known at each close, above 0."""
    own_T: Bool
    """Bars that brought a new value, the first bar besides; figures against it are of these."""

    @property
    def missing(self) -> int:
        """Bars it had no new value on."""
        return int((~self.own_T).sum())


def symbol_series(bars: pl.DataFrame, symbol: str, actions: pl.DataFrame | None = None) -> Series:
    """The closes of a symbol of the bars, splits and dividends reinvested where `actions` tells of
    them. Raises BacktestInputError for a symbol without bars."""
    own = bars.filter(pl.col("symbol") == symbol)
    if own.is_empty():
        raise BacktestInputError(
            f"benchmark {symbol}: neither a file nor a symbol that the bars hold"
        )
    table = price_table(own, [symbol], recovery=1.0, max_gap_sessions=len(own), actions=actions)
    frame = pl.DataFrame(
        {"as_of": table.close_utc_T, "close": table.total_marks[:, 0]}
    ).with_columns(pl.col("as_of").dt.replace_time_zone("UTC"))
    return Series(symbol, frame)


def benchmark_on(series: Series, axis: Axis) -> Benchmark:
    """The benchmark's level on the bars.

    Raises BacktestInputError for levels that are not above 0, and where there is none up to the
    first bar or none after it.
    """
    when_V, level_V = _values(series, LEVELS)
    wrong = np.flatnonzero(~(level_V > 0))
    if len(wrong):
        raise BacktestInputError(
            f"benchmark {series.name}: level {level_V[wrong[0]]:g} of {when_V[wrong[0]]} (rule: "
            "above 0)"
        )
    at_T = _last_known(when_V, axis)
    if at_T[0] < 0:
        raise BacktestInputError(
            f"benchmark {series.name}: no level up to the first decision, {axis.sessions_T[0]}; it "
            f"begins {when_V[0]}. Give earlier levels, or --start later."
        )
    own_T = np.append(True, np.diff(at_T) > 0)
    if own_T.sum() < 2:
        raise BacktestInputError(
            f"benchmark {series.name}: no level after the first decision, {axis.sessions_T[0]}; it "
            f"ends {when_V[-1]}."
        )
    return Benchmark(series.name, level_V[at_T], own_T)


def rates_on(series: Series, axis: Axis) -> Float:
    """The yearly rate that each bar but the first began with, shape (T - 1,).

    Known at the close before. Raises BacktestInputError for rates that are no fractions, and where
    there is none up to the first bar.
    """
    when_V, rate_V = _values(series, RATES)
    wrong = np.flatnonzero(np.abs(rate_V) >= MOST_RATE)
    if len(wrong):
        raise BacktestInputError(
            f"risk-free {series.name}: rate {rate_V[wrong[0]]:g} of {when_V[wrong[0]]} (rule: a "
            "fraction a year, 0.0525 or 5.25%)"
        )
    at_T = _last_known(when_V, axis)
    if at_T[0] < 0:
        raise BacktestInputError(
            f"risk-free {series.name}: no rate up to the first decision, {axis.sessions_T[0]}; it "
            f"begins {when_V[0]}. Give earlier rates, or --start later."
        )
    return rate_V[at_T[:-1]]


def _values(series: Series, names: tuple[str, ...]) -> tuple[Time, Float]:
    """Dates (datetime64[D]), instants or labels (datetime64[us], see `_last_known`), and values, in
    order of time; blanks are left out."""
    frame = usual_columns(series.frame)
    frame = frame.rename({name: name.strip().lower() for name in frame.columns})
    when = when_column(frame, f"{series.name}: values")
    others = [name for name in frame.columns if name not in (when, "symbol")]
    column = next((name for name in names if name in others), None)
    if column is None and len(others) == 1:
        column = others[0]
    if column is None:
        raise BacktestInputError(
            f"{series.name}: no column of values; expected {when} and one of {', '.join(names)}, "
            f"found {', '.join(frame.columns)}"
        )
    if "symbol" in frame.columns and frame["symbol"].n_unique() > 1:
        raise BacktestInputError(f"{series.name}: holds several symbols (rule: one series)")
    values = with_numbers(frame.select(when, column), column)
    kept = values.with_columns(pl.Series("_when", as_times(values[when])))
    kept = kept.drop_nulls(column).drop_nans(column).sort("_when")
    if kept.is_empty():
        raise BacktestInputError(f"{series.name}: holds no number in {column}")
    doubled = kept.filter(kept["_when"].is_duplicated())
    if doubled.height:
        raise BacktestInputError(
            f"{series.name}: two values of {doubled[when][0]} (rule: one per date)"
        )
    times = kept["_when"]
    if isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone is not None:
        when_V = times.dt.replace_time_zone(None).to_numpy().astype("datetime64[ns]")
    elif times.dtype == pl.Date:
        when_V = times.to_numpy().astype("datetime64[D]")
    else:
        when_V = times.to_numpy().astype("datetime64[us]")
    return when_V, kept[column].to_numpy()


def _last_known(when_V: Time, axis: Axis) -> Int:
    """Place of the last value known at each bar's close; -1 where there is none yet.

    Dates count from the close of that session's last bar on, instants (in nanoseconds, to tell
    them apart) from their own, labels from the close of the bar labelled so.
    """
    unit = np.datetime_data(when_V.dtype)[0]
    if unit == "ns":
        key_T = axis.close_utc_T.astype(when_V.dtype)
    elif unit == "us":
        key_T = axis.labels_T.astype(when_V.dtype)
    else:
        day_T = axis.sessions_T.astype("datetime64[D]")
        last_T = np.append(day_T[1:] != day_T[:-1], True)
        key_T = np.where(last_T, day_T, day_T - 1)
    return np.searchsorted(when_V, key_T, side="right").astype(np.int64) - 1


class Judging(NamedTuple):
    """What accounts are measured by."""

    periods: float
    """Bars per year."""
    rate_T: Float
    """Yearly risk-free rate of each bar but the first."""
    against: Benchmark | None
    """The benchmark that was given."""


def judging_on(
    prices: PriceTable,
    span: tuple[int, int],
    periods: float,
    risk_free: float,
    benchmark: Series | None,
    rates: Series | None,
) -> Judging:
    """The risk-free rate and the benchmark on the bars from span[0] to span[1]."""
    walked = slice(span[0], span[1] + 1)
    axis = Axis(prices.close_utc_T[walked], prices.labels_T[walked], prices.sessions_T[walked])
    return Judging(
        periods,
        np.full(span[1] - span[0], risk_free) if rates is None else rates_on(rates, axis),
        None if benchmark is None else benchmark_on(benchmark, axis),
    )
