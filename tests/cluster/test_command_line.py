"""What every command shares: help, examples, JSON, quiet, completion, the starter folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cluster.cli import COMMANDS
from cluster.commands.options import from_settings
from cluster.flags import flag_of, flags_of
from cluster.settings import ForecastSettings
from cluster.sweep_settings import SweepRequest
from cluster.training.request import PredictorPlace
from tests.cluster.conftest import Outcome


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, by what one types."""
    from importlib import import_module

    for name in COMMANDS:
        made = typer.Typer()
        made.callback()(lambda: None)
        import_module(f"cluster.commands.{name}").register(made)
        command = typer.main.get_group(made).commands[name]
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        else:
            yield from ((f"{name} {each}", inner[each]) for each in inner)


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda each: str(each)[:30])
def test_a_command_has_examples_json_quiet_and_help_on_every_flag(name: str, command: Any) -> None:
    assert f"candlecast {name}" in command.epilog
    flags = {flag: param for param in command.params for flag in param.opts}
    assert {"--json", "--quiet"} <= flags.keys()
    for flag, param in flags.items():
        assert param.param_type_name == "argument" or param.help, flag


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_in_the_list_is_the_commands_own(name: str) -> None:
    from importlib import import_module

    made = typer.Typer()
    made.callback()(lambda: None)
    import_module(f"cluster.commands.{name}").register(made)
    command = typer.main.get_group(made).commands[name]
    assert (command.help or "").split("\n")[0] == COMMANDS[name]


def test_flags_come_from_the_settings(candlecast: Callable[..., Outcome]) -> None:
    by_name = {flag.name: flag for flag in flags_of(ForecastSettings)}
    assert by_name["--lookback"].default == "256"
    assert by_name["--repair"].off == "--no-repair"
    assert by_name["--overflow"].choices == ("trim", "recompute")
    assert by_name["--store"].required
    assert next(iter(by_name)) == "--store"
    shown = candlecast("forecast", "-h")
    assert shown.code == 0
    said = " ".join(shown.out.replace("│", " ").split())  # a long help is wrapped
    for name, flag in by_name.items():
        assert name in said
        assert flag.default is None or f"[default: {flag.default}]" in said
    assert flag_of(PredictorPlace, ("start_from",)) == "--from"
    assert flag_of(SweepRequest, ("costs", "min_fee")) == "--min-fee"
    assert flag_of(SweepRequest, ("strategy", "name")) == "--strategy"
    assert flag_of(SweepRequest, ("grid",)) == "--set grid"


def test_lists_may_be_repeated_or_separated_by_commas() -> None:
    seen: list[SweepRequest] = []

    def run(settings: SweepRequest) -> None:
        seen.append(settings)

    program = typer.Typer()
    program.command()(from_settings()(run))
    given = ["--store", "s", "--momentum", "5", "--set", "grid={k: [1, 2]}"]
    for more in (["--fan-symbols", "A,B"], ["--fan-symbols", "A", "--fan-symbols", "B"]):
        program(given + more, standalone_mode=False)
    assert [each.fan_symbols for each in seen] == [("A", "B")] * 2


def test_json_is_all_there_is_on_stdout(
    candlecast: Callable[..., Outcome], store: Path, tmp_path: Path
) -> None:
    given = ("backtest", "--store", store, "--momentum", 20, "--report", tmp_path / "t.html")
    made = candlecast(*given, "--json")
    told = json.loads(made.out)
    assert told["report"] == str(tmp_path / "t.html")
    assert told["books"]["Top-k"]["capacity"] is None  # without impact it is not defined
    assert candlecast(*given, "--quiet").out == ""
    listed = json.loads(candlecast("data", "ls", "--store", store, "--json").out)
    assert listed["symbols"] == len(listed["list"]) == 12
    bad = candlecast(*given, "--k", 0, "--json")
    assert (bad.code, bad.out) == (2, "")
    assert bad.err == "error: --k: must be greater than or equal to 1, got '0'\n"


def test_a_starter_folder_is_written_once(
    candlecast: Callable[..., Outcome], tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    first = json.loads(candlecast("init", folder, "--json").out)
    names = {str(Path(path).relative_to(folder)) for path in first["made"]}
    expected = {"README.md", "forecast.yaml", "nightly.yaml", "train/walkforward.yaml"}
    assert expected <= names
    assert (folder / "drop").is_dir()
    (folder / "forecast.yaml").write_text("paths: 3\n")
    again = json.loads(candlecast("init", folder, "--json").out)
    assert not again["made"]
    assert len(again["kept"]) == len(names)
    assert (folder / "forecast.yaml").read_text() == "paths: 3\n"
    assert "is a file" in candlecast("init", folder / "forecast.yaml").err


@pytest.mark.parametrize(
    ("words", "offered"),
    [("fo", "forecast"), ("forecast --over", "--overflow"), ("forecast --overflow t", "trim")],
)
def test_the_shell_completes_commands_flags_and_choices(words: str, offered: str) -> None:
    start = "import sys; sys.argv = ['candlecast']; from cluster.cli import main; main()"
    asked = {
        "_CANDLECAST_COMPLETE": "complete_bash",
        "COMP_WORDS": f"candlecast {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    done = subprocess.run(
        [sys.executable, "-c", start],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == [offered]
