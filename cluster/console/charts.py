"""Figures of the console: candles, fans, curves. Knows plotly's figures, nothing of pages.

The bundle that draws them knows lines and bars alone, so that a candle is a bar between open and
close and a line between low and high. Text and axis colours are the page's stylesheet's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import polars as pl
from markupsafe import Markup

from backtest.report.style import EQUAL, GAIN, HOLD, LOSS, STRATEGY, ZERO, styled

COLOURS = (STRATEGY, EQUAL, GAIN, LOSS, "#8b5cf6", "#14b8a6", "#ec4899", "#64748b")
_SHADES = {"q05": 0.15, "q25": 0.28}


def embedded(figure: go.Figure) -> Markup:
    """A figure as JSON that may stand inside a page; its legend above the plot, at any size."""
    figure.update_layout(legend={"yref": "container", "y": 0.995, "yanchor": "top"})
    return as_data(json.loads(figure.to_json()))


def as_data(value: Any) -> Markup:
    """JSON that nothing inside can end early: no markup character is left in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def fan(bars: pl.DataFrame, after: pl.DataFrame, steps: pl.DataFrame) -> go.Figure:
    """Candles up to the forecast, its bands, and the candles that followed.

    bars, after: timestamp, open, high, low, close. steps: a forecast's rows, sorted by step.
    """
    figure = go.Figure()
    last = bars.tail(1)
    labels = pl.concat([last["timestamp"], steps["timestamp"]])
    start = float(steps["last_close"][0])

    def line(column: str) -> list[float]:
        return [start, *steps[f"close_{column}"].to_list()]

    for low, high, name in (("q05", "q95", "5–95 %"), ("q25", "q75", "25–75 %")):
        for edge, fill in ((low, "none"), (high, "tonexty")):
            figure.add_scatter(
                x=_times(labels), y=line(edge), name=name, mode="lines",
                line={"width": 0, "color": STRATEGY}, fill=fill,
                fillcolor=f"rgba(59,130,246,{_SHADES[low]})", showlegend=edge == high,
                legendgroup=name, hovertemplate=f"%{{y:,.5~g}} ({edge[1:]} %)<extra></extra>",
            )  # fmt: skip
    figure.add_scatter(
        x=_times(labels), y=line("q50"), name="Median", mode="lines",
        line={"color": STRATEGY, "width": 2}, hovertemplate="%{y:,.5~g}",
    )  # fmt: skip
    _candles(figure, bars, "Known", 1.0)
    if after.height:
        _candles(figure, after, "What happened", 0.95, EQUAL)
    figure.add_vline(x=_times(labels)[0], line={"color": ZERO, "width": 1, "dash": "dot"})
    styled(figure, "Price", tickformat=",.5~g")
    if not (pl.concat([bars["timestamp"], labels]).dt.weekday() >= 6).any():
        figure.update_xaxes(rangebreaks=[{"bounds": ["sat", "mon"]}])
    return figure.update_layout(barmode="overlay", bargap=0.3, hovermode="x")


def _candles(
    figure: go.Figure, bars: pl.DataFrame, name: str, opacity: float, colour: str | None = None
) -> None:
    when = _times(bars["timestamp"])
    rises = (bars["close"] >= bars["open"]).to_list()
    body = (bars["close"] - bars["open"]).abs()
    wick: dict[str, list[Any]] = {"x": [], "y": []}
    for at, low, high in zip(when, bars["low"], bars["high"], strict=True):
        wick["x"] += [at, at, None]
        wick["y"] += [low, high, None]
    ink = colour or HOLD
    figure.add_scatter(
        **wick, mode="lines", line={"color": ink, "width": 1}, showlegend=False, hoverinfo="skip",
        connectgaps=False, legendgroup=name,
    )  # fmt: skip
    said = [
        f"open {o:,.6g}<br>high {h:,.6g}<br>low {lo:,.6g}<br>close {c:,.6g}"
        for o, h, lo, c in bars.select("open", "high", "low", "close").iter_rows()
    ]
    fills = [colour or (GAIN if up else LOSS) for up in rises]
    figure.add_bar(
        x=when, y=body.to_list(), base=bars.select(pl.min_horizontal("open", "close"))
        .to_series().to_list(),
        name=name, opacity=opacity,
        marker={"color": fills, "line": {"color": fills, "width": 1}},
        text=said, textposition="none", hovertemplate="%{text}<extra></extra>", legendgroup=name,
    )  # fmt: skip


def beside(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Median return to each step of several models, with the 80% interval of the last."""
    figure = go.Figure()
    for k, row in enumerate(rows):
        colour = COLOURS[k % len(COLOURS)]
        at = list(range(1, len(row["median"]) + 1))
        figure.add_scatter(
            x=at, y=row["median"], name=row["name"], mode="lines",
            line={"color": colour, "width": 2}, legendgroup=row["name"], hovertemplate="%{y:+.2%}",
        )  # fmt: skip
        for edge in ("low", "high"):
            figure.add_scatter(
                x=at, y=row[edge], name=row["name"], mode="lines", showlegend=False,
                line={"color": colour, "width": 1, "dash": "dot"}, legendgroup=row["name"],
                hovertemplate="%{y:+.2%}<extra></extra>",
            )  # fmt: skip
    figure.add_hline(y=0, line={"color": ZERO, "width": 1})
    styled(figure, "Return", tickformat="+.1%")
    return figure.update_xaxes(title={"text": "bars ahead", "standoff": 12}).update_layout(
        margin={"b": 56}
    )


def ratios(rows: pl.DataFrame) -> go.Figure:
    """CRPS over the random walk's by night; below 1 is better. rows: as_of_date, step, ratio."""
    figure = go.Figure()
    for k, step in enumerate(rows["step"].unique().sort()):
        own = rows.filter(pl.col("step") == step).sort("as_of_date")
        figure.add_scatter(
            x=[str(day) for day in own["as_of_date"]], y=own["ratio"].to_list(),
            name=f"bar {step}", mode="lines+markers", marker={"size": 5},
            line={"color": COLOURS[k % len(COLOURS)], "width": 1.8}, hovertemplate="%{y:.3f}",
        )  # fmt: skip
    figure.add_hline(y=1, line={"color": ZERO, "width": 1, "dash": "dot"})
    return styled(figure, "CRPS / random walk's", tickformat=".2f")


def curves(reports: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Equity of several backtests, each from 1; dotted where it is a benchmark."""
    figure = go.Figure()
    for k, report in enumerate(reports):
        for book in report["books"][:2]:
            first = next((v for v in book["equity"] if v), 1.0)
            main = book is report["books"][0]
            figure.add_scatter(
                x=report["timestamps"], y=[v / first if v else None for v in book["equity"]],
                name=f"{report['label']}: {book['name']}", mode="lines", hovertemplate="%{y:.3f}",
                line={
                    "color": COLOURS[k % len(COLOURS)], "width": 2.2 if main else 1.1,
                    "dash": "solid" if main else "dot",
                },
            )  # fmt: skip
    figure.add_hline(y=1, line={"color": ZERO, "width": 1})
    return styled(figure, "Equity (start = 1)", tickformat=".2f")


def _times(labels: pl.Series) -> list[str]:
    """Labels as plotly reads dates."""
    return labels.dt.strftime("%Y-%m-%d %H:%M:%S").to_list()
