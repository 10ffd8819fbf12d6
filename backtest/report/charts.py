"""Charts of the tear sheet. Knows results and plotly, nothing of the page.

Colours and layout are those of `backtest.report.style`.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from backtest.figures.metrics import drawdown
from backtest.figures.noise import NOISY
from backtest.report.style import EQUAL, GAIN, GIVEN, HOLD, LOSS, SHADE, STRATEGY, ZERO, styled
from backtest.report.time_axis import thinned, without_gaps, words
from backtest.results import BacktestResult, Book, Fan


def equity(result: BacktestResult) -> go.Figure:
    """Equity of the three books in currency; hover adds the return since the start."""
    figure = go.Figure()
    for book, colour in _coloured(result):
        values = book.daily["equity"].to_numpy()
        labels_T = book.daily["timestamp"].to_numpy()
        drawn = thinned(labels_T)
        figure.add_scatter(
            x=words(labels_T[drawn]),
            y=values[drawn],
            customdata=(values[drawn] / values[0] - 1).astype(np.float32),
            name=book.name,
            mode="lines",
            line={"color": colour, "width": 2.4 if book is result.strategy else 1.6},
            hovertemplate="%{y:,.0f}  (%{customdata:+.2%})",
        )
    _shade(figure, result)
    figure.add_hline(y=result.settings.cash, line={"color": ZERO, "width": 1, "dash": "dot"})
    styled(figure, f"Equity ({_currency(result)})", tickformat="~s")
    return without_gaps(figure, result.strategy.daily["timestamp"].to_numpy())


def drawdowns(result: BacktestResult) -> go.Figure:
    """How far below its peak each book stands."""
    figure = go.Figure()
    for book, colour in _coloured(result):
        main = book is result.strategy
        labels_T = book.daily["timestamp"].to_numpy()
        drawn = thinned(labels_T)
        figure.add_scatter(
            x=words(labels_T[drawn]),
            y=drawdown(book.daily["equity"].to_numpy())[drawn].astype(np.float32),
            name=book.name,
            mode="lines",
            line={"color": colour, "width": 2 if main else 1.3},
            fill="tozeroy" if main else "none",
            fillcolor="rgba(59,130,246,0.16)",
            hovertemplate="%{y:.2%}",
        )
    _shade(figure, result)
    styled(figure, "Below the peak", tickformat=".0%")
    return without_gaps(figure, result.strategy.daily["timestamp"].to_numpy())


def noise(result: BacktestResult) -> go.Figure:
    """Share of sampling error in the expected returns of each date; drawn up to 1."""
    assert result.noise is not None
    share = result.noise["share"].clip(0, 1).to_numpy()
    figure = go.Figure()
    figure.add_scatter(
        x=words(result.noise["as_of"].dt.replace_time_zone(None).to_numpy()),
        y=share.astype(np.float32),
        name="Sampling error",
        mode="lines+markers" if len(share) < 60 else "lines",
        line={"color": LOSS, "width": 1.6},
        hovertemplate="%{y:.0%}",
    )
    figure.add_hline(y=NOISY, line={"color": ZERO, "width": 1, "dash": "dot"})
    styled(figure, "Share", tickformat=".0%").update_layout(showlegend=False)
    return figure.update_yaxes(range=[0, max(float(share.max()), 2 * NOISY) * 1.05])


def trading(result: BacktestResult) -> go.Figure:
    """Turnover of each rebalance, and what trading has cost so far."""
    frame = result.strategy.rebalances
    when = words(frame["timestamp"].to_numpy())
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.09)
    figure.add_bar(
        x=when,
        y=frame["turnover"].to_numpy(),
        name="Turnover",
        marker={"color": STRATEGY, "opacity": 0.75},
        hovertemplate="%{y:.1%}",
        row=1,
        col=1,
    )
    for column, name, colour, fill in (
        ("fee", "Commission", "#8b5cf6", "rgba(139,92,246,0.35)"),
        ("slippage", "Slippage", "#ec4899", "rgba(236,72,153,0.35)"),
    ):
        figure.add_scatter(
            x=when,
            y=(frame[column].cum_sum().to_numpy() / result.settings.cash).astype(np.float32),
            name=name,
            mode="lines",
            line={"color": colour, "width": 1.4, "shape": "hv"},
            fillcolor=fill,
            stackgroup="costs",
            hovertemplate="%{y:.3%}",
            row=2,
            col=1,
        )
    _shade(figure, result)
    styled(figure, "Turnover", tickformat=".0%")
    figure.update_yaxes(title="Costs so far<br>(of starting cash)", tickformat=".2~%", row=2, col=1)
    figure.update_yaxes(rangemode="tozero")
    return without_gaps(figure, result.strategy.daily["timestamp"].to_numpy())


def information_coefficient(result: BacktestResult) -> go.Figure:
    """Rank IC of each forecast date, and the mean."""
    frame = result.ic.by_date.filter(pl.col("ic").is_finite())
    values = frame["ic"].to_numpy()
    one_a_day = frame["as_of_date"].is_unique().all()
    when = frame["as_of_date"].cast(pl.Datetime("us")) if one_a_day else frame["as_of"]
    figure = go.Figure()
    figure.add_bar(
        x=when.to_numpy(),
        y=values,
        customdata=frame["names"].to_numpy(),
        name="Rank IC",
        marker={"color": [GAIN if value >= 0 else LOSS for value in values], "opacity": 0.8},
        hovertemplate="%{y:+.3f} over %{customdata} names",
    )
    _shade(figure, result)
    figure.add_hline(y=0, line={"color": ZERO, "width": 1})
    if np.isfinite(result.ic.mean):
        figure.add_hline(
            y=result.ic.mean,
            name=f"mean {result.ic.mean:+.3f} (HAC t {result.ic.t:+.2f})",
            showlegend=True,
            line={"color": STRATEGY, "width": 2, "dash": "dash"},
        )
    figure.update_traces(showlegend=False)
    return styled(figure, "Rank IC", tickformat="+.2f").update_layout(showlegend=True)


def quantiles(result: BacktestResult) -> go.Figure:
    """Mean return over the horizon of each fifth of the scores, with two standard errors."""
    frame = result.quantiles
    figure = go.Figure()
    values = frame["mean"].to_numpy()
    figure.add_bar(
        x=[f"{q}" for q in frame["quantile"]],
        y=values,
        error_y={
            "array": 2 * frame["error"].fill_null(0.0).to_numpy(),
            "color": HOLD,
            "thickness": 1.2,
            "width": 4,
        },
        customdata=frame["dates"].to_numpy(),
        marker={"color": [GAIN if value >= 0 else LOSS for value in values], "opacity": 0.8},
        hovertemplate="%{y:+.2%} over %{customdata} dates<extra></extra>",
    )
    figure.add_hline(y=0, line={"color": ZERO, "width": 1})
    styled(figure, f"Return over {result.horizon} bars", tickformat=".1%")
    figure.update_layout(hovermode="closest", margin={"b": 52})
    return figure.update_xaxes(
        type="category", title={"text": "fifth of the scores, 5 is the highest", "standoff": 8}
    )


def decay(result: BacktestResult) -> go.Figure:
    """Mean rank IC by how many bars ahead the return is taken."""
    frame = result.decay
    figure = go.Figure()
    figure.add_scatter(
        x=frame["bars"].to_numpy(),
        y=frame["ic"].to_numpy(),
        customdata=frame["dates"].to_numpy(),
        mode="lines+markers",
        line={"color": STRATEGY, "width": 2},
        hovertemplate="%{x} bars: %{y:+.3f} over %{customdata} dates<extra></extra>",
    )
    figure.add_hline(y=0, line={"color": ZERO, "width": 1})
    styled(figure, "Mean rank IC", tickformat="+.2f")
    figure.update_layout(hovermode="closest", margin={"b": 52})
    return figure.update_xaxes(title={"text": "bars ahead", "standoff": 8})


def _currency(result: BacktestResult) -> str:
    return result.settings.currency or "currency of the prices"


def fan(chart: Fan) -> go.Figure:
    """Forecast bands, the closes before and the closes after."""
    last = chart.past.tail(1)
    labels = pl.concat([last["timestamp"], chart.bands["timestamp"]]).to_numpy()
    bands = {
        name: np.concatenate((last["close"].to_numpy(), chart.bands[name].to_numpy()))
        for name in chart.bands.columns
        if name != "timestamp"
    }
    figure = go.Figure()
    for low, high, name, alpha in (
        ("close_q05", "close_q95", "5-95 %", 0.15),
        ("close_q25", "close_q75", "25-75 %", 0.28),
    ):
        for edge, fill in ((low, "none"), (high, "tonexty")):
            figure.add_scatter(
                x=labels,
                y=bands[edge],
                name=f"{name} of paths",
                mode="lines",
                line={"width": 0, "color": STRATEGY},
                fill=fill,
                fillcolor=f"rgba(59,130,246,{alpha})",
                showlegend=edge == high,
                legendgroup=name,
                hovertemplate=f"%{{y:,.4~g}} ({edge[-2:]} % quantile)<extra></extra>",
            )
    lines: tuple[tuple[str, Any, Any, dict[str, Any]], ...] = (
        ("Median", labels, bands["close_q50"], {"color": STRATEGY, "width": 2}),
        ("Mean", labels, bands["close_mean"], {"color": STRATEGY, "width": 1.2, "dash": "dot"}),
        ("Known", *_xy(chart.past), {"color": HOLD, "width": 1.6}),
        ("What happened", *_xy(pl.concat([last, chart.actual])), {"color": EQUAL, "width": 2.2}),
    )
    for name, x, y, line in lines:
        figure.add_scatter(x=x, y=y, name=name, mode="lines", line=line, hovertemplate="%{y:,.4~g}")
    figure.add_vline(x=labels[0], line={"color": ZERO, "width": 1, "dash": "dot"})
    place = f"score rank {chart.rank} of {chart.ranked}" if chart.rank else "no score"
    mark = ", IN-SAMPLE" if chart.in_sample else ""
    styled(figure, "Close", tickformat=",.4~g")
    return figure.update_layout(
        title={
            "text": f"<b>{escape(chart.symbol)}</b>  {place}{mark}",
            "font": {"size": 14},
            "x": 0.01,
            "xanchor": "left",
            "y": 0.97,
        },
        margin={"t": 46},
        showlegend=False,
    )


def _coloured(result: BacktestResult) -> Sequence[tuple[Book, str]]:
    """Benchmarks first, so that the strategy is drawn on top."""
    given = () if result.outside is None else ((result.outside, GIVEN),)
    return (
        *given,
        (result.buy_and_hold, HOLD),
        (result.equal_weight, EQUAL),
        (result.strategy, STRATEGY),
    )


def _shade(figure: go.Figure, result: BacktestResult) -> None:
    for first, last in result.in_sample_spans:
        figure.add_vrect(x0=first, x1=last, fillcolor=SHADE, line_width=0, layer="below")


def _xy(closes: pl.DataFrame) -> tuple[Any, Any]:
    return closes["timestamp"].to_numpy(), closes["close"].to_numpy()
