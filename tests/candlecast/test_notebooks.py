"""Notebooks of the documentation: they run, and what they show is what the repository holds."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "docs" / "notebooks"


def words(outputs: list[Any]) -> list[str]:
    """What a cell shows without its numbers, which differ in the last digit between machines."""
    found = []
    for each in outputs:
        data = each.get("data", {})
        if "application/vnd.plotly.v1+json" in data:
            found.append(f"a figure of {len(data['application/vnd.plotly.v1+json']['data'])}")
            continue
        text = data.get("text/plain", each.get("text", each.get("evalue", "")))
        text = re.sub(r"\b[0-9a-f]{12,}\b", " ", text)  # of a run: a hash of all its numbers
        found.append(" ".join(re.sub(r"[-+−]?[\d.,]+%?|[─-╿]+|-{2,}", " ", text).split()))
    return found


@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
def test_a_notebook_runs_and_shows_what_it_showed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ipykernel")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PLOTLY_RENDERER", "plotly_mimetype")
    kept = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)
    made = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the client's own
        here = {"metadata": {"path": tmp_path}}
        client = nbclient.NotebookClient(made, timeout=300, startup_timeout=300, resources=here)
        client.execute()
    cells = [
        (old, new)
        for old, new in zip(kept.cells, made.cells, strict=True)
        if old.cell_type == "code"
    ]
    assert any("plotly" in str(old.outputs) for old, _ in cells) or name == "own-strategy"
    for old, new in cells:
        assert words(old.outputs) == words(new.outputs), old.source
