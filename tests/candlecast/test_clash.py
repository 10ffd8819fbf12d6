"""A user's own market.py or backtest.py neither breaks the program nor is taken for ours."""

from __future__ import annotations

import os
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from candlecast import __version__
from cluster.session import worker_import_path
from tests.candlecast.conftest import Run


def test_the_command_line_runs_among_clashing_files(clashing: Path, python: Run) -> None:
    done = python(clashing, "-m", "candlecast", "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"candlecast {__version__}"


@pytest.mark.parametrize("name", ["market", "forecaster", "backtest", "cluster"])
def test_a_script_beside_a_clashing_file_is_told_which(
    name: str, tmp_path: Path, python: Run
) -> None:
    (tmp_path / f"{name}.py").write_text("x = 1\n")
    (tmp_path / "script.py").write_text("import candlecast\n")
    for arguments in (["script.py"], ["-c", "import candlecast"]):
        done = python(tmp_path, *arguments)
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith(f"ImportError: {tmp_path / name}.py hides candlecast's own package")
        assert "Rename it" in last


def test_a_module_imported_before_is_told_too(tmp_path: Path, python: Run) -> None:
    (tmp_path / "market.py").write_text("x = 1\n")
    done = python(tmp_path, "-c", "import market, sys; sys.path.remove(''); import candlecast")
    assert f"{tmp_path / 'market.py'} hides" in done.stderr


def test_a_clash_on_the_python_path_is_one_line(clashing: Path, python: Run) -> None:
    done = python(clashing.parent, "-m", "candlecast", "--version", PYTHONPATH=str(clashing))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {clashing / 'market.py'} hides")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_mere_folder_of_data_is_no_clash(tmp_path: Path, python: Run) -> None:
    for name in ("market", "backtest", "candlecast"):
        (tmp_path / name).mkdir()
    done = python(tmp_path, "-c", "import candlecast as cc; print(cc.Store('s'))")
    assert done.returncode == 0, done.stderr
    assert "empty" in done.stdout


def test_workers_get_a_working_directory_of_their_own_only_where_names_clash(
    clashing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clashing.parent)
    with worker_import_path() as free:
        assert free == {}
    monkeypatch.chdir(clashing)
    with worker_import_path() as kept_out:
        folder = Path(kept_out["working_dir"])
        assert list(folder.iterdir()) == []
    assert not folder.exists()
    monkeypatch.chdir(Path(PathFinder.find_spec("market").origin).parents[1])  # type: ignore
    assert (Path(os.getcwd()) / "market").is_dir()
    with worker_import_path() as ours:
        assert ours == {}
