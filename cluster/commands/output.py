"""How a command prints: words and tables for people, or one JSON object for programs.

Knows rich and the terminal; no command. Errors are not printed here: they leave by cluster.cli.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from market.secrets import hidden

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and only that.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]

_WIDE = 160
"""Columns where no terminal is attached, so that tables are not folded."""


@dataclass(frozen=True)
class Output:
    """One command's way to print: what is said on the way, and its result."""

    as_json: bool = False
    quiet: bool = False
    console: Console = field(init=False)
    """For people; progress and notes go to stderr where stdout carries JSON."""

    def __post_init__(self) -> None:
        stream = sys.stderr if self.as_json else sys.stdout
        wide = None if stream.isatty() else _WIDE
        console = Console(file=stream, width=wide, quiet=self.quiet or self.as_json)
        object.__setattr__(self, "console", console)

    def line(self, text: str, style: str | None = None) -> None:
        """Print a line as it is: no folding, no markup."""
        self.console.print(hidden(text), style=style, soft_wrap=True, markup=False, highlight=False)

    def result(self, data: Mapping[str, Any], shown: str | Callable[[Console], None]) -> None:
        """The command's result: `data` as JSON, or what people are shown of it."""
        if self.as_json:
            print(json.dumps(_plain(data), ensure_ascii=False, allow_nan=False), flush=True)
        elif isinstance(shown, str):
            self.line(shown)
        else:
            shown(self.console)


class _PlainTable(Table):
    """A table whose text is printed as it is: a symbol named [/b] is not markup."""

    def add_row(self, *cells: Any, **more: Any) -> None:
        super().add_row(*(escape(c) if isinstance(c, str) else c for c in cells), **more)


def table(*headings: str, numbers: Collection[str] = ()) -> Table:
    """An empty table without frames; columns of numbers are set right and never folded."""
    made = _PlainTable(box=SIMPLE, padding=(0, 1))
    for heading in headings:
        is_number = heading in numbers
        made.add_column(heading, justify="right" if is_number else "left", no_wrap=is_number)
    return made


def facts() -> Table:
    """An empty table of names and what they are."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold")
    made.add_column()
    return made


def _plain(value: Any) -> Any:
    """As JSON knows it: what is not a number becomes null, a value JSON does not know, its
    words."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, int | float):
        return value
    return hidden(str(value))
