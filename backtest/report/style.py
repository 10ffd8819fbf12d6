"""Colours and layout of every chart. Knows plotly, nothing of what is drawn.

Text, grid and axis colours are left to the page's stylesheet, which follows the reader's light or
dark setting; the colours here read on both.
"""

from __future__ import annotations

import plotly.graph_objects as go

STRATEGY, EQUAL, HOLD, GIVEN = "#3b82f6", "#f59e0b", "#8b95a7", "#a855f7"
GAIN, LOSS, SHADE = "#10b981", "#ef4444", "rgba(217,119,6,0.13)"
GRID, ZERO = "rgba(128,138,155,0.22)", "rgba(128,138,155,0.6)"
FONT = "Inter, ui-sans-serif, system-ui, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"


def styled(figure: go.Figure, y_title: str, tickformat: str) -> go.Figure:
    """The figure in the house style, with one titled value axis; returned for chaining."""
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 12.5},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#8b95a7", "activecolor": STRATEGY},
        margin={"l": 72, "r": 18, "t": 34, "b": 36},
        hovermode="x unified",
        hoverlabel={
            "bgcolor": "#1f2937",
            "bordercolor": "#374151",
            "font": {"color": "#f9fafb", "size": 12},
        },
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "traceorder": "reversed",
        },
        bargap=0.25,
    )
    figure.update_xaxes(
        showgrid=False,
        zeroline=False,
        showline=True,
        linecolor=GRID,
        ticks="outside",
        tickcolor=GRID,
        ticklen=4,
    )
    return figure.update_yaxes(
        title={"text": y_title, "standoff": 10},
        tickformat=tickformat,
        gridcolor=GRID,
        zeroline=False,
        nticks=7,
    )
