"""`candlecast backtest`: stored forecasts and a store in, a tear sheet out. Computes nothing."""

from __future__ import annotations

from typing import Any

import polars as pl
import typer
from rich.console import Console

from backtest import BacktestResult
from backtest.settings import BacktestRequest
from cluster.commands.options import add, from_settings
from cluster.commands.output import Output
from market.table.forecasts import ForecastTable

SHOWN = (
    "Total return",
    "CAGR",
    "Sharpe ratio",
    "Deflated Sharpe",
    "Maximum drawdown",
    "Turnover",
    "Cost drag",
)


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    add(app, backtest)


@from_settings(
    "candlecast backtest --store store --forecasts forecasts",
    "candlecast backtest --store store --momentum 126 --momentum-skip 21 --k 10",
    "candlecast backtest --store store --scores scores.csv --strategy longshort --borrow-bps 50",
)
def backtest(settings: BacktestRequest, output: Output) -> None:
    """Trade forecasts, own scores or momentum after costs, and write the tear sheet."""
    from backtest import write_tear_sheet
    from backtest.report.caveats import SUSPECTED
    from backtest.report.export import write_tables

    with output.console.status("backtesting (the first run on a machine compiles for some 20 s)"):
        result = run(settings)
        path = write_tear_sheet(result, settings.report)
        if settings.export is not None:
            write_tables(result, settings.export, settings.export_form)
    output.result(result.summary() | {"report": str(path.resolve())}, lambda c: show(result, c))
    if "venue" in result.provenance:
        output.line(f"venue: {result.provenance['venue']}")
    for caveat in result.caveats:
        if caveat.startswith(SUSPECTED):
            output.line(caveat, style="yellow")
    output.line(f"tear sheet: {path.resolve()}")


def run(request: BacktestRequest) -> BacktestResult:
    """Read what the request names and backtest it."""
    from backtest import run_backtest

    return run_backtest(**load(request))


def load(request: BacktestRequest) -> dict[str, Any]:
    """The arguments of `run_backtest` that a request names: bars, scores, settings, provenance."""
    from datetime import timedelta

    import polars as pl

    from backtest.currency import with_currency
    from backtest.fills.prices import BAR_COLUMNS
    from backtest.scores.own import read_scores
    from backtest.scores.reading import read_actions, read_groups, read_table, read_terms
    from cluster.commands.backtest_series import benchmark_series, file_series
    from cluster.commands.backtest_venue import with_venue
    from market.exchange_sessions import sessions_per_year
    from market.lake.history import MarketHistory

    history = MarketHistory.open(request.store, version=request.store_version)
    provenance = {"version of the store": history.version}
    loaded: dict[str, Any] = {"forecasts": None, "settings": request}
    start = None
    if request.forecasts is not None:
        from backtest.scores.forecasts import FORECAST_COLUMNS
        from market.table.forecasts import ForecastTable
        from market.table.walkforwards import WalkForwardRecord

        table = ForecastTable(request.forecasts)
        model_id = _model_id(table, request.model_id)
        extra = ("close_std", "p_up")
        scan = table.scan(model_id, request.run_id).select(*FORECAST_COLUMNS, *extra)
        walked = None
        if request.walkforward is not None:
            walked = WalkForwardRecord.read(request.walkforward)
            model_id = walked.id
        rows = scan.collect() if walked is None else walked.select(scan)
        if rows.height:
            reach = rows.select((pl.col("timestamp").dt.date() - pl.col("as_of_date")).max()).item()
            # Enough bars before the first date for the fan charts to show where prices came from,
            # and for the window that volatilities are estimated over.
            start = rows["as_of_date"].min() - max(3 * reach, timedelta(days=100))
        if request.score.removeprefix("-") == "expected_drawdown":
            if walked is None:
                loaded["path_stats"] = table.path_stats(model_id, request.run_id).collect()
            else:
                loaded["path_stats"] = walked.select(table.path_stats())
        if table.keeps("paths"):
            loaded["paths"] = table.paths(run_id=request.run_id)
        provenance = _provenance(table, rows) | provenance
        loaded |= {
            "forecasts": rows,
            "settings": request.model_copy(update={"model_id": model_id}),
        }
    elif request.scores is not None:
        loaded["scores"] = read_scores(request.scores, request.score_column)
        provenance["scores"] = str(request.scores)
    for name in ("weights", "orders", "signals"):
        path = getattr(request, name)
        if path is not None:
            loaded[name] = read_table(path, name)
            provenance[name] = str(path)
    if request.groups is not None:
        loaded["groups"] = read_groups(request.groups)
    if request.terms is not None:
        loaded["terms"] = read_terms(request.terms)
    if request.actions is not None:
        loaded["actions"] = read_actions(request.actions)
    elif request.store_actions and (own := history.traded_actions()) is not None:
        loaded["actions"] = own
        provenance["corporate actions"] = f"{own.height:,} of the store, of its raw prices"
    if request.risk_free_rates is not None:
        loaded["rates"] = file_series(request.risk_free_rates, "risk-free rates")
    loaded["sessions_per_year"] = sessions_per_year(history.spec.venue)
    bars = history.scan(start=start).select(BAR_COLUMNS).collect()
    if request.venue_costs:
        span = bars["session"].min(), bars["session"].max()
        made = with_venue(
            loaded["settings"], loaded.get("terms"), history.spec.venue,
            bars["symbol"].unique().sort().to_list(), span,  # type: ignore[arg-type]
        )  # fmt: skip
        loaded |= {"settings": made.settings, "terms": made.terms}
        provenance["venue"] = made.words
    symbols = bars["symbol"].unique().sort().to_list()
    loaded["settings"], money = with_currency(loaded["settings"], history.spec.venue, symbols)
    if request.benchmark is not None:
        loaded["benchmark"] = benchmark_series(request.benchmark, history, loaded.get("actions"))
    return loaded | {"bars": bars, "provenance": provenance | money}


def show(result: BacktestResult, console: Console) -> None:
    """Print the headline figures, and what must not be overlooked."""
    from rich.table import Table

    from backtest import headline

    first, last = (
        result.strategy.daily["timestamp"][0],
        result.strategy.daily["timestamp"][-1],
    )
    table = Table(title=f"{first:%Y-%m-%d} to {last:%Y-%m-%d}, net of costs", title_justify="left")
    table.add_column("")
    for book in result.books:
        table.add_column(book.name, justify="right")
    for row in headline(result):
        if row.label in SHOWN:
            table.add_row(row.label, *row.values)
    console.print(table)
    ic = result.ic
    if ic.dates:
        console.print(
            f"mean rank IC {ic.mean:+.3f} (HAC t {ic.t:+.2f}, {ic.dates} dates); "
            f"{result.picks_above_median:.1%} of picks above the median",
            highlight=False,
        )
    if result.settings.rules.lag == 0:
        console.print("[bold yellow]SAME-BAR[/]: lag 0 fills nobody could have got")
    if result.in_sample_dates:
        console.print(
            f"[bold yellow]IN-SAMPLE[/]: {len(result.in_sample_dates)} of {ic.by_date.height} "
            "forecast dates are not after the model's training cut-off; they prove nothing",
            highlight=False,
        )
    if result.strategy.untraded.height:
        console.print(
            f"changes that could not trade: {result.strategy.untraded.height}; see the tear sheet",
            highlight=False,
        )


def _model_id(table: ForecastTable, wanted: str | None) -> str | None:
    """The id of a model given by id or by the name it was forecast under."""
    if wanted is None:
        return None
    named = {record.model_id for record in table.runs() if record.model == wanted}
    return named.pop() if len(named) == 1 else wanted


def _provenance(table: ForecastTable, rows: pl.DataFrame) -> dict[str, str]:
    records = [table.run(run_id) for run_id in rows["run_id"].unique().sort()]
    known = [record for record in records if record is not None]
    if not known:
        return {}
    return {
        "model": ", ".join(sorted({record.model for record in known})),
        "forecast from store": ", ".join(
            sorted({f"{r.history.get('root')} @ {r.history.get('version')}" for r in known})
        ),
    }
