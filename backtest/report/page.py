"""What every page of a report shares: templates, number formats, styles. Knows no results.

A page forbids itself every outside request (Content-Security-Policy), so what it shows cannot
depend on a network, and opening it contacts no server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.io
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from backtest.report.words import day, money, number, percent, signed
from market.storage import Folder

HERE = Path(__file__).parent
CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}


def template(name: str, folder: Path = HERE) -> Template:
    """A page's template, which formats numbers by the filters pct, signed, num, money and day."""
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "pct": percent,
        "signed": signed,
        "num": number,
        "money": money,
        "day": day,
    }
    return environment.get_template(name)


def css() -> Markup:
    """The styles, to be embedded."""
    return Markup((HERE / "tear_sheet.css").read_text(encoding="utf-8"))


def plotly_js() -> Markup:
    """plotly.js to be embedded: the part that draws on two axes, a third of the whole.

    `plotly-cartesian.min.js` is plotly.js-cartesian-dist-min as published, of the version that the
    plotly package brings whole; licence and version stand in its first lines.
    """
    return Markup((HERE / "plotly-cartesian.min.js").read_text(encoding="utf-8"))


def as_html(figure: Any, name: str, height: int) -> Markup:
    """A chart as a fragment of a page; `height` in pixels."""
    return Markup(
        plotly.io.to_html(
            figure,
            config=CONFIG,
            include_plotlyjs=False,
            full_html=False,
            div_id=f"plot-{name}",
            default_height=f"{height}px",
        )
    )


def write_page(html: str, path: Path) -> Path:
    """Write a page and return its path; folders are made, an older page is replaced whole."""
    Folder(path.parent).write(path.name, html.encode())
    return path
