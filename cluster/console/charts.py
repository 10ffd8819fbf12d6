"""Figures of the console: candles, fans, curves. Knows plotly's figures, nothing of pages.

The bundle that draws them knows lines and bars alone, so that a candle is a bar between open and
close and a line between low and high. Text and axis colours are the page's stylesheet's. Traces are
written as the bundle reads them: plotly's own objects would take most of a page's time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import polars as pl
from markupsafe import Markup

from backtest.report.style import EQUAL, GAIN, HOLD, LOSS, STRATEGY, ZERO, styled

COLOURS = (STRATEGY, EQUAL, GAIN, LOSS, "#8b5cf6", "#14b8a6", "#ec4899", "#64748b")
_SHADES = {"q05": 0.15, "q25": 0.28}
_DIGITS = 7
"""Significant digits of what is drawn."""


@dataclass
class Figure:
    """Traces and layout, as plotly's script takes them."""

    layout: dict[str, Any]
    traces: list[dict[str, Any]] = field(default_factory=list)

    def line(
        self, x: Sequence[Any], y: Sequence[float | None], name: str, *, colour: str,
        width: float = 2, dash: str = "solid", hover: str = "%{y}", **more: Any,
    ) -> None:  # fmt: skip
        """Add a line; None is a gap."""
        self.traces.append({
            "type": "scatter", "mode": "lines", "x": list(x), "y": rounded(y), "name": name,
            "line": {"color": colour, "width": width, "dash": dash}, "hovertemplate": hover, **more,
        })  # fmt: skip

    def rule(self, *, x: str | None = None, y: float | None = None, dash: str = "solid") -> None:
        """Add a line across the plot: upright at x, or level at y."""
        ends = (
            {"x0": x, "x1": x, "xref": "x", "y0": 0, "y1": 1, "yref": "y domain"}
            if x is not None
            else {"x0": 0, "x1": 1, "xref": "x domain", "y0": y, "y1": y, "yref": "y"}
        )
        line = {"color": ZERO, "width": 1, "dash": dash}
        self.layout.setdefault("shapes", []).append({"type": "line", "line": line, **ends})


def embedded(figure: Figure) -> Markup:
    """A figure as JSON that may stand inside a page."""
    return as_data({"data": figure.traces, "layout": figure.layout})


def as_data(value: Any) -> Markup:
    """JSON that nothing inside can end early: no markup character is left in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def rounded(values: Sequence[float | None]) -> list[float | None]:
    """Values in the digits that a chart shows; None for what is not a number."""
    return [
        None if v is None or v != v or v in (float("inf"), float("-inf"))
        else float(f"{v:.{_DIGITS}g}")
        for v in values
    ]  # fmt: skip


def _figure(y_title: str, tickformat: str) -> Figure:
    """An empty one in the house style, its legend above the plot at any size."""
    layout = json.loads(_styled(y_title, tickformat))
    layout["legend"] |= {"yref": "container", "y": 0.995, "yanchor": "top"}
    return Figure(layout)


@lru_cache(maxsize=32)
def _styled(y_title: str, tickformat: str) -> str:
    import plotly.graph_objects as go

    made = styled(go.Figure(), y_title, tickformat)
    return json.dumps(json.loads(made.to_json())["layout"])


def fan(bars: pl.DataFrame, after: pl.DataFrame, steps: pl.DataFrame) -> Figure:
    """Candles up to the forecast, its bands, and the candles that followed.

    bars, after: timestamp, open, high, low, close. steps: a forecast's rows, sorted by step.
    """
    figure = _figure("Price", ",.5~g")
    labels = pl.concat([bars.tail(1)["timestamp"], steps["timestamp"]])
    when, start = _times(labels), float(steps["last_close"][0])

    def band(column: str) -> list[float]:
        values = steps[f"close_{column}"].to_list()
        return [start, *values] if len(when) > len(values) else values

    for low, high, name in (("q05", "q95", "5–95 %"), ("q25", "q75", "25–75 %")):
        for edge, fill in ((low, "none"), (high, "tonexty")):
            figure.line(
                when, band(edge), name, colour=STRATEGY, width=0,
                hover=f"%{{y:,.5~g}} ({edge[1:]} %)<extra></extra>", fill=fill, legendgroup=name,
                fillcolor=f"rgba(59,130,246,{_SHADES[low]})", showlegend=edge == high,
            )  # fmt: skip
    figure.line(when, band("q50"), "Median", colour=STRATEGY, hover="%{y:,.5~g}")
    _candles(figure, bars, "Known", 1.0)
    if after.height:
        _candles(figure, after, "What happened", 0.95, EQUAL)
    figure.rule(x=when[0], dash="dot")
    if not (pl.concat([bars["timestamp"], labels]).dt.weekday() >= 6).any():
        figure.layout["xaxis"]["rangebreaks"] = [{"bounds": ["sat", "mon"]}]
    figure.layout |= {"barmode": "overlay", "bargap": 0.3, "hovermode": "x"}
    return figure


def _candles(
    figure: Figure, bars: pl.DataFrame, name: str, opacity: float, colour: str | None = None
) -> None:
    when = _times(bars["timestamp"])
    rises = (bars["close"] >= bars["open"]).to_list()
    wick_x: list[str | None] = []
    wick_y: list[float | None] = []
    for at, low, high in zip(when, bars["low"], bars["high"], strict=True):
        wick_x += [at, at, None]
        wick_y += [low, high, None]
    figure.line(
        wick_x, wick_y, name, colour=colour or HOLD, width=1, hoverinfo="skip", showlegend=False,
        legendgroup=name,
    )  # fmt: skip
    said = [
        f"open {o:,.6g}<br>high {h:,.6g}<br>low {lo:,.6g}<br>close {c:,.6g}"
        for o, h, lo, c in bars.select("open", "high", "low", "close").iter_rows()
    ]
    fills = [colour or (GAIN if up else LOSS) for up in rises]
    bottom = bars.select(pl.min_horizontal("open", "close")).to_series()
    figure.traces.append({
        "type": "bar", "x": when, "y": rounded((bars["close"] - bars["open"]).abs().to_list()),
        "base": rounded(bottom.to_list()), "name": name, "opacity": opacity, "text": said,
        "marker": {"color": fills, "line": {"color": fills, "width": 1}}, "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>", "legendgroup": name,
    })  # fmt: skip


def beside(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Median return to each step of several models, dotted their 80% intervals."""
    figure = _figure("Return", "+.1%")
    for k, row in enumerate(rows):
        at, colour = range(1, len(row["median"]) + 1), COLOURS[k % len(COLOURS)]
        name = row["name"]
        figure.line(at, row["median"], name, colour=colour, hover="%{y:+.2%}", legendgroup=name)
        for edge in ("low", "high"):
            figure.line(
                at, row[edge], name, colour=colour, width=1, dash="dot", showlegend=False,
                hover="%{y:+.2%}<extra></extra>", legendgroup=name,
            )  # fmt: skip
    figure.rule(y=0)
    figure.layout["xaxis"]["title"] = {"text": "bars ahead", "standoff": 12}
    figure.layout["margin"] |= {"b": 56}
    return figure


def ratios(rows: pl.DataFrame) -> Figure:
    """CRPS over the random walk's by night; below 1 is better. rows: as_of_date, step, ratio."""
    figure = _figure("CRPS / random walk's", ".2f")
    for k, step in enumerate(rows["step"].unique().sort()):
        own = rows.filter(pl.col("step") == step).sort("as_of_date")
        figure.line(
            [str(day) for day in own["as_of_date"]], own["ratio"].to_list(), f"bar {step}",
            colour=COLOURS[k % len(COLOURS)], width=1.8, hover="%{y:.3f}", mode="lines+markers",
            marker={"size": 5},
        )  # fmt: skip
    figure.rule(y=1, dash="dot")
    return figure


def ratios_beside(models: Sequence[tuple[str, pl.DataFrame]]) -> Figure:
    """The same of several models at their last step, one line each."""
    figure = _figure("CRPS / random walk's", ".2f")
    for k, (name, rows) in enumerate(models):
        own = rows.filter(pl.col("step") == rows["step"].max()).sort("as_of_date")
        figure.line(
            [str(day) for day in own["as_of_date"]], own["ratio"].to_list(), name,
            colour=COLOURS[k % len(COLOURS)], width=1.8, hover="%{y:.3f}", mode="lines+markers",
            marker={"size": 5},
        )  # fmt: skip
    figure.rule(y=1, dash="dot")
    return figure


def curves(reports: Sequence[Mapping[str, Any]]) -> Figure:
    """Equity of several backtests, each from 1; dotted where it is a benchmark."""
    figure = _figure("Equity (start = 1)", ".2f")
    for k, report in enumerate(reports):
        for book in report["books"][:2]:
            first = next((v for v in book["equity"] if v), 1.0)
            main = book is report["books"][0]
            figure.line(
                report["timestamps"], [v / first if v else None for v in book["equity"]],
                f"{report['label']}: {book['name']}", colour=COLOURS[k % len(COLOURS)],
                width=2.2 if main else 1.1, dash="solid" if main else "dot", hover="%{y:.3f}",
            )  # fmt: skip
    figure.rule(y=1)
    return figure


def drawdowns(reports: Sequence[Mapping[str, Any]]) -> Figure:
    """How far below its highest value so far each backtest was."""
    figure = _figure("Below the highest so far", ".0%")
    for k, report in enumerate(reports):
        book, highest = report["books"][0], 0.0
        below: list[float | None] = []
        for value in book["equity"]:
            highest = max(highest, value or 0.0)
            below.append(value / highest - 1 if value and highest else None)
        figure.line(
            report["timestamps"], below, report["label"], colour=COLOURS[k % len(COLOURS)],
            width=1.6, hover="%{y:.1%}",
        )  # fmt: skip
    figure.rule(y=0)
    return figure


def _times(labels: pl.Series) -> list[str]:
    """Labels as plotly reads dates."""
    return labels.dt.strftime("%Y-%m-%d %H:%M:%S").to_list()
