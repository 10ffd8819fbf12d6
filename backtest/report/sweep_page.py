"""A sweep as one HTML page that works offline. Knows sweep results; computes no figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from backtest.report import style
from backtest.report.embedded import data_block
from backtest.report.page import as_html, css, plotly_js, template, write_page
from backtest.report.words import trials
from backtest.sweep import SweepPlan
from backtest.sweep_result import SweepResult
from market.errors import ConfigError

MOST_DRAWN = 1_500
"""Points of the line of all combinations."""
SHOWN = 20
COLOURS = [
    [0, "rgba(239,68,68,0.75)"],
    [0.5, "rgba(128,138,155,0.1)"],
    [1, "rgba(16,185,129,0.75)"],
]
"""Translucent, so that numbers read on light and dark pages alike."""


def write_sweep_page(
    result: SweepResult,
    plan: SweepPlan,
    path: Path,
    *,
    title: str,
    heat: tuple[str, str] | None = None,
    caveats: Sequence[str] = (),
) -> Path:
    """Write the page to `path` and return it; an older page is replaced whole.

    heat: the two settings of the heat map; None: the first two with several values. Raises
    ConfigError for one the sweep did not vary. caveats: sentences to show above the figures.
    """
    axes = _axes(result, heat)
    ranked = result.table.with_columns(pl.col("sharpe").fill_nan(None)).sort(
        "sharpe", descending=True, nulls_last=True
    )
    top = ranked.head(SHOWN).with_columns(pl.col(pl.Float64).fill_null(float("nan"))).to_dicts()
    html = template("sweep.html.j2").render(
        title=title,
        figures=data_block(
            {
                "kind": "sweep",
                "title": title,
                "varied": result.varied,
                "points": len(plan.points),
                "trials": result.trials,
                "first_bar": str(plan.span[0])[:10],
                "last_bar": str(plan.span[1])[:10],
                "deflated_sharpe": result.deflated_sharpe,
                "probability_of_overfitting": result.overfitting.probability,
                "walk_forward_sharpe": result.walk_forward_sharpe,
                "top": top,
            }
        ),
        result=result,
        trials=trials(result.trials),
        points=len(plan.points),
        first=str(plan.span[0])[:10],
        last=str(plan.span[1])[:10],
        best=result.table.row(result.best, named=True),
        top=top,
        axes=axes,
        heat=as_html(_heat(result, axes), "heat", 420) if axes else None,
        sharpes=as_html(_sharpes(result), "sharpes", 300),
        logits=as_html(_logits(result), "logits", 260),
        caveats=caveats,
        css=css(),
        plotly_js=plotly_js(),
    )
    return write_page(html, path)


def _axes(result: SweepResult, wanted: tuple[str, str] | None) -> tuple[str, str] | None:
    if wanted is not None:
        for key in wanted:
            if key not in result.varied:
                raise ConfigError(f"heat: {key}: the sweep varies {', '.join(result.varied)}")
        return wanted
    several = [key for key in result.varied if result.table[key].n_unique() > 1]
    return (several[0], several[1]) if len(several) > 1 else None


def _heat(result: SweepResult, axes: tuple[str, str]) -> go.Figure:
    """Median Sharpe ratio over everything else: a lone bright cell is luck."""
    y, x = axes
    cells = result.table.group_by(y, x, maintain_order=True).agg(
        pl.col("sharpe").fill_nan(None).median()
    )
    columns, rows = cells[x].unique(maintain_order=True), cells[y].unique(maintain_order=True)
    value = {(row[y], row[x]): row["sharpe"] for row in cells.iter_rows(named=True)}
    grid = [[value.get((r, c)) for c in columns] for r in rows]
    figure = go.Figure(
        go.Heatmap(
            z=grid,
            x=[str(c) for c in columns],
            y=[str(r) for r in rows],
            colorscale=COLOURS,
            zmid=0,
            text=[["" if v is None else f"{v:.2f}" for v in row] for row in grid],
            texttemplate="%{text}",
            hovertemplate=f"{x} %{{x}}, {y} %{{y}}: median Sharpe %{{z:.2f}}<extra></extra>",
            colorbar={"title": "median<br>Sharpe", "thickness": 12},
        )
    )
    style.styled(figure, y, tickformat="")
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(title={"text": x, "standoff": 12}, type="category")
    figure.update_layout(margin={"b": 56})
    return figure.update_yaxes(type="category")


def _sharpes(result: SweepResult) -> go.Figure:
    """Sharpe ratios of all combinations, sorted."""
    value = np.sort(result.table["sharpe"].drop_nans().to_numpy())[::-1]
    drawn = np.unique(np.linspace(0, len(value) - 1, min(len(value), MOST_DRAWN)).astype(int))
    figure = go.Figure()
    figure.add_scatter(
        x=drawn + 1,
        y=value[drawn],
        mode="lines",
        line={"color": style.STRATEGY, "width": 2},
        fill="tozeroy",
        fillcolor="rgba(59,130,246,0.16)",
        name="Sharpe ratio",
        hovertemplate="%{y:.2f}",
    )
    style.styled(figure, "Sharpe ratio", tickformat=".1f")
    figure.update_layout(margin={"b": 56})
    return figure.update_xaxes(title={"text": "combinations, best first", "standoff": 12})


def _logits(result: SweepResult) -> go.Figure:
    """Where the best of one half of the bars ranks in the other half."""
    figure = go.Figure()
    share: Any = 1 / (1 + np.exp(-result.overfitting.logits))
    figure.add_histogram(
        x=share,
        xbins={"start": 0, "end": 1, "size": 0.05},
        marker={"color": style.STRATEGY, "opacity": 0.75},
        name="splits",
        hovertemplate="%{y} splits",
    )
    figure.add_vline(x=0.5, line={"color": style.ZERO, "width": 1, "dash": "dot"})
    style.styled(figure, "splits", tickformat="")
    figure.update_layout(margin={"b": 56})
    words = "rank, in the other half, of the best of one half (1 is best)"
    return figure.update_xaxes(title={"text": words, "standoff": 12}, range=[0, 1])
