"""What `import candlecast` shows: every name explained, with an example, and its methods too."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

import candlecast as cc


def members() -> Iterator[tuple[str, str]]:
    for name in cc.__all__:
        if name.endswith("Error"):
            continue
        thing = getattr(cc, name)
        yield name, inspect.getdoc(thing) or ""
        if inspect.isclass(thing) and thing.__module__.startswith("candlecast."):
            for part, method in vars(thing).items():
                if inspect.isfunction(method) and not part.startswith("_"):
                    yield f"{name}.{part}", inspect.getdoc(method) or ""


@pytest.mark.parametrize(("name", "text"), list(members()))
def test_every_name_comes_with_an_example(name: str, text: str) -> None:
    assert len(text) > 40
    assert ">>> " in text


def test_dir_tells_the_truth() -> None:
    assert dir(cc) == sorted(dir(cc))
    assert {"Kronos", "KronosPredictor", "KronosTokenizer", "Store", "backtest", "forecast"} <= set(
        dir(cc)
    )
    with pytest.raises(AttributeError, match="'candlecast' has no attribute 'nothing'"):
        _ = cc.nothing
    assert cc.__version__.count(".") >= 1
