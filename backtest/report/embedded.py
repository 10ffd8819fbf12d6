"""A page's figures inside the page, for programs: written by reports, read by the console.

Knows JSON and HTML; no results. The block is data, not a script: browsers neither show nor run it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

_ID = "candlecast-figures"
_BLOCK = re.compile(
    rf'<script type="application/json" id="{_ID}">(.*?)</script>'.encode(), flags=re.DOTALL
)
_HEAD = 1 << 24
"""Bytes of a page that are looked at; the block stands before the charts' source."""
_DIGITS = 9


def data_block(data: Mapping[str, Any]) -> Markup:
    """The element to put into a page's head; numbers keep nine digits, NaN becomes null."""
    text = json.dumps(_plain(data), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(f'<script type="application/json" id="{_ID}">{text}</script>')


def read_block(path: Path) -> dict[str, Any] | None:
    """The figures inside a page; None where it has none, or none that can be read."""
    try:
        with path.open("rb") as file:
            found = _BLOCK.search(file.read(_HEAD))
        data = None if found is None else json.loads(found[1])
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return str(value)
