"""Pages in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def our_part(page: Path) -> str:
    """The page without plotly's own source."""
    html = page.read_text(encoding="utf-8")
    scripts = re.findall(r"<script>.*?</script>", html, flags=re.DOTALL)
    return html.replace(max(scripts, key=len), "")


FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def browser_program() -> str:
    """A browser; the test skips where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser to open pages with (looked for {', '.join(BROWSERS)})")
    return found


def drawn_in_a_browser(page: Path, profile: Path) -> str:
    """The document after its scripts ran; the test skips where there is no browser."""
    flags = [
        *FLAGS,
        "--virtual-time-budget=10000",
        "--window-size=1300,3600",
        "--dump-dom",
    ]
    run = subprocess.run(
        [browser_program(), *flags, f"--user-data-dir={profile}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return run.stdout
