"""Tutorials, run as they are written: their commands, and the Python between them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Outcome
from tests.object_store import make_bucket

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
_BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


_MARKS = {"cluster": pytest.mark.filterwarnings("ignore")}  # s3fs's own event loop


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.stem, marks=_MARKS.get(path.stem, ()))
        for path in sorted(TUTORIALS.glob("*.md"))
    ],
)
def test_a_tutorial_works(
    name: str, candlecast: Callable[..., Outcome], model: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    if name == "cluster":
        request.getfixturevalue("s3")
        make_bucket("market")
    monkeypatch.chdir(tmp_path)
    blocks = _BLOCK.findall((TUTORIALS / f"{name}.md").read_text(encoding="utf-8"))
    assert blocks
    names: dict[str, Any] = {"MODEL": model}
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, f"{name}.md", "exec"), names)
            continue
        for line in text.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "candlecast"
            done = candlecast(*arguments)
            assert done.code == 0, f"{line}: {done.err}"
