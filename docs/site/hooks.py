"""What mkdocs does beside docs/: pages from elsewhere in the repository, and the reference.

The README, the change log and others stay where they are and become pages of the site; settings
files become pages that show them, and notebooks pages with what their cells came to. Links between
all of these, written so that they work in the repository, are rewritten to work in the site. The
reference is made from what the packages offer and from their settings models.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("candlecast", "market", "forecaster", "backtest")
BESIDE = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md"),
    *("benchmarks/RESULTS.md", "configs/README.md"),
)
_SHIM = "https://unpkg.com/iframe-worker/shim"
_PLOTLY = ROOT / "backtest" / "report" / "plotly-cartesian.min.js"
_DRAW = """<script src="../assets/plotly-cartesian.min.js"></script>
<script>
for (const plot of document.querySelectorAll(".notebook-plot")) {
  const figure = JSON.parse(plot.querySelector("script").textContent);
  figure.layout.autosize = true;
  Plotly.newPlot(plot, figure.data, figure.layout, { displaylogo: false, responsive: true });
}
</script>
"""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside docs/, and what is made here."""
    made = {_place(name): (ROOT / name).read_text(encoding="utf-8") for name in BESIDE}
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        name = path.relative_to(ROOT).as_posix()
        made[_place(name)] = f"# {path.name}\n\n```yaml\n{path.read_text(encoding='utf-8')}```\n"
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        made[f"notebooks/{path.stem}.md"] = _notebook(path)
    made["assets/plotly-cartesian.min.js"] = _PLOTLY.read_text(encoding="utf-8")
    for package in PACKAGES:
        made[f"reference/{package}.md"] = _reference(package)
    made["reference/settings.md"] = _settings()
    for uri, content in made.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the repository has them, as the site needs them; what is no page of it is named."""
    here = _source(page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups()
        if "://" in target:
            return match[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        uri = _place(there)
        if files.get_file_from_path(uri) is not None:
            relative = posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")
            return f"{image}[{text}]({relative}{anchor or ''})"
        return str(text) if (ROOT / there).exists() else match[0]  # mkdocs names what is broken

    return _LINK.sub(moved, markdown)


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """The one script the theme would fetch from elsewhere, so that search works from a disk."""
    folder = posixpath.dirname(page.file.dest_uri) or "."
    return output.replace(_SHIM, posixpath.relpath("assets/iframe-worker.js", folder))


def on_post_template(output: str, *, template_name: str, config: MkDocsConfig) -> str:
    """The same, for the page of addresses that lead nowhere."""
    return output.replace(_SHIM, "/assets/iframe-worker.js")


def _place(name: str) -> str:
    """Where a file of the repository is in the site."""
    if name == "README.md":
        return "index.md"
    if name.endswith(".yaml"):
        return name.removesuffix(".yaml") + ".md"
    return name.removeprefix("docs/").replace(".ipynb", ".md")


def _source(uri: str) -> str:
    """Where a page of the site is in the repository."""
    if uri == "index.md":
        return "README.md"
    return uri if uri in BESIDE else f"docs/{uri}"


def _notebook(path: Path) -> str:
    """A notebook as a page: its words, its code, and what its cells came to when last run."""
    parts = [f'<a href="{path.name}" download>Download the notebook</a>']
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        parts += [_output(each) for each in cell["outputs"]]
    title, *rest = parts[1].split("\n", 1)
    parts[:2] = [title, parts[0], *rest]
    if any("notebook-plot" in part for part in parts):
        parts.append(_DRAW)
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if figure := data.get("application/vnd.plotly.v1+json"):
        high = figure["layout"].get("height", 420)
        text = json.dumps({"data": figure["data"], "layout": figure["layout"]}).replace(
            "<", "\\u003c"
        )
        return (
            f'<div class="notebook-plot" style="height:{high}px">'
            f'<script type="application/json">{text}</script></div>'
        )
    if "text/html" in data:
        lines = "".join(data["text/html"]).splitlines()
        return '<div class="notebook-output">' + "".join(map(str.strip, lines)) + "</div>"
    text = "".join(output.get("text") or data.get("text/plain", ""))
    return f"```text\n{text.rstrip()}\n```"


def _reference(package: str) -> str:
    """What a package offers, from the list in its face."""
    face = ast.parse((ROOT / package / "__init__.pyi").read_text(encoding="utf-8"))
    about = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text("utf-8"))) or ""
    names = sorted(
        (alias.name, node.module or "")
        for node in face.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    )
    shown = [f"::: {module}.{name}" for name, module in names if not name.isupper()]
    head = about.split("\n\n>>>")[0].split("\n\n    ")[0]
    return f"# {package}\n\n{head}\n\n" + "\n\n".join(shown) + "\n"


def _settings() -> str:
    """Every setting of every command: type, default and what it is."""
    from backtest.settings import BacktestRequest
    from cluster.audit.settings import AuditSettings
    from cluster.calibration.settings import CalibrateSettings
    from cluster.console.settings import ServeSettings
    from cluster.evaluation.settings import EvaluateSettings
    from cluster.flags import flags_of
    from cluster.night.settings import NightlySettings
    from cluster.settings import ForecastSettings
    from cluster.sweep_settings import SweepRequest
    from market.settings import Settings

    commands: tuple[tuple[str, type[Settings]], ...] = (
        ("forecast", ForecastSettings), ("nightly", NightlySettings),
        ("calibrate", CalibrateSettings), ("evaluate", EvaluateSettings),
        ("audit", AuditSettings), ("backtest", BacktestRequest), ("sweep", SweepRequest),
        ("serve", ServeSettings),
    )  # fmt: skip
    parts = ["# Settings", "Of every command, as flags and as keys of `--config FILE.yaml`."]
    for command, model in commands:
        rows = ["| flag | key | default | what |", "|---|---|---|---|"]
        for flag in flags_of(model):
            what = re.sub(r"([|<>])", r"\\\1", flag.help)
            default = "needed" if flag.required else f"`{flag.default}`" if flag.default else ""
            key = ".".join(flag.setting)
            rows.append(f"| `{flag.name}` | `{key}` | {default} | {what} |")
        parts.append(f"## candlecast {command}\n\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"
