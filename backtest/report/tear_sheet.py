"""A backtest as one HTML page that works offline. Knows results, charts and the template.

The page forbids itself every outside request (Content-Security-Policy), so what it shows cannot
depend on a network, and opening it contacts no server.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from backtest.figures.through_time import rolling_window, worst_falls
from backtest.figures.trades import by_group, by_symbol, holdings
from backtest.report import charts, time_charts
from backtest.report.embedded import data_block
from backtest.report.page import as_html, css, plotly_js, template, write_page
from backtest.report.words import (
    NOTHING,
    benchmark_words,
    headline,
    risk_free_words,
    signed,
    trials,
    what_is_traded,
)
from backtest.results import BacktestResult
from market.settings import flat

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class Cell:
    """One month of the heat map; empty text where the backtest did not reach it."""

    text: str
    strength: float
    """-1 to 1, relative to the strongest month shown."""


def write_tear_sheet(result: BacktestResult, path: Path) -> Path:
    """Write the page to `path` and return it; folders are made, an older page is replaced whole."""
    return write_page(render(result), path)


def render(result: BacktestResult) -> str:
    """The page's HTML."""
    return template("tear_sheet.html.j2").render(
        result=result,
        metrics=result.strategy.metrics,
        traded=what_is_traded(result),
        against=benchmark_words(result),
        free=risk_free_words(result),
        trials=trials(result.settings.trials),
        first=_day(result, 0),
        last=_day(result, -1),
        bars=result.strategy.daily.height,
        rows=headline(result),
        months=MONTHS,
        years=monthly_returns(result.strategy.daily),
        facts=facts(result),
        css=css(),
        figures=data_block(figures(result)),
        plotly_js=plotly_js(),
        equity=as_html(charts.equity(result), "equity", 400),
        drawdowns=as_html(charts.drawdowns(result), "drawdowns", 240),
        exposures=as_html(time_charts.exposures(result), "exposure", 220),
        rolled=as_html(time_charts.rolled(result), "rolling", 460),
        window=rolling_window(result.strategy.daily.height - 1, result.periods_per_year),
        histogram=as_html(time_charts.histogram(result), "histogram", 290),
        by_year=as_html(time_charts.years(result), "years", 290),
        by_month=as_html(time_charts.months(result), "months", 240),
        falls=worst_falls(
            result.strategy.daily["equity"].to_numpy(),
            result.strategy.daily["timestamp"].to_numpy(),
        ),
        symbols=profits(by_symbol(result.trades), "symbol"),
        groups=profits(by_group(result.trades, result.groups), "group") if result.groups else [],
        positions=last_positions(result),
        quantiles=as_html(charts.quantiles(result), "quantiles", 290)
        if result.quantiles.height
        else None,
        decay=as_html(charts.decay(result), "decay", 290) if result.decay.height else None,
        noise=as_html(charts.noise(result), "noise", 220)
        if result.noise is not None and result.noise.height
        else None,
        trading=as_html(charts.trading(result), "trading", 380),
        ic=as_html(charts.information_coefficient(result), "ic", 300),
        fans=[as_html(charts.fan(chart), f"fan-{i}", 290) for i, chart in enumerate(result.fans)],
    )


def profits(frame: pl.DataFrame, name: str, most: int = 8) -> list[tuple[str, int, float, float]]:
    """(name, trades, profit, fees) of the best and the worst; of few, all."""
    rows = list(frame.select(name, "trades", "pnl", "fee").iter_rows())
    return rows if len(rows) <= 2 * most else rows[:most] + rows[-most:]


def last_positions(result: BacktestResult, most: int = 20) -> pl.DataFrame:
    """symbol, shares, value, weight at the last close, the largest first."""
    held = holdings(result.strategy.simulation, result.prices)
    last = held.filter(pl.col("timestamp") == result.strategy.daily["timestamp"][-1])
    return last.sort(pl.col("value").abs(), descending=True).head(most)


def figures(result: BacktestResult) -> dict[str, Any]:
    """What the page shows, for programs: headline figures, settings and equity by bar."""
    return {
        "kind": "backtest",
        "title": result.settings.title,
        "summary": result.summary(),
        "settings": flat(result.settings),
        "provenance": dict(result.provenance),
        "caveats": list(result.caveats),
        "timestamps": [f"{t:%Y-%m-%d %H:%M}" for t in result.strategy.daily["timestamp"]],
        "books": [
            {"name": book.name, "equity": book.daily["equity"].to_list()} for book in result.books
        ],
    }


def monthly_returns(daily: pl.DataFrame) -> list[tuple[int, list[Cell], Cell]]:
    """(year, twelve months, whole year) of returns; first and last months may be partial."""
    month = pl.col("timestamp").dt.truncate("1mo")
    ends = daily.group_by(month, maintain_order=True).agg(pl.col("equity").last())
    start = float(daily["equity"][0])
    returns = ends.with_columns(
        (pl.col("equity") / pl.col("equity").shift(1, fill_value=start) - 1).alias("return")
    )
    by_month = {
        (row["timestamp"].year, row["timestamp"].month): row["return"]
        for row in returns.iter_rows(named=True)
    }
    strongest = max(abs(value) for value in by_month.values()) or 1.0
    table = []
    for year in range(min(by_month)[0], max(by_month)[0] + 1):
        values = [by_month.get((year, m)) for m in range(1, 13)]
        whole = math.prod(1 + value for value in values if value is not None) - 1
        cells = [Cell("", 0.0) if v is None else Cell(signed(v), v / strongest) for v in values]
        table.append((year, cells, Cell(signed(whole), 0.0)))
    return table


def facts(result: BacktestResult) -> list[tuple[str, str]]:
    """Everything that made the figures, as (name, value)."""
    told_elsewhere = {"title", "model_id", "run_id"}
    strategy = result.strategy
    fixed = [
        ("model_id", result.model_id),
        ("run_id", ", ".join(result.run_ids) or NOTHING),
        *result.provenance.items(),
        ("decisions", f"{result.ic.by_date.height}"),
        ("symbols", f"{result.scores['symbol'].n_unique():,}"),
        ("scores traded on", f"{result.scores.height:,}"),
        ("paths per forecast", ", ".join(map(str, result.n_paths)) or NOTHING),
        ("horizon in bars", f"{result.horizon}"),
        ("bars per year", f"{result.periods_per_year:g}"),
        ("commission paid", f"{strategy.simulation.totals['fees']:,.0f}"),
        ("slippage and impact paid", f"{strategy.simulation.totals['slippage']:,.0f}"),
    ]
    return fixed + [
        (name, NOTHING if value in (None, []) else _words(value))
        for name, value in flat(result.settings).items()
        if name not in told_elsewhere
    ]


def _words(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.10g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _day(result: BacktestResult, index: int) -> str:
    return f"{result.strategy.daily['timestamp'][index]:%d %b %Y}"
