"""The documentation as a site: it builds, strictly, and needs no network."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built strictly: a link that leads nowhere, or a page left out of the menu, is an error."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        html = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe)\b[^>]*\ssrc=\"(https?:[^\"]+)", html)
        fetched += re.findall(r"<link\b[^>]*rel=\"stylesheet\"[^>]*href=\"(https?:[^\"]+)", html)
        assert not fetched, page
        for target in re.findall(r"<(?:a|img|script|link)\b[^>]*\s(?:href|src)=\"([^\"#?]+)", html):
            if not re.match(r"[a-z]+:", target) and page.name != "404.html":
                assert (page.parent / target).exists(), (page.name, target)


@pytest.mark.parametrize("package", ["candlecast", "market", "forecaster", "backtest"])
def test_the_reference_holds_every_public_name(site: Path, package: str) -> None:
    html = (site / "reference" / f"{package}.html").read_text(encoding="utf-8")
    for name in import_module(package).__all__:
        if not name.isupper():
            assert re.search(rf'<h3 id="[\w.]*\b{name}" class="doc', html), name


def test_settings_are_explained(site: Path) -> None:
    html = (site / "reference" / "settings.html").read_text(encoding="utf-8")
    for flag in ("--lookback", "--allow-host", "--commission-bps", "--grid"):
        assert (f"<code>{flag}</code>" in html) == (flag != "--grid")
    assert "Bars the model sees." in html
