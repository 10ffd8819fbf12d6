"""The wheel, installed and used as a stranger would, among files that have our packages' names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).resolve().parents[2]


def ran(*command: object, folder: Path) -> str:
    """Output of a command that must succeed."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def other_packages() -> list[str]:
    """Folders this environment imports its dependencies from, none of them the repository."""
    site = [sysconfig.get_path("purelib"), *sys.path]
    return list(dict.fromkeys(p for p in site if "site-packages" in p and Path(p).is_dir()))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of programs of an environment that holds the wheel, and our dependencies by path."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = ran("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=ROOT)
    for name in filter(None, listed.split("\0")):
        if name.startswith(("tests/", "docs/img/")) or not (ROOT / name).exists():
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name, follow_symlinks=False)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    build = ("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    ran(*pip, *build, source, folder=folder)
    (wheel,) = folder.glob("candlecast-*.whl")

    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    programs = environment / "bin"
    install = ("--python", programs / "python", "install", "--no-deps", "--no-index", wheel)
    ran(*pip, *install, folder=folder)
    # Behind the wheel, and without what this environment's own .pth files add: the repository.
    (own,) = (environment / "lib").glob("python*/site-packages")
    (own / "dependencies.pth").write_text("\n".join(other_packages()) + "\n")
    return programs


def test_the_wheel_works_among_clashing_files(
    installed: Path, clashing: Path, bars: pl.DataFrame
) -> None:
    bars.write_csv(clashing / "bars.csv", datetime_format="%Y-%m-%d")
    found = ran(
        installed / "python", "-P", "-c", "import market; print(market.__file__)", folder=clashing
    )
    assert Path(found.strip()).is_relative_to(installed.parent)

    candlecast = installed / "candlecast"
    assert re.fullmatch(r"candlecast \d+\.\d+.*\n", ran(candlecast, "--version", folder=clashing))
    module = (installed / "python", "-m", "candlecast")
    ran(candlecast, "init", "mine", folder=clashing)
    shipped = (ROOT / "configs" / "train" / "walkforward.yaml").read_text()
    assert (clashing / "mine" / "train" / "walkforward.yaml").read_text() == shipped
    ran(
        *module,
        "data",
        "import",
        "bars.csv",
        "--store",
        "store",
        "--venue",
        "XNYS",
        folder=clashing,
    )
    days = bars["timestamp"].unique().sort().dt.date()
    span = f"{days[100]}:{days[-6]}:weekly"
    sizes = ("--lookback", 48, "--horizon", 5, "--paths", 4, "--replicas", 1)
    to = ("--store", "store", "--out", "forecasts")
    told = ran(candlecast, "forecast", "--as-of", span, *sizes, *to, folder=clashing)
    assert "forecasts" in told
    assert (clashing / "forecasts" / "steps").is_dir()
    come = ("--store", "store", "--forecasts", "forecasts", "--k", 2)
    assert "Sharpe ratio" in ran(*module, "backtest", *come, folder=clashing)
    assert "<title>" in (clashing / "tearsheet.html").read_text()


def test_the_wheel_is_typed(installed: Path, tmp_path: Path) -> None:
    code = "import candlecast as cc, sys; print(cc.Forecasts.__module__, 'torch' in sys.modules)"
    assert ran(installed / "python", "-c", code, folder=tmp_path) == "candlecast.forecasts False\n"
    site = next((installed.parent / "lib").glob("python*/site-packages"))
    for package in ("candlecast", "market", "forecaster", "backtest", "cluster"):
        assert (site / package / "py.typed").is_file()
        assert (site / package / "__init__.pyi").is_file()


def test_the_wheel_brings_the_pages_of_the_console(installed: Path) -> None:
    site = next((installed.parent / "lib").glob("python*/site-packages"))
    for folder in ("cluster/console/static", "cluster/console/templates"):
        names = {path.name for path in (ROOT / folder).iterdir()}
        assert {path.name for path in (site / folder).iterdir()} == names
        assert len(names) > 3
    assert (site / "backtest" / "report" / "plotly-cartesian.min.js").is_file()
