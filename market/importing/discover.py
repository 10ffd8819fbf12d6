"""Which files to read, in which order, and the symbols their names give. Knows paths alone."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote

from market.errors import SourceError
from market.importing.qlib_folder import is_qlib

PARQUET = (".parquet", ".pq", ".parq")
_TEXT = (".csv", ".txt", ".tsv", ".dat", ".prn")
_PACKED = (".gz", ".zip", ".zst", ".zstd", ".bz2", ".xz")
READABLE = "CSV (.csv, .txt, .tsv, also as .gz, .zip, .zst, .bz2, .xz) or Parquet"

_HIVE_SYMBOL = re.compile(
    r"(?:symbol|ticker|code|instrument|sym|pair|asset|stock|security|secid|ric|isin|coin)=(.+)",
    re.I,
)
_TAIL = re.compile(
    r"[_\-. ,]+(?:data|daily|hourly|minute|bars?|ohlcv?t?|history|historical|prices?|klines?|"
    r"candles?|candlesticks?|intraday|adjusted|\d+(?:m|min|h|d)|[mhd](?:1|4|5|15|30)|bid|ask|"
    r"\d+_(?:hour|min|minute|day)s?|\d{6}_\d{6}|\d{2}\.\d{2}\.\d{4}|\d{2}-\d{2}-\d{4}|"
    r"(?:19|20)\d{2}(?:-\d{2}){0,2}|20(?:1[5-9]|[23]\d)(?:0[1-9]|1[0-2])|"
    r"(?:19|20)\d{6}(?:\d{2}){0,3}|DLY|1D|60|240|720|1440)$",
    re.I,
)
"""Endings of file names that say what is in them, or when, rather than which symbol."""
_HEAD = re.compile(
    r"^(?:binance|bitstamp|kraken|coinbase|bitfinex|gemini|bybit|okx|poloniex|kucoin|huobi|"
    r"(?:daily|intraday)(?:_adjusted)?(?:_\d+min)?|nasdaq|nyse|nse|bse|amex|dat_ascii|dat_mt)"
    r"(?:_dly)?[_, ]+",
    re.I,
)
_COPY = re.compile(r"(?i)(?: - copy)?(?: ?\(\d{1,3}\))?$")
"""What browsers and systems add to the name of a file that is there already."""
_CHART = re.compile(r"[A-Z][A-Z0-9_]*?_(?:DLY_)?(?P<symbol>[^,]+), ?\w{1,4}(?:_[0-9a-f]{5})?")
"""How TradingView names what it exports: NASDAQ_AAPL, 1D_5a3e1."""
_METATRADER = re.compile(r"(?P<symbol>[A-Z]{6})(?:1|5|15|30|60|240|1440|10080|43200)")
_GENERIC = re.compile(
    r"(?i)part[-_.].*|[0-9a-f-]{16,}.*|data(_?\d+)?|output|export|file\d*|"
    r"(?:19|20)\d{2}(?:[-_]?\d{2}){0,2}|(?:19|20)\d{2}[-_]?q[1-4]"
)
"""Names that writers of tables give to pieces, and that say nothing of a symbol."""


def find_files(patterns: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files that paths, folders and globs name, each once: arguments in their order, the files
    of a folder or glob by name. A folder is searched below where it holds no file itself, and
    always in folders such as symbol=AAAA."""
    found: dict[Path, None] = {}
    patterns = [patterns] if isinstance(patterns, str | Path) else patterns
    for pattern in map(str, patterns):
        path = Path(pattern).expanduser()
        if path.is_dir() and is_qlib(path):
            matches = [path]
        elif path.is_dir():
            matches = in_folder(path)
            if not matches:
                raise SourceError(f"{pattern}: the folder holds no .csv or .parquet file")
        elif path.exists():
            matches = [path]
        else:
            matches = sorted(Path(each) for each in glob.glob(str(path), recursive=True))
            matches = [each for each in matches if each.is_file()]
        if not matches:
            raise SourceError(f"{pattern}: no such file, and no file matches it as a pattern")
        found.update(dict.fromkeys(matches))
    return list(found)


def in_folder(folder: Path) -> list[Path]:
    """Files of bars in a folder, by name."""
    here = sorted(each for each in folder.iterdir() if each.is_file() and _counts(each))
    parts = sorted(each for each in folder.iterdir() if each.is_dir() and "=" in each.name)
    below = [file for part in parts for file in in_folder(part)]
    if here or below:
        return [*here, *below]
    return sorted(each for each in folder.rglob("*") if each.is_file() and _counts(each))


def kind_of(path: Path) -> str | None:
    """csv or parquet, by the file's name, or qlib, a folder; None for anything else."""
    if path.is_dir() and is_qlib(path):
        return "qlib"
    suffixes = [each.lower() for each in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes = suffixes[:-1] or [".csv"]
        return "csv" if suffixes[-1] not in PARQUET else None
    last = suffixes[-1] if suffixes else ""
    return "parquet" if last in PARQUET else "csv" if last in _TEXT else None


def symbol_from_name(path: Path) -> str:
    """The symbol a path gives: AAPL of AAPL_data.csv, BRK.B of symbol=BRK.B/part-0.parquet."""
    for part in reversed(path.parts[:-1]):
        found = _HIVE_SYMBOL.fullmatch(part)
        if found:
            return unquote(found[1])
    stem = path.name
    for suffixes in (_PACKED, (*_TEXT, *PARQUET)):
        for suffix in suffixes:
            if stem.lower().endswith(suffix):
                stem = stem[: -len(suffix)]
                break
    stem = _COPY.sub("", stem) or stem
    known = _CHART.fullmatch(stem) or _METATRADER.fullmatch(stem)
    if known:
        return known["symbol"]
    while True:
        shorter = _TAIL.sub("", stem)
        if not shorter or shorter == stem:
            break
        stem = shorter
    return _HEAD.sub("", stem) or stem


def refuse_accidents(named: Iterable[tuple[Path, str]]) -> None:
    """Raise SourceError where two files that say nothing of a symbol would become the same one.

    named: files whose symbol their name gave, with that symbol.
    """
    first: dict[str, Path] = {}
    for path, symbol in named:
        if any(_HIVE_SYMBOL.fullmatch(part) for part in path.parts[:-1]):
            continue
        if symbol in first and _GENERIC.fullmatch(path.name.split(".")[0]):
            raise SourceError(
                f"{path} and {first[symbol]} would both become the symbol {symbol!r}; give them a "
                "symbol column, folders such as symbol=AAAA, or import each with --symbol"
            )
        first.setdefault(symbol, path)


def _counts(path: Path) -> bool:
    return kind_of(path) is not None and not path.name.startswith((".", "_"))
