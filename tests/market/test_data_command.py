"""`candlecast data` as a user meets it: what it prints and how it fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from cluster.commands import data
from market.errors import CandlecastError
from market.lake.history import MarketHistory

MakeBars = Callable[..., pl.DataFrame]


def candlecast(*arguments: object) -> str:
    """Output of `candlecast data ...`; errors of the input come out as exceptions."""
    app = typer.Typer()
    data.register(app)
    result = CliRunner().invoke(app, ["data", *map(str, arguments)])
    if isinstance(result.exception, CandlecastError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def files(tmp_path: Path, make_bars: MakeBars) -> Path:
    """AAPL.csv and BRK.B.csv, the second with two bad rows."""
    folder = tmp_path / "files"
    folder.mkdir()
    bars = make_bars(["AAPL", "BRK.B"])
    for (symbol,), rows in bars.partition_by("symbol", as_dict=True).items():
        rows.drop("symbol", "amount").write_csv(folder / f"{symbol}.csv")
    with (folder / "BRK.B.csv").open("a") as handle:
        handle.write("2024-05-01,10,8,9,10,1\n2024-05-02,10,,9,10,1\n")
    return folder


def test_the_whole_way(files: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = candlecast("import", files / "*.csv", "--store", store, "--venue", "XNYS")
    assert "60 new bars" in first
    assert "AAPL.csv is AAPL" in first
    assert "volume × mean(open, high, low, close)" in first
    assert "low <= open, close <= high" in first
    assert "2 symbols, 60 bars, 2024-01-02 to 2024-02-12" in first

    again = candlecast("import", files, "--store", store)
    assert "Nothing new" in again
    assert "2 bad rows were in quarantine already" in again

    listed = candlecast("ls", "--store", store)
    assert "BRK.B" in listed
    assert "XNYS, 1d, America/New_York, label session" in listed

    shown = candlecast("show", "BRK.B", "--store", store, "--tail", 2)
    assert "2024-02-12" in shown
    assert "2024-02-08" not in shown
    assert "amount estimated" in shown

    bad = candlecast("quarantine", "--store", store, "--symbol", "BRK.B")
    assert "high 8.0 < low 9.0" in bad
    assert "high is missing" in bad
    assert "holds nothing for AAPL" in candlecast(
        "quarantine", "--store", store, "--symbol", "AAPL"
    )


def test_conflicts_and_old_versions(files: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    candlecast("import", files, "--store", store)
    version = MarketHistory.open(store).version
    path = files / "AAPL.csv"
    text = path.read_text().splitlines()
    last = text[-1].split(",")
    path.write_text("\n".join([*text[:-1], ",".join([*last[:-1], "123456"])]) + "\n")
    with pytest.raises(CandlecastError, match="1 bars differ"):
        candlecast("import", path, "--store", store)
    replaced = candlecast("import", path, "--store", store, "--on-conflict", "replace")
    assert "1 stored bar differs and was replaced" in replaced
    assert "123,456" in candlecast("show", "AAPL", "--store", store)
    assert "123,456" not in candlecast("show", "AAPL", "--store", store, "--version", version)


def test_long_lists_are_cut_and_say_so(tmp_path: Path, make_bars: MakeBars) -> None:
    path = tmp_path / "many.parquet"
    make_bars([f"S{i:03d}" for i in range(30)], n=3).write_parquet(path)
    store = tmp_path / "store"
    candlecast("import", path, "--store", store)
    short = candlecast("ls", "--store", store)
    assert "S029" not in short
    assert "and 10 more" in short
    assert "S029" in candlecast("ls", "--store", store, "--all")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "APL"], "not in .*, which holds 2 symbols, such as AAPL"),
        (["import", "nothing.csv"], "no such file"),
        (["import", "nothing.csv", "--map", "close"], "FIELD=COLUMN"),
        (["import", "nothing.csv", "--venue", "XLON"], "the store holds unknown venue"),
        (["ls", "--version", "abc"], "no version 'abc'"),
    ],
)
def test_errors_say_what_to_do(
    files: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    store = tmp_path / "store"
    candlecast("import", files, "--store", store)
    with pytest.raises(CandlecastError, match=says):
        candlecast(*arguments, "--store", store)


def test_loading_the_command_loads_nothing_heavy() -> None:
    script = "import sys, cluster.commands.data; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    loaded = set(done.stdout.decode().split())
    heavy = {"torch", "ray", "vectorbt", "duckdb", "exchange_calendars"}
    assert not loaded & heavy
