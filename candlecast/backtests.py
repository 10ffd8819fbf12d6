"""Backtests of a frame: bars and scores in, books, charts and the tear sheet out.

Knows frames and settings; the work is that of `backtest`, as the command line does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from backtest import BacktestResult, BacktestSettings, run_backtest
from backtest.currency import with_currency
from backtest.figures.outside import Series, symbol_series
from backtest.fills.costs import Costs
from backtest.fills.terms import Terms
from backtest.weights.settings import StrategySettings
from candlecast.errors import speaks_python
from candlecast.frames import Kind, as_kind, as_polars, import_options, kind_of
from candlecast.given import decided_by, own_series, own_table, told_by_columns
from market.exchange_sessions import sessions_per_year
from market.importing.files import ImportOptions
from market.importing.frames import read_frame
from market.lake.history import MarketHistory

if TYPE_CHECKING:
    import plotly.graph_objects as go


@speaks_python
def backtest(
    bars: Any,
    scores: Any = None,
    *,
    weights: Any = None,
    orders: Any = None,
    signals: Any = None,
    strategy: str | Mapping[str, Any] | StrategySettings = "topk",
    costs: Mapping[str, float] | Costs | None = None,
    venue: str | None = None,
    freq: str | None = None,
    tz: str | None = None,
    label: str | None = None,
    symbol: str | None = None,
    columns: dict[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
    terms: Any = None,
    actions: Any = None,
    benchmark: Any = None,
    risk_free: Any = 0.0,
    **settings: Any,
) -> Backtest:
    """Trade scores, forecasts, weights, orders or signals after costs: decided at a close, filled
    at the next open.

    bars: a frame of bars as `cc.forecast` takes it, with every symbol of the market from some time
    before the first decision; or a `cc.Store`, or its folder. scores: `Forecasts`; or a frame with
    symbol, date (known at that session's close; or an instant in UTC) and score, higher is better,
    dates increasing; or rows of a forecast table; or nothing with `momentum=` bars.

    Instead of scores, frames of one's own, which their columns tell apart or their keyword
    names: weights (date, symbol, weight; or date and a column per
    symbol, or a pandas frame with the dates as its index), orders (time, symbol, one of shares,
    value and percent, perhaps side and limit), signals (time, symbol, entry, exit; an entry buys
    gross / k of the equity). Columns are those of `candlecast backtest --weights`, `--orders` and
    `--signals`.

    strategy: topk, dropout, longshort, threshold, kelly, or min_variance, hrp and cvar by skfolio
    (cvar weighs the sample paths of `Forecasts`), or with its settings
    (`{"name": "topk", "k": 20}`). costs: some of backtest.Costs (`{"commission_bps": 2}`).
    groups: group of each symbol, for max_group. terms: a frame of what differs by symbol (limit,
    commission_bps, borrow_bps). actions: a frame of splits and dividends of raw prices (symbol,
    session, split, dividend). benchmark: a symbol of the bars, or a frame or series of levels by
    date, to judge against; risk_free: a yearly rate (0.03), or a frame or series of them by date.
    settings: any other setting of
    backtest.BacktestSettings, also without its group's name: k, rebalance, cash, lag, fill,
    participation, start, end …. venue, freq, tz, label, symbol, columns: as in `cc.forecast`.

    Raises CandlecastError in one line for frames that are not bars or scores, scores that leak or
    do not fit the bars, and unknown settings.

    >>> result = cc.backtest(bars, scores, strategy="topk", k=20, costs={"commission_bps": 2})
    >>> result.metrics["sharpe"], result.to_html("tearsheet.html")
    """
    told = import_options(venue, freq, tz, label, symbol, columns)
    priced, provenance, kind, held, open_at = _bars(bars, told)
    own = {"weights": weights, "orders": orders, "signals": signals, "actions": actions}
    kind_given = None if scores is None else told_by_columns(scores)
    if kind_given is not None and own[kind_given] is None:
        own[kind_given], scores = scores, None
    given = decided_by(scores)
    tables = {name: own_table(frame, name) for name, frame in own.items() if frame is not None}
    if "actions" in tables:
        provenance.pop("corporate actions", None)
    rates = None if isinstance(risk_free, int | float) else own_series(risk_free, "risk_free")
    chosen = BacktestSettings(
        strategy=strategy,
        costs=Costs() if costs is None else costs,
        risk_free=risk_free if rates is None else 0.0,
        **settings,
    )
    chosen, money = with_currency(chosen, open_at, priced["symbol"].unique().sort().to_list())
    against: Series | None = None
    if isinstance(benchmark, str):
        against = symbol_series(priced, benchmark, tables.get("actions", held))
    elif benchmark is not None:
        against = own_series(benchmark, "benchmark")
    result = run_backtest(
        priced,
        given.forecasts,
        chosen,
        scores=given.scores,
        path_stats=given.path_stats,
        paths=given.paths,
        groups=None if groups is None else dict(groups),
        terms=None if terms is None else Terms(as_polars(terms, "terms")),
        weights=tables.get("weights"),
        orders=tables.get("orders"),
        signals=tables.get("signals"),
        actions=tables.get("actions", held),
        sessions_per_year=sessions_per_year(open_at),
        benchmark=against,
        rates=rates,
        provenance={**provenance, **given.provenance, **money},
    )
    return Backtest(result, kind)


@dataclass(frozen=True, repr=False, eq=False)
class Backtest:
    """A strategy and its benchmarks after costs; made by `cc.backtest` and `Store.backtest`.

    >>> result = cc.backtest(bars, scores, k=20)
    >>> result.metrics["max_drawdown"]
    >>> result.plot().show()
    """

    result: BacktestResult
    """All of it, as `backtest` hands it back; its frames are polars."""
    kind: Kind
    """Library of the frames handed out."""

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Figures of the strategy by name, fractions unless stated; see backtest.results.Metrics.

        >>> result.metrics["sharpe"]
        """
        return asdict(self.result.strategy.metrics)

    @cached_property
    def metrics_frame(self) -> Any:
        """The same figures of strategy and benchmarks: column metric, and one per book."""
        books = {book.name: asdict(book.metrics) for book in self.result.books}
        columns = {
            name: [float(each) for each in figures.values()] for name, figures in books.items()
        }
        return self._handed(pl.DataFrame({"metric": list(self.metrics), **columns}))

    @cached_property
    def orders(self) -> Any:
        """What filled, in execution order; columns as in backtest.fills.simulation.Simulation."""
        return self._handed(self.result.strategy.orders)

    @cached_property
    def trades(self) -> Any:
        """Round trips: symbol, side, opened, closed (null: still open, valued at the last mark),
        size, entry, exit, fee, pnl, return, orders, bars, worst, best, exit_kind; see
        backtest.figures.trades."""
        return self._handed(self.result.trades)

    @cached_property
    def equity(self) -> Any:
        """The account per bar: timestamp, close_utc, equity, cash, invested, and the equity of
        the benchmarks."""
        return self._handed(self.result.equity_of_all())

    def plot(self) -> go.Figure:
        """Equity of the strategy and its benchmarks.

        >>> result.plot().show()
        """
        from backtest.report import charts

        return charts.equity(self.result).update_layout(height=420)

    @speaks_python
    def to_html(self, path: str | Path = "tearsheet.html") -> Path:
        """Write the tear sheet, one page that works offline, and return its path.

        >>> result.to_html("tearsheet.html")
        """
        from backtest import write_tear_sheet

        return write_tear_sheet(self.result, Path(path))

    @speaks_python
    def to_vectorbt(self) -> Any:
        """The strategy as a `vectorbt.Portfolio`.

        Raises BacktestInputError where it has what vectorbt cannot hold: interest, borrow fees,
        dividends, negative cash.

        >>> result.to_vectorbt().stats()
        """
        return self.result.to_vectorbt()

    def __repr__(self) -> str:
        daily = self.result.strategy.daily
        span = f"{daily['timestamp'][0]:%Y-%m-%d} to {daily['timestamp'][-1]:%Y-%m-%d}"
        orders = f"{self.result.strategy.metrics.orders:,} orders"
        lines = [f"Backtest: {self.result.model_id}, {span}, {orders}, net of costs"]
        for book in self.result.books:
            figures = book.metrics
            lines.append(
                f"  {book.name:<14} return {figures.total_return:+8.1%}  Sharpe "
                f"{figures.sharpe:5.2f}  deepest fall {figures.max_drawdown:7.1%}"
            )
        if self.result.ic.dates:
            ic = self.result.ic
            lines.append(f"  mean rank IC {ic.mean:+.3f} (HAC t {ic.t:+.2f}, {ic.dates} dates)")
        if self.result.in_sample_dates:
            count = len(self.result.in_sample_dates)
            lines.append(f"  IN-SAMPLE: {count} forecast dates are not after the model's training")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        from backtest import headline

        head = "".join(f"<th>{escape(book.name)}</th>" for book in self.result.books)
        body = "".join(
            f"<tr><td>{escape(row.label)}</td>"
            + "".join(f"<td>{escape(value)}</td>" for value in row.values)
            + "</tr>"
            for row in headline(self.result)
        )
        return (
            f"<pre>{escape(repr(self))}</pre><table><thead><tr><th></th>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table>"
        )

    def _handed(self, frame: pl.DataFrame) -> Any:
        return as_kind(frame, self.kind)


class _Priced(NamedTuple):
    """What is traded on."""

    bars: pl.DataFrame
    """All bars with their closes."""
    provenance: dict[str, str]
    kind: Kind
    actions: pl.DataFrame | None = None
    """Splits and dividends of a store of raw prices."""
    venue: str | None = None
    """Whose calendar the bars keep, where it was said or the store knows."""


def _bars(bars: Any, told: ImportOptions) -> _Priced:
    held = getattr(bars, "history", None)
    if isinstance(bars, str | Path):
        history = MarketHistory.open(bars)
    elif isinstance(held, MarketHistory):
        history = held
    else:
        read = read_frame(as_polars(bars, "bars"), told, source="bars")
        return _Priced(read.bars, {}, kind_of(bars) or "polars", venue=read.spec.venue)
    provenance = {"store": str(history.root), "version of the store": history.version}
    actions = history.traded_actions()
    if actions is not None:
        provenance["corporate actions"] = f"{actions.height:,} of the store, of its raw prices"
    kind: Kind = getattr(bars, "kind", "polars")
    return _Priced(history.scan().collect(), provenance, kind, actions, history.spec.venue)
