"""Charts of how the account fared as time went by. Knows results and plotly, not the page."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from backtest.figures import metrics
from backtest.figures.through_time import monthly_profit, rolling, rolling_window, yearly
from backtest.report.style import EQUAL, GAIN, GIVEN, GRID, HOLD, LOSS, STRATEGY, ZERO, styled
from backtest.report.time_axis import thinned, without_gaps, words
from backtest.results import BacktestResult

Float = npt.NDArray[np.float64]


def rolled(result: BacktestResult) -> go.Figure:
    """Sharpe ratio, volatility and beta of the last bars, as they moved."""
    daily = result.strategy.daily
    return_T = metrics.returns(daily["equity"].to_numpy())
    other_T = metrics.returns(result.benchmark.daily["equity"].to_numpy())
    both = min(len(return_T), len(other_T))
    periods = result.periods_per_year
    free_T = result.rate_T[:both] / periods
    window = rolling_window(both, periods)
    curves = rolling(return_T[:both], other_T[:both], window, periods, free_T)
    labels_T = daily["timestamp"].to_numpy()[1 : both + 1]
    drawn = thinned(labels_T)
    drawn = drawn[drawn >= window - 1]
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.07)
    named = (("Sharpe ratio", STRATEGY, ".1f"), ("Volatility", EQUAL, ".0%"), ("Beta", HOLD, ".1f"))
    for row, (curve_T, (name, colour, form)) in enumerate(zip(curves, named, strict=True), 1):
        figure.add_scatter(
            x=words(labels_T[drawn]),
            y=curve_T[drawn].astype(np.float32),
            name=name,
            mode="lines",
            line={"color": colour, "width": 1.6},
            hovertemplate="%{y:" + (".1%" if "%" in form else ".2f") + "}",
            row=row,
            col=1,
        )
    styled(figure, "", tickformat="")
    for row, (name, _, form) in enumerate(named, 1):
        figure.update_yaxes(title={"text": name}, tickformat=form, nticks=5, row=row, col=1)
    figure.update_layout(showlegend=False)
    return without_gaps(figure, labels_T)


def exposures(result: BacktestResult) -> go.Figure:
    """Longs above zero, shorts below, over equity; and their sum. Where not every bar is drawn,
    means of the bars in between: what is held over the day counts, not what is held at its end."""
    daily = result.strategy.daily
    labels_T = daily["timestamp"].to_numpy()
    drawn = thinned(labels_T)
    equity_T = daily["equity"].to_numpy()
    worth_T = np.where(equity_T > 0, equity_T, np.nan)
    long_T, short_T = (daily[name].to_numpy() / worth_T for name in ("long", "short"))
    figure = go.Figure()
    curves = [("Long", long_T, GAIN, "rgba(16,185,129,0.22)")]
    if (daily["short"].to_numpy() > 0).any():
        curves += [
            ("Short", -short_T, LOSS, "rgba(239,68,68,0.22)"),
            ("Net", long_T - short_T, STRATEGY, ""),
        ]
    for name, curve_T, colour, fill in curves:
        figure.add_scatter(
            x=words(labels_T[drawn]),
            y=_means(curve_T, drawn).astype(np.float32),
            name=name,
            mode="lines",
            line={"color": colour, "width": 1.4},
            fill="tozeroy" if fill else "none",
            fillcolor=fill or None,
            hovertemplate="%{y:.1%}",
        )
    figure.add_hline(y=0, line={"color": ZERO, "width": 1})
    styled(figure, "Over equity", tickformat=".0%").update_layout(showlegend=len(curves) > 1)
    return without_gaps(figure, labels_T)


def _means(value_T: Float, drawn: npt.NDArray[np.int64]) -> Float:
    """Mean of the bars after the point drawn before, up to each point drawn."""
    if len(drawn) == len(value_T):
        return value_T
    begins = np.append(0, drawn[:-1] + 1)
    means: Float = np.add.reduceat(value_T, begins) / np.diff(np.append(begins, len(value_T)))
    return means


def histogram(result: BacktestResult) -> go.Figure:
    """How often a bar brought how much; counted here, so that the page carries counts alone."""
    return_T = metrics.returns(result.strategy.daily["equity"].to_numpy())
    edge = max(float(np.quantile(np.abs(return_T), 0.995)), 1e-6)
    edges = np.linspace(-edge, edge, 42)
    count, _ = np.histogram(np.clip(return_T, -edge, edge), edges)
    middle = (edges[1:] + edges[:-1]) / 2
    figure = go.Figure()
    figure.add_bar(
        x=middle,
        y=count,
        width=np.diff(edges) * 0.92,
        customdata=np.column_stack((edges[:-1], edges[1:])),
        marker={"color": [GAIN if x >= 0 else LOSS for x in middle], "opacity": 0.75},
        hovertemplate="%{customdata[0]:.2%} to %{customdata[1]:.2%}: %{y} bars<extra></extra>",
    )
    figure.add_vline(
        x=float(return_T.mean()), line={"color": STRATEGY, "width": 1.6, "dash": "dash"}
    )
    styled(figure, "Bars", tickformat="~s").update_layout(hovermode="closest", showlegend=False)
    return figure.update_xaxes(tickformat=".1%", nticks=7)


def months(result: BacktestResult) -> go.Figure:
    """Change of the equity in each calendar month, in currency."""
    frame = monthly_profit(result.strategy.daily)
    pnl = frame["pnl"].to_numpy()
    figure = go.Figure()
    figure.add_bar(
        x=frame["month"].dt.strftime("%Y-%m").to_list(),
        y=pnl,
        marker={"color": [GAIN if value >= 0 else LOSS for value in pnl], "opacity": 0.75},
        hovertemplate="%{x}: %{y:,.0f}<extra></extra>",
    )
    figure.add_hline(y=0, line={"color": ZERO, "width": 1})
    styled(figure, "Profit", tickformat="~s").update_layout(hovermode="closest", showlegend=False)
    return figure.update_xaxes(type="category", nticks=12, linecolor=GRID)


def years(result: BacktestResult) -> go.Figure:
    """Return of each calendar year, beside the benchmark."""
    figure = go.Figure()
    other = EQUAL if result.outside is None else GIVEN
    for book, colour in ((result.benchmark, other), (result.strategy, STRATEGY)):
        frame = yearly(book.daily)
        figure.add_bar(
            x=frame["year"].cast(str).to_list(),
            y=frame["return"].to_numpy(),
            name=book.name,
            marker={"color": colour, "opacity": 0.8},
            hovertemplate="%{y:+.1%}",
        )
    figure.add_hline(y=0, line={"color": ZERO, "width": 1})
    styled(figure, "Return", tickformat=".0%")
    return figure.update_xaxes(type="category", nticks=10, linecolor=GRID)
