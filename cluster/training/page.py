"""The page a training run leaves behind: one self-contained HTML file. Draws; trains nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from backtest.report import style
from backtest.report.page import as_html, css, plotly_js, template, write_page
from forecaster.hub import TRAINING_RECORD
from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.timellm.model import PointModel
from forecaster.training.data.pools import TrainingBatch, validation_batches
from forecaster.training.examples import Example, Gallery, forecast_examples, gallery
from forecaster.training.run import TrainingRun
from forecaster.training.run_log import read_metrics

HERE = Path(__file__).parent
_VIOLET, _PINK = "#8b5cf6", "#ec4899"
_SERIES = (style.STRATEGY, style.EQUAL, style.GAIN, _VIOLET, _PINK, style.HOLD)
_LOOKED_AT = 4
"""Batches of validation windows that codebook use is counted on."""


def write_training_page(run: TrainingRun, out: Path, page: Path, *, workers: int) -> Path:
    """Write the page of a finished run in `out`; an older page is replaced whole."""
    record = json.loads((out / TRAINING_RECORD).read_text())
    lines = read_metrics(out)
    html = template("page.html.j2", HERE).render(
        title=f"Training of a {run.kind}",
        kind=run.kind,
        folder=out.name,
        trained_through=record["trained_through"] or "unknown",
        sentences=run.description(),
        cards=_cards(run.kind, record["figures"], lines),
        figures=_rows(record["figures"]),
        losses=as_html(_losses(run.kind, lines), "losses", 380),
        gradients=as_html(_gradients(lines), "gradients", 360),
        speed=as_html(_speed(lines), "speed", 360),
        **_shown(run, out),
        facts=_facts(run, record, workers),
        css=css(),
        plotly_js=plotly_js(),
    )
    return write_page(html, page)


def _shown(run: TrainingRun, out: Path) -> dict[str, Any]:
    """What the model makes of validation windows: codes and reconstructions, or forecasts."""
    if isinstance(run.model, PointModel):
        figures = [_example(e) for e in forecast_examples(run.model, _windows(run))]
        codes: dict[str, Any] = {"tokens": "", "halves": (), "groups": "", "use": ""}
    else:
        tokenizer = run.tokenizer or KronosTokenizer.from_pretrained(out)
        shown = gallery(tokenizer.cpu(), _windows(run))
        figures = [_example(e) for e in shown.examples]
        codes = {
            "tokens": f"{shown.tokens:,}",
            "halves": shown.halves,
            "groups": as_html(_groups(shown), "groups", 300),
            "use": as_html(_use(shown), "use", 300),
        }
    examples = [as_html(figure, f"example-{i}", 280) for i, figure in enumerate(figures)]
    return codes | {"examples": examples}


def _windows(run: TrainingRun) -> list[TrainingBatch]:
    """Validation windows; training ones where there is nothing else."""
    for batches in run.validation.values():
        return batches[:_LOOKED_AT]
    pool = run.split.train if run.split.train.runs else run.split.simulated
    windows = run.settings.windows
    return validation_batches(
        pool,
        lookback=max(windows.lookbacks),
        horizon=windows.horizon,
        view=run.view,
        count=run.settings.run.validation_windows,
        size=64,
    )[:_LOOKED_AT]


def _cards(
    kind: str, last: dict[str, float], lines: list[dict[str, float]]
) -> list[tuple[str, str, str]]:
    """Headline figures: title, value, remark."""
    rate = float(np.median([line["bars_per_second"] for line in lines]))
    wait = float(np.mean([line["wait_share"] for line in lines]))
    timing = [
        ("Speed", f"{rate:,.0f}", "bars (tokens) per second, all workers, median"),
        ("Data wait", f"{wait:.1%}", "of the time of the steps, first worker"),
    ]
    known = _chosen(kind, last)
    return [*known[:4], *timing]


def _chosen(kind: str, last: dict[str, float]) -> list[tuple[str, str, str]]:
    where = next((w for w in ("later", "held_out") if any(k.startswith(w) for k in last)), None)
    found = [("Training loss", f"{last['loss']:.4f}", "last logged step")]
    if where is None:
        return found
    at = {"later": "later dates", "held_out": "symbols never trained on"}[where]
    if kind == "tokenizer":
        return [
            *found,
            ("RMSE of the close", f"{last[f'{where}_rmse_close']:.3f}", f"window's std, {at}"),
            ("s1 in use", f"{last[f'{where}_s1_used']:.0%}", f"of its codes, {at}"),
            ("s2 in use", f"{last[f'{where}_s2_used']:.0%}", f"of its codes, {at}"),
        ]
    if kind == "point model":
        return [
            *found,
            ("Validation loss", f"{last[f'{where}_loss']:.3f}", f"squared error, {at}"),
            ("Last value's loss", f"{last[f'{where}_last_value']:.3f}", "forecasting no change"),
            ("Gain over it", f"{last[f'{where}_gain']:.1%}", "of the squared error"),
        ]
    return [
        *found,
        ("Validation loss", f"{last[f'{where}_ce']:.3f}", f"nats per token, {at}"),
        ("Unigram entropy", f"{last[f'{where}_unigram']:.3f}", "what knowing no context costs"),
        ("Gain over it", f"{last[f'{where}_gain']:.1%}", "horizon positions only, causal"),
    ]


def _rows(last: dict[str, float]) -> list[tuple[str, list[str]]]:
    """Figures by name, one column per set of windows."""
    sets = ("later", "held_out", "test")
    names = list(
        dict.fromkeys(
            name.removeprefix(f"{where}_")
            for name in last
            for where in sets
            if name.startswith(f"{where}_")
        )
    )
    return [
        (name, [f"{last[key]:.4f}" if (key := f"{w}_{name}") in last else "—" for w in sets])
        for name in names
    ]


def _losses(kind: str, lines: list[dict[str, float]]) -> go.Figure:
    figure = go.Figure()
    parts = {
        "tokenizer": ("loss", "mse_s1", "mse"),
        "predictor": ("loss", "ce_s1", "ce_s2"),
        "point model": ("loss", "mae"),
    }[kind]
    checked = {
        "tokenizer": ("later_loss", "held_out_loss", "later_rmse_close"),
        "predictor": ("later_ce", "held_out_ce", "later_unigram"),
        "point model": ("later_loss", "held_out_loss", "later_last_value"),
    }[kind]
    for i, name in enumerate((*parts, *checked)):
        marked = name in checked
        x = [line["step"] for line in lines if name in line]
        if not x:
            continue
        figure.add_scatter(
            x=x,
            y=[line[name] for line in lines if name in line],
            name=("validation: " if marked else "") + name.replace("_", " "),
            mode="lines+markers" if marked else "lines",
            marker={"size": 6},
            line={"color": _SERIES[i], "width": 2.2 if marked or name == "loss" else 1.2},
            hovertemplate="%{y:.4f}",
        )
    style.styled(figure, "Loss", tickformat=".3~g")
    return _by_step(figure)


class _Curve(NamedTuple):
    """One of two curves that share their steps."""

    key: str
    title: str
    axis: str
    colour: str
    ticks: str
    hover: str


def _gradients(lines: list[dict[str, float]]) -> go.Figure:
    norm = _Curve(
        "grad_norm", "Gradient norm before clipping", "Gradient norm", style.STRATEGY,
        ".3~g", ".4~g",
    )  # fmt: skip
    rate = _Curve("lr", "Learning rate", "Learning rate", style.EQUAL, ".2~e", ".4~g")
    return _two_curves(lines, norm, rate)


def _speed(lines: list[dict[str, float]]) -> go.Figure:
    bars = _Curve(
        "bars_per_second", "Bars per second", "Bars per second", style.STRATEGY, "~s", ",.0f"
    )
    wait = _Curve(
        "wait_share", "Share of the time waiting for data", "Data wait", style.LOSS,
        ".1%", ".2%",
    )  # fmt: skip
    return _two_curves(lines, bars, wait)


def _two_curves(lines: list[dict[str, float]], upper: _Curve, lower: _Curve) -> go.Figure:
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.09)
    for row, curve in enumerate((upper, lower), start=1):
        figure.add_scatter(
            x=[line["step"] for line in lines],
            y=[line[curve.key] for line in lines],
            name=curve.title,
            mode="lines",
            line={"color": curve.colour, "width": 1.8},
            hovertemplate=f"%{{y:{curve.hover}}}",
            row=row,
            col=1,
        )
    style.styled(figure, upper.axis, tickformat=upper.ticks)
    figure.update_yaxes(title=lower.axis, tickformat=lower.ticks, row=2, col=1)
    return _by_step(figure).update_yaxes(rangemode="tozero")


def _groups(shown: Gallery) -> go.Figure:
    """Perplexity of every group of bits, against what is possible."""
    figure = go.Figure()
    names = [each.name for each in shown.groups]
    figure.add_bar(
        x=names,
        y=[each.perplexity for each in shown.groups],
        customdata=[[each.dead, len(each.count_V)] for each in shown.groups],
        name="perplexity",
        marker={"color": style.STRATEGY, "opacity": 0.8},
        hovertemplate="%{y:.1f} of %{customdata[1]} codes; never used: %{customdata[0]}",
    )
    figure.add_hline(
        y=len(shown.groups[0].count_V), line={"color": style.ZERO, "width": 1, "dash": "dot"}
    )
    style.styled(figure, "Perplexity", tickformat=".3~g")
    return figure.update_layout(showlegend=False).update_yaxes(rangemode="tozero")


def _use(shown: Gallery) -> go.Figure:
    """Share of every code, the commonest first."""
    figure = go.Figure()
    for half, colour in zip(shown.halves, (style.STRATEGY, style.EQUAL), strict=True):
        share: Any = np.sort(half.count_V / half.count_V.sum())[::-1]
        used = share[share > 0]
        figure.add_scatter(
            x=np.arange(1, len(used) + 1),
            y=used,
            name=half.name,
            mode="lines",
            line={"color": colour, "width": 2},
            hovertemplate="%{y:.3%}",
        )
    style.styled(figure, "Share of tokens", tickformat=".2~%")
    figure.update_yaxes(type="log", nticks=5).update_layout(margin={"b": 56})
    return figure.update_xaxes(title={"text": "codes, commonest first", "standoff": 12})


def _example(example: Example) -> go.Figure:
    figure = go.Figure()
    x = np.arange(len(example.close_T)) - example.lookback + 1
    strokes = {"from s1": (style.EQUAL, 1.2), "close": (style.HOLD, 1.6)}
    for name, values in {**example.made, "close": example.close_T}.items():
        colour, width = strokes.get(name, (style.STRATEGY, 1.8))
        figure.add_scatter(
            x=x, y=values, name=name, mode="lines", line={"color": colour, "width": width},
            hovertemplate="%{y:.2f}",
        )  # fmt: skip
    figure.add_vline(x=0.5, line={"color": style.ZERO, "width": 1, "dash": "dot"})
    style.styled(figure, "Close", tickformat=".1f")
    return figure.update_layout(
        title={"text": example.title, "font": {"size": 14}, "x": 0.01, "xanchor": "left"},
        margin={"t": 46},
        showlegend=False,
    )


def _by_step(figure: go.Figure) -> go.Figure:
    return figure.update_xaxes(tickformat=",d")


def _facts(run: TrainingRun, record: dict[str, Any], workers: int) -> list[tuple[str, str]]:
    """Everything that made the run, as (name, value)."""
    flat: list[tuple[str, str]] = [
        ("workers", str(workers)),
        ("bars from", str(run.identity["bars"])),
    ]

    def unfold(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                unfold(f"{prefix}.{key}" if prefix else str(key), inner)
        elif value not in (None, [], ()):
            told = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            flat.append((prefix, told))

    unfold("", record["settings"])
    return flat
