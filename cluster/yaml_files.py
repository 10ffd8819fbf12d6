"""YAML a user wrote, read with limits: no file keeps a command busy. Knows YAML; no settings.

A few hundred bytes can stand for billions of values (aliases of aliases), and brackets can nest
deeper than any program recurses. Both are counted on the parser's events, before a value is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from market.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_KEY = 200
MAX_EXPANDED = 4 << 20
"""Characters and values, aliases counted as often as they are used."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file; none of an empty one.

    Raises ConfigError, in one line, where it cannot be read, is not YAML, or is larger, deeper or
    expands to more than any settings need.
    """
    try:
        with path.open("rb") as handle:
            raw = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes; these are not settings")
    try:
        text = raw.decode("utf-8-sig")
        _check(path, text)
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    except (ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: a value that cannot be read ({error})") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, found a {type(content).__name__}")
    keys = [str(key) for key in content]
    if any(len(key) > MAX_KEY for key in keys):
        raise ConfigError(f"{path}: a key of more than {MAX_KEY} characters; no setting has one")
    return dict(zip(keys, content.values(), strict=True))


def _check(path: Path, text: str) -> None:
    """Raise ConfigError where nesting or expansion passes its limit."""
    anchors: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    """Anchor of each collection that is being read, and its size so far."""

    def add(anchor: str | None, size: int) -> None:
        if anchor is not None:
            anchors[anchor] = size
        if size > MAX_EXPANDED:
            raise ConfigError(
                f"{path}: expands to more than {MAX_EXPANDED:,} characters; use fewer aliases"
            )
        if open_nodes:
            outer, before = open_nodes.pop()
            open_nodes.append((outer, before + size))

    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > MAX_DEPTH:
                raise ConfigError(f"{path}: nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            add(*open_nodes.pop())
        elif isinstance(event, yaml.ScalarEvent):
            add(event.anchor, 1 + len(event.value))
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in {anchor for anchor, _ in open_nodes}:
                raise ConfigError(f"{path}: the alias *{event.anchor} contains itself")
            add(None, anchors.get(event.anchor or "", 1))
