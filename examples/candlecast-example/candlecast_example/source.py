"""A source of bars: a folder of JSON files, as many a web service would answer.

`example-json:FOLDER` reads FOLDER/SYMBOL.json, a list of {"t": "2024-01-02", "o": 10.0, "h": 10.5,
"l": 9.9, "c": 10.2, "v": 1000}. For a real service, replace `_answer` by a request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from market.errors import SourceError
from market.importing.options import ImportOptions
from market.sources.protocol import Fetched, Request

NAMES = {"t": "date", "o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}


class JsonFolder:
    """Made with the text after the colon of `example-json:FOLDER`."""

    def __init__(self, folder: str = ".") -> None:
        self.folder = Path(folder)

    @property
    def defaults(self) -> ImportOptions:
        """What holds of every bar from here; options of the user win."""
        return ImportOptions(venue="XNYS")

    def fetch(self, request: Request) -> Iterator[Fetched]:
        """A frame per symbol. Checking the bars is not a source's business: the import does it."""
        if request.freq != "1d":
            raise SourceError(f"example-json: has daily bars only, not {request.freq}")
        for symbol in request.symbols:
            bars = pl.DataFrame(self._answer(symbol)).rename(NAMES)
            day = pl.col("date").str.to_date()
            wanted = day >= request.start
            if request.end is not None:
                wanted &= day <= request.end
            yield Fetched(f"example-json {symbol}", bars.filter(wanted), symbol)

    def _answer(self, symbol: str) -> list[dict[str, Any]]:
        path = self.folder / f"{symbol}.json"
        try:
            found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SourceError(f"example-json: {path} cannot be read: {error}") from None
        return found
