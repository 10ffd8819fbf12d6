"""An evaluation as one HTML page that works offline. Draws; computes no figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import polars as pl

from backtest.report.page import as_html, css, plotly_js, template, write_page
from backtest.report.style import EQUAL, GAIN, HOLD, LOSS, STRATEGY, ZERO, styled
from cluster.evaluation.report import EvaluationReport
from forecaster.evaluation.figures import COVERAGES, PIT_BINS

HERE = Path(__file__).parent
_COLOURS = (STRATEGY, EQUAL, GAIN, LOSS, "#8b5cf6", "#14b8a6")


def write_evaluation_page(report: EvaluationReport, path: Path, *, title: str) -> Path:
    """Write the page to `path` and return it; an older page is replaced whole."""
    made = report.evaluation
    models = made.models.to_dicts()
    judged = [each["model"] for each in models if not each["baseline"]]
    shown = _shown_steps(report.horizon)
    steps = made.steps.filter(pl.col("step").is_in(shown))
    html = template("page.html.j2", HERE).render(
        title=title,
        report=report,
        made=made,
        models=models,
        judged=judged,
        steps=[row for row in steps.to_dicts() if row["model"] in judged],
        against=_against(made.against, judged, shown, made.best_baseline),
        shown=shown,
        parts=[row for row in made.parts.to_dicts() if row["model"] in judged],
        coverages=[round(100 * level) for level in COVERAGES],
        ratios=as_html(_ratios(made.against, judged, made.best_baseline), "ratios", 320)
        if made.best_baseline
        else None,
        coverage=as_html(_coverage(made.steps, judged), "coverage", 320),
        pit=as_html(_pit(made.steps, judged), "pit", 300),
        reliability=as_html(_reliability(made.steps, judged), "reliability", 320),
        css=css(),
        plotly_js=plotly_js(),
    )
    return write_page(html, path)


def _shown_steps(horizon: int) -> list[int]:
    """A handful of steps: the first, the last, and a few between."""
    return sorted({step for step in (1, 2, 5, 10, 20, 50, 100) if step <= horizon} | {horizon})


def _against(
    against: pl.DataFrame, judged: list[str], shown: list[int], best: str | None
) -> list[dict[str, Any]]:
    if best is None or not against.height:
        return []
    rows = against.filter(pl.col("model").is_in(judged) & pl.col("step").is_in(shown))
    return rows.sort("model", "baseline", "step").to_dicts()


def _lines(frame: pl.DataFrame, judged: list[str], column: str, name: str = "") -> go.Figure:
    figure = go.Figure()
    for k, model in enumerate(judged):
        own = frame.filter(pl.col("model") == model).sort("step")
        figure.add_scatter(
            x=own["step"], y=own[column], mode="lines+markers", name=f"{model}{name}",
            line={"color": _COLOURS[k % len(_COLOURS)], "width": 2}, marker={"size": 5},
        )  # fmt: skip
    return figure


def _ratios(against: pl.DataFrame, judged: list[str], best: str | None) -> go.Figure:
    """CRPS relative to the best baseline, by step; below 1 is better."""
    figure = _lines(against.filter(pl.col("baseline") == best), judged, "ratio")
    figure.add_hline(y=1, line={"color": ZERO, "width": 1, "dash": "dot"})
    styled(figure, f"CRPS / CRPS of {best}", tickformat=".2f")
    figure.update_layout(margin={"b": 56})
    return figure.update_xaxes(title={"text": "step", "standoff": 12})


def _coverage(steps: pl.DataFrame, judged: list[str]) -> go.Figure:
    """Share of outcomes inside the 80% interval, with its 90% date-block interval."""
    figure = go.Figure()
    for k, model in enumerate(judged):
        own = steps.filter(pl.col("model") == model).sort("step")
        figure.add_scatter(
            x=own["step"], y=own["coverage_80"], mode="lines+markers", name=model,
            line={"color": _COLOURS[k % len(_COLOURS)], "width": 2}, marker={"size": 5},
            error_y={
                "type": "data", "symmetric": False, "thickness": 1,
                "array": (own["coverage_80_high"] - own["coverage_80"]).to_list(),
                "arrayminus": (own["coverage_80"] - own["coverage_80_low"]).to_list(),
            },
        )  # fmt: skip
    figure.add_hline(y=0.8, line={"color": ZERO, "width": 1, "dash": "dot"})
    styled(figure, "inside the 80% interval", tickformat=".0%")
    figure.update_layout(margin={"b": 56})
    return figure.update_xaxes(title={"text": "step", "standoff": 12})


def _pit(steps: pl.DataFrame, judged: list[str]) -> go.Figure:
    """Where outcomes fell in the forecast distributions, all steps together."""
    figure = go.Figure()
    centres = [(b + 0.5) / PIT_BINS for b in range(PIT_BINS)]
    for k, model in enumerate(judged):
        own = steps.filter(pl.col("model") == model)["pit"].to_list()
        if own:
            mean = [sum(row[b] for row in own) / len(own) for b in range(PIT_BINS)]
            colour = {"color": _COLOURS[k % len(_COLOURS)], "opacity": 0.75}
            figure.add_bar(x=centres, y=mean, name=model, marker=colour)
    figure.add_hline(y=1 / PIT_BINS, line={"color": ZERO, "width": 1, "dash": "dot"})
    styled(figure, "share of outcomes", tickformat=".0%")
    figure.update_layout(margin={"b": 56})
    return figure.update_xaxes(title={"text": "place in the forecast (PIT)", "standoff": 12})


def _reliability(steps: pl.DataFrame, judged: list[str]) -> go.Figure:
    """How often prices rose where the forecast said so, all steps together."""
    figure = go.Figure()
    for k, model in enumerate(judged):
        sums: dict[int, list[float]] = {}
        for bins in steps.filter(pl.col("model") == model)["reliability"].to_list():
            for said, rose, n in bins:
                total = sums.setdefault(min(int(said * 10), 9), [0.0, 0.0, 0.0])
                for i, value in enumerate((said * n, rose * n, n)):
                    total[i] += value
        points = [(s / n, r / n, int(n)) for _, (s, r, n) in sorted(sums.items())]
        figure.add_scatter(
            x=[p[0] for p in points], y=[p[1] for p in points], customdata=[p[2] for p in points],
            mode="lines+markers", name=model, line={"color": _COLOURS[k % len(_COLOURS)]},
            hovertemplate="rose %{y:.0%} of %{customdata} times",
        )  # fmt: skip
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="right",
                       line={"color": HOLD, "width": 1, "dash": "dot"})  # fmt: skip
    styled(figure, "share that rose", tickformat=".0%")
    figure.update_layout(margin={"b": 56}, hovermode="closest")
    return figure.update_xaxes(title={"text": "forecast P(up)", "standoff": 12}, range=[0, 1],
                               tickformat=".0%")  # fmt: skip
