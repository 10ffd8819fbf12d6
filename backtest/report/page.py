"""What every page of a report shares: templates, number formats, styles. Knows no results."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from backtest.report.words import number, percent, signed

HERE = Path(__file__).parent


def template(name: str, folder: Path = HERE) -> Template:
    """A page's template, which formats numbers by the filters pct, signed and num."""
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"pct": percent, "signed": signed, "num": number}
    return environment.get_template(name)


def css() -> Markup:
    """The styles, to be embedded."""
    return Markup((HERE / "tear_sheet.css").read_text(encoding="utf-8"))
