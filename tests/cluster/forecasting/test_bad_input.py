"""Bad input ends in one line that says what is wrong, and exit code 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.conftest import Outcome


def assert_one_line(outcome: Outcome, *parts: str) -> None:
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    for part in parts:
        assert part in outcome.err


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--model", "kronos-xxl"], ["unknown model 'kronos-xxl'", "nano"]),
        (["--as-of", "1999-01-04"], ["1999-01-04", "outside the history"]),
        (["--as-of", "soon"], ["'soon' is not a date"]),
        (["--horizon", "512"], ["--horizon 512", "at most 510"]),
        (["--universe", "NOBODY"], ["NOBODY"]),
        (["--universe", "FLAT/USD"], ["none of 1 symbols", "constant prices"]),
        (["--top-p", "1.5"], ["--top-p", "less than or equal to 1", "1.5"]),
        (["--replicas", "0"], ["--replicas", "whole number >= 1"]),
        (["--lookback", "1"], ["--lookback"]),
        (["--store", "/nowhere"], ["/nowhere", "candlecast data import"]),
    ],
)
def test_a_bad_flag(
    flags: list[str],
    parts: list[str],
    store: Path,
    dates: list[str],
    model: str,
    tmp_path: Path,
    candlecast: Callable[..., Outcome],
) -> None:
    good = {
        "--store": store, "--as-of": dates[0], "--model": model, "--lookback": 48,
        "--out": tmp_path / "t",
    }  # fmt: skip
    merged = good | dict(zip(flags[::2], flags[1::2], strict=True))
    outcome = candlecast("forecast", *(word for pair in merged.items() for word in pair))
    assert_one_line(outcome, *parts)
    assert not (tmp_path / "t").exists()


def test_an_output_that_is_a_file_is_named(
    store: Path, dates: list[str], tmp_path: Path, candlecast: Callable[..., Outcome]
) -> None:
    (tmp_path / "t").write_text("mine")
    outcome = candlecast(
        "forecast", "--store", store, "--as-of", dates[0], "--model", "random-walk",
        "--lookback", 48, "--out", tmp_path / "t",
    )  # fmt: skip
    assert_one_line(outcome, f"{tmp_path / 't'}")
    assert (tmp_path / "t").read_text() == "mine"


def test_a_missing_setting_is_named(candlecast: Callable[..., Outcome]) -> None:
    assert_one_line(candlecast("forecast"), "--store is missing")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("lookbak: 100\n", "lookbak: unknown key; did you mean lookback? known are "),
        ("lookback: many\n", "lookback: must be a valid integer"),
        ("- lookback\n", "expected 'key: value' lines, found a list"),
        ("lookback: [\n", "not valid YAML"),
    ],
)
def test_a_bad_config_names_file_and_key(
    text: str, part: str, tmp_path: Path, candlecast: Callable[..., Outcome]
) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(text)
    assert_one_line(candlecast("forecast", "--config", file), f"{file}: {part}")


def test_a_missing_config_is_named(tmp_path: Path, candlecast: Callable[..., Outcome]) -> None:
    outcome = candlecast("forecast", "--config", tmp_path / "no.yaml")
    assert_one_line(outcome, "no.yaml: cannot be read")
