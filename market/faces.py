"""Package faces: what a package offers stands once, in `__init__.pyi`, and loads on first use.

Type checkers and editors read that file as it is; at run time `face` reads it, so importing a
package costs nothing until one of its names is asked for.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path


def face(
    package: str, file: str
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """A package's `__getattr__`, `__dir__` and `__all__`.

    package, file: its `__name__` and `__file__`. `__init__.pyi` beside `file` consists of lines
    `from module import name as name`. Asking for a name it lacks raises AttributeError.
    """
    stub = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    homes = {
        alias.name: node.module or ""
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def getattribute(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return getattribute, lambda: sorted(homes), sorted(homes)
