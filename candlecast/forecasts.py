"""Forecasts as a user holds them. Knows the forecast table's rows; nothing of models.

The same object for forecasts made in this process and for those of a run on Ray.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from candlecast.errors import speaks_python
from candlecast.frames import Kind, as_kind, names
from market.errors import ConfigError, ForecastInputError
from market.fields import FEATURES
from market.flags import Flag
from market.spec import StoreSpec
from market.table.schema import QUANTILE_NAMES, ROW_ORDER

if TYPE_CHECKING:
    import plotly.graph_objects as go

MISSING_SCHEMA = pl.Schema(
    {"symbol": pl.String(), "as_of": pl.Datetime("us", "UTC"), "reason": pl.String()}
)
_ROWS_SHOWN = 8
_LEAST_PAST = 20


@dataclass(frozen=True, repr=False, eq=False)
class Forecasts:
    """Sampled futures of many symbols, summarised per bar; made by `cc.forecast`.

    >>> forecasts = cc.forecast(bars, horizon=20)
    >>> forecasts.to_frame()        # one row per symbol and coming bar
    >>> forecasts.plot("AAPL")      # fan chart
    """

    steps: pl.LazyFrame
    """Rows of the forecast table, market.table.schema.STEPS_SCHEMA."""
    path_stats: pl.LazyFrame
    """PATH_STATS_SCHEMA: what marginals cannot give, per as_of and symbol."""
    sampled: pl.LazyFrame | None
    """PATHS_SCHEMA: every sampled bar; None where they were not kept."""
    bars: pl.LazyFrame
    """Bars that charts show, market.bars.BAR_SCHEMA."""
    model: str
    spec: StoreSpec
    """Venue, frequency and time zone."""
    missing: pl.DataFrame
    """symbol, as_of, reason: what was asked for and could not be forecast."""
    notes: tuple[str, ...]
    """What was inferred or left out on the way."""
    kind: Kind
    """Library of the frames handed out."""

    @speaks_python
    def to_frame(
        self, feature: str = "close", *, symbols: str | Iterable[str] | None = None
    ) -> Any:
        """One row per symbol, as_of and step, of the kind of frame that was forecast from.

        feature: open, high, low, close, volume or amount; mean, std and the quantiles q01 … q99
        are its, in price units (q01 and q99 from 100 paths up). p_up is the share of paths whose
        close lies above the last known one. as_of is the UTC close up to which bars were read;
        timestamp the exchange-local label of the coming bar. Raises ConfigError for another
        feature and ForecastInputError for a symbol without forecast.

        >>> forecasts.to_frame().query("step == 20").nlargest(5, "p_up")
        """
        if feature not in FEATURES:
            raise ConfigError(f"feature={feature!r}: must be one of {', '.join(FEATURES)}")
        statistics = [
            pl.col(f"{feature}_{name}").alias(name) for name in ("mean", "std", *QUANTILE_NAMES)
        ]
        rows = self._only(self.steps, symbols).sort(ROW_ORDER["steps"])
        frame = rows.select("symbol", "as_of", "step", "timestamp", *statistics, "p_up").collect()
        return as_kind(frame, self.kind)

    @speaks_python
    def paths(self, symbols: str | Iterable[str] | None = None) -> Any:
        """Every sampled bar: symbol, as_of, path, step, timestamp, open … amount, in price units.

        Raises ForecastInputError where paths were not kept, or for a symbol without forecast.

        >>> forecasts.paths("AAPL")
        """
        return as_kind(self._paths(symbols), self.kind)

    @speaks_python
    def path_array(self, symbols: str | Iterable[str] | None = None) -> npt.NDArray[np.float32]:
        """The sampled bars as an array (series, paths, steps, 6), in price units.

        Series are ordered by as_of, then symbol; the last axis is open, high, low, close, volume,
        amount. Raises as `paths`.

        >>> forecasts.path_array("AAPL")[0, :, -1, 3]    # closes at the horizon
        """
        rows = self._paths(symbols)
        values = rows.select(FEATURES).to_numpy().astype(np.float32)
        n_paths, horizon = int(rows["path"].n_unique()), int(rows["step"].n_unique())
        return np.ascontiguousarray(values.reshape(-1, n_paths, horizon, len(FEATURES)))

    @speaks_python
    def plot(self, symbol: str | None = None, *, as_of: Any = None) -> go.Figure:
        """Fan chart of one symbol: known closes, quantile bands, and what happened, if known.

        symbol: may be left out where there is one. as_of: session date of one of several
        forecasts; the last without. Raises ForecastInputError where there is no such forecast.

        >>> forecasts.plot("AAPL").show()
        """
        from backtest.report import charts
        from backtest.results import Fan
        from backtest.scores.forecasts import BAND_COLUMNS

        chosen = symbol or self._only_symbol()
        rows = self._only(self.steps, chosen)
        if as_of is not None:
            rows = rows.filter(pl.col("as_of_date") == pl.lit(str(as_of)[:10]).str.to_date())
        bands = rows.filter(pl.col("as_of") == pl.col("as_of").max()).sort("step").collect()
        if not bands.height:
            raise ForecastInputError(f"{chosen}: no forecast as of {as_of}; see to_frame()")
        moment = bands["as_of"][0]
        closes = (
            self.bars.filter(pl.col("symbol") == chosen)
            .sort("timestamp")
            .select("timestamp", "close", known=pl.col("close_utc") <= moment)
            .collect()
        )
        horizon = bands.height
        past = closes.filter("known").drop("known").tail(max(2 * horizon, _LEAST_PAST))
        actual = closes.filter(~pl.col("known")).drop("known").head(horizon)
        figure = charts.fan(
            Fan(
                symbol=chosen,
                as_of_date=str(bands["as_of_date"][0]),
                rank=0,
                ranked=0,
                in_sample=bool(bands["flags"][0] & int(Flag.IN_SAMPLE)),
                past=past,
                bands=bands.select("timestamp", "close_mean", *BAND_COLUMNS),
                actual=actual,
            )
        )
        mark = "  IN-SAMPLE" if bands["flags"][0] & int(Flag.IN_SAMPLE) else ""
        title = f"<b>{escape(chosen)}</b>  {self.model}, as of {bands['as_of_date'][0]}{mark}"
        return figure.update_layout(
            title={"text": title, "y": 0.96}, margin={"t": 84}, showlegend=True, height=420
        )

    def __repr__(self) -> str:
        found = self._overview
        span = f"{found['first']}"
        if found["dates"] > 1:
            span += f" … {found['last']} ({found['dates']} dates)"
        sizes = f"{found['symbols']:,} symbols × {found['horizon']} steps × {found['paths']} paths"
        lines = [f"Forecasts: {sizes}, model {self.model}", f"  as of {span}; {self.spec}"]
        if self.missing.height:
            row = self.missing.row(0, named=True)
            lines.append(
                f"  not forecast: {self.missing.height:,}, such as {row['symbol']}: {row['reason']}"
            )
        if found["cutoff_unknown"]:
            lines.append("  POSSIBLY IN-SAMPLE: nobody states up to when the model was trained")
        if found["in_sample"]:
            lines.append("  IN-SAMPLE: the model was trained on dates up to some of these")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        last = (
            self.steps.filter(pl.col("step") == pl.col("step").max())
            .sort(*ROW_ORDER["steps"])
            .select(
                "symbol", "as_of_date", "last_close", "close_mean", "close_q05", "close_q95", "p_up"
            )
            .head(_ROWS_SHOWN)
            .collect()
        )
        titles = ("symbol", "as of", "last close", "mean", "5%", "95%", "P(up)")
        head = "".join(f"<th>{title}</th>" for title in titles)
        body = "".join(
            "<tr>"
            f"<td>{escape(row[0])}</td><td>{row[1]}</td>"
            + "".join(f"<td>{value:,.6g}</td>" for value in row[2:-1])
            + f"<td>{row[-1]:.0%}</td></tr>"
            for row in last.iter_rows()
        )
        return (
            f"<pre>{escape(repr(self))}</pre><table><caption>closes at step "
            f"{self._overview['horizon']}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table>"
        )

    @cached_property
    def _overview(self) -> dict[str, Any]:
        flags = pl.col("flags")
        return (
            self.steps.select(
                symbols=pl.col("symbol").n_unique(),
                dates=pl.col("as_of").n_unique(),
                first=pl.col("as_of_date").min(),
                last=pl.col("as_of_date").max(),
                horizon=pl.col("step").max(),
                paths=pl.col("n_paths").max(),
                in_sample=((flags & int(Flag.IN_SAMPLE)) != 0).any(),
                cutoff_unknown=((flags & int(Flag.CUTOFF_UNKNOWN)) != 0).any(),
            )
            .collect()
            .row(0, named=True)
        )

    def _only(self, rows: pl.LazyFrame, symbols: str | Iterable[str] | None) -> pl.LazyFrame:
        wanted = names(symbols)
        if wanted is None:
            return rows
        known = set(self.steps.select(pl.col("symbol").unique()).collect()["symbol"])
        for symbol in wanted:
            if symbol not in known:
                why = self.missing.filter(pl.col("symbol") == symbol)["reason"].to_list()
                some = ", ".join(sorted(known)[:5])
                raise ForecastInputError(
                    f"{symbol}: no forecast ({why[0] if why else f'there are some of {some} …'})"
                )
        return rows.filter(pl.col("symbol").is_in(wanted))

    def _only_symbol(self) -> str:
        found = self.steps.select(pl.col("symbol").unique().sort()).collect()["symbol"].to_list()
        if len(found) > 1:
            raise ForecastInputError(
                f"plot() needs a symbol: there are {len(found):,}, such as {', '.join(found[:3])}"
            )
        return str(found[0])

    def _paths(self, symbols: str | Iterable[str] | None) -> pl.DataFrame:
        if self.sampled is None:
            raise ForecastInputError(
                "the sampled paths were not kept; forecast again with keep_paths=True"
            )
        labels = self.steps.select("as_of", "symbol", "step", "timestamp")
        return (
            self._only(self.sampled, symbols)
            .join(labels, on=["as_of", "symbol", "step"], how="left")
            .sort(ROW_ORDER["paths"])
            .select("symbol", "as_of", "path", "step", "timestamp", *FEATURES)
            .collect()
        )
