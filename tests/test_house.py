"""How the house is built: what each package offers, where imports point, how long things are."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = tuple(
    name
    for name in ("candlecast", "market", "forecaster", "backtest", "cluster")
    if (ROOT / name / "__init__.py").is_file()
)
LONGEST_MODULE, LONGEST_FUNCTION = 350, 100
KERNEL_LOOPS = {"_walk_nb", "vectorbt_nb"}
"""One pass over the bars each; Numba would pay for cutting them up."""


def modules() -> dict[str, ast.Module]:
    """Every module of ours by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(tree: ast.Module, names: set[str]) -> Iterator[str]:
    """Modules of ours that this one imports, wherever the line stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in names else node.module


def test_no_module_imports_itself_by_a_detour() -> None:
    trees = modules()
    arrows = {
        name: {each for each in imports(tree, set(trees)) if each in trees} - {name}
        for name, tree in trees.items()
    }
    circles, settled = [], set()

    def walk(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            circles.append(" -> ".join((*above[above.index(name) :], name)))
        elif name not in settled:
            for each in sorted(arrows[name]):
                walk(each, (*above, name))
            settled.add(name)

    for name in arrows:
        walk(name, ())
    assert circles == []


def test_no_import_of_ours_hides_from_the_interpreter() -> None:
    hidden = [
        f"{name}: {ast.unparse(line)}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for line in ast.walk(node)
        if isinstance(line, ast.ImportFrom) and (line.module or "").split(".")[0] in PACKAGES
    ]
    assert hidden == []


def test_modules_and_functions_stay_small() -> None:
    long = []
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            if source.count("\n") > LONGEST_MODULE:
                long.append(f"{path.relative_to(ROOT)}: {source.count(chr(10))} lines")
            long += [
                f"{path.relative_to(ROOT)}: {node.name} has {node.end_lineno - node.lineno} lines"
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                and node.name not in KERNEL_LOOPS
                and (node.end_lineno or 0) - node.lineno > LONGEST_FUNCTION
            ]
    assert long == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_shows_what_it_offers(package: str) -> None:
    room = import_module(package)
    assert room.__doc__
    assert set(room.__all__) <= set(dir(room))
    for name in room.__all__:
        assert getattr(room, name) is not None


def public() -> list[tuple[str, str]]:
    return [(package, name) for package in PACKAGES for name in import_module(package).__all__]


@pytest.mark.parametrize(("package", "name"), public())
def test_every_public_name_explains_itself(package: str, name: str) -> None:
    thing = getattr(import_module(package), name)
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        return  # a constant or a type: its module says what it is
    text = inspect.getdoc(thing) or ""
    assert len(text) > 20
    assert not text.startswith(f"{name}(")  # what a dataclass writes for itself
    if inspect.isfunction(thing):
        source = inspect.getsource(thing)
        body = source[source.index('"""', source.index('"""') + 3) :]
        if re.search(r"^\s+raise \w+Error", body, re.MULTILINE):
            assert "Raises" in text
