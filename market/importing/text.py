"""Text files as columns of text: packed or not, in any usual encoding, separator and quoting.

Knows bytes, lines and fields; which of them are prices is layouts' and columns' affair. Polars
parses; the csv module looks at the first lines, and reads files whose rows differ in length.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from market.errors import SourceError
from market.importing.names import is_number_name, known_fields

_HEAD = 1 << 16
_SEPARATORS = ",;\t|"
_NUMBER = re.compile(r"^\W*[-+]?\d[\d.,' ]*(e[-+]?\d+)?\W*$", re.I)
_RAGGED = "fields in this row, the header has"
RAGGED_COLUMN = "\0ragged"
"""Name of the column that says what is wrong with rows of another length; null for good ones."""


@dataclass(frozen=True)
class Table:
    """A text file, split into columns of text."""

    frame: pl.DataFrame
    """Columns by their header; c0, c1, … where the file has none."""
    header: bool
    extra: tuple[tuple[str, ...], ...] = ()
    """Further header rows below the first (yfinance writes three)."""


def read_table(path: Path, wanted: frozenset[str], positions: int) -> Table:
    """A text file as columns of text.

    wanted: column names the user speaks of, which help to find the header. positions: how many
    columns the user named by position; 0: none. Raises SourceError, one line, naming the file.
    """
    content, head = _open(path)
    lines = _lines(head)
    if not lines:
        raise SourceError(f"{path}: the file is empty; expected bars as csv")
    try:
        separator, first, has_header = _shape(lines, wanted, positions, path)
    except SourceError as error:
        content, head = _by_blanks(content, error)
        lines = _lines(head)
        separator, first, has_header = _shape(lines, wanted, positions, path, " ")
    rows = [_fields(line, separator) for line in lines[first:]]
    header = _named(rows, has_header)
    extra = tuple(tuple(row) for row in _more_headers(rows, header)) if has_header else ()
    begin = first + has_header + len(extra)
    skipped = _physical(head, begin)
    frame = _parse(path, content, separator, skipped, header)
    return Table(frame, has_header, extra)


def read_delimited(path: Path) -> pl.DataFrame:
    """A text file whose first line names its columns, no bars expected. SourceError as above."""
    content, head = _open(path)
    if not (lines := _lines(head)):
        raise SourceError(f"{path}: the file is empty")
    mark = max(_SEPARATORS, key=lines[0].count)
    header = _named([_fields(line, mark) for line in lines], True)
    frame = _parse(path, content, mark, _physical(head, 1), header)
    faults = frame.get_column(RAGGED_COLUMN, default=pl.Series([None])).drop_nulls()
    if len(faults):
        raise SourceError(f"{path}: {faults[0]} (rule: one field per column)")
    return frame.drop(RAGGED_COLUMN, strict=False)


def _open(path: Path) -> tuple[str | bytes, str]:
    """What to parse (the path where it can be read as it lies, else UTF-8 bytes), and its head."""
    with path.open("rb") as handle:
        start = handle.read(_HEAD)
    packed = _unpacker(start)
    if packed is None and not start.startswith((b"\xff\xfe", b"\xfe\xff")) and b"\0" not in start:
        with_bom = start.startswith(b"\xef\xbb\xbf")
        try:
            # The head may end inside a character.
            head = start.decode("utf-8-sig", errors="strict" if len(start) < _HEAD else "ignore")
            if not with_bom and "\r" not in head.replace("\r\n", "") and _is_utf8(path):
                return str(path), head
        except UnicodeDecodeError:
            pass
    raw = path.read_bytes()
    content = _unpacked(raw, packed, path) if packed else raw
    text = _decoded(content, path).replace("\r\n", "\n").replace("\r", "\n")
    return text.encode(), text[:_HEAD]


def _is_utf8(path: Path) -> bool:
    """Whether a whole file is UTF-8, read in pieces."""
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as handle:
            while piece := handle.read(1 << 22):
                if not piece.isascii():
                    decoder.decode(piece)
                elif decoder.getstate()[0]:
                    return False
    except UnicodeDecodeError:
        return False
    return True


def _unpacker(start: bytes) -> str | None:
    for magic, name in ((b"\x1f\x8b", "gz"), (b"PK\x03\x04", "zip"), (b"\x28\xb5\x2f\xfd", "zst"),
                        (b"BZh", "bz2"), (b"\xfd7zXZ\0", "xz")):  # fmt: skip
        if start.startswith(magic):
            return name
    return None


def _unpacked(raw: bytes, kind: str, path: Path) -> bytes:
    import pyarrow as pa

    try:
        if kind == "zst":
            with pa.CompressedInputStream(pa.BufferReader(raw), "zstd") as stream:
                return bytes(stream.read())
        if kind == "zip":
            with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                names = [each for each in archive.namelist()
                         if not each.endswith("/") and "__MACOSX" not in each
                         and not Path(each).name.startswith(".")]  # fmt: skip
                if len(names) != 1:
                    raise SourceError(
                        f"{path}: the archive holds {len(names)} files; unpack it and name them"
                    )
                return archive.read(names[0])
        unpack = {"gz": gzip.decompress, "bz2": bz2.decompress, "xz": lzma.decompress}[kind]
        return unpack(raw)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError,
            NotImplementedError, pa.ArrowException) as error:  # fmt: skip
        raise SourceError(f"{path}: the {kind} file is damaged ({_first_line(error)})") from None


def _decoded(content: bytes, path: Path) -> str:
    """The text of a file in UTF-8, UTF-16, UTF-32 or an older encoding."""
    for mark, encoding in (
        (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"),
    ):  # fmt: skip
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    head = content[:4096]
    if head.count(b"\0") * 3 > len(head):  # UTF-16 without a mark: every second byte of ASCII is 0
        little = head[1::2].count(0) > head[::2].count(0)
        return content.decode("utf-16-le" if little else "utf-16-be", errors="replace")
    try:
        return content.decode()
    except UnicodeDecodeError:
        pass
    from charset_normalizer import from_bytes

    best = from_bytes(content[: 1 << 18]).best()
    if best is None or b"\0" in head:
        raise SourceError(f"{path}: it is not text; expected bars as csv")
    return content.decode(best.encoding, errors="replace")


def _lines(head: str) -> list[str]:
    """Whole lines of the head without blank ones; a quoted line break does not end a line."""
    lines: list[str] = []
    for line in head.split("\n")[: None if len(head) < _HEAD else -1]:
        if lines and lines[-1].count('"') % 2 and lines[-1].count('"') < 50:
            lines[-1] += "\n" + line
        elif line.strip():
            lines.append(line.rstrip("\r"))
    return lines


def _physical(head: str, logical: int) -> int:
    """How many lines of the file come before the logical line of that number."""
    position = 0
    for line in _lines(head)[:logical]:
        position = head.index(line, position) + len(line)
    return head.count("\n", 0, position) + 1 if position else 0


def _fields(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return line.split(separator)


def _shape(
    lines: list[str],
    wanted: frozenset[str],
    positions: int,
    path: Path,
    separators: str = _SEPARATORS,
) -> tuple[str, int, bool]:
    """Separator, index of the first line that is not a banner, and whether that is a header."""
    found: dict[str, tuple[int, int, bool]] = {}
    for separator in separators:
        rows = [_fields(line, separator) for line in lines[:400]]
        usual = Counter(len(row) for row in rows[-200:]).most_common(1)[0][0]
        if usual < 4:
            continue
        names = [known_fields(row, wanted) for row in rows]
        best = max(range(len(rows)), key=lambda i: (names[i], -i))
        if names[best] >= 3 and not (positions and names[best] < 4):
            above = best > 0 and _names_symbols(rows[best - 1], rows[best])
            found[separator] = (1000 + names[best] * 10, best - above, True)
            continue
        fits = [i for i, row in enumerate(rows) if len(row) == usual]
        numeric = [i for i in fits if sum(bool(_NUMBER.match(f)) for f in rows[i]) >= 4]
        if numeric and len(numeric) * 2 >= len(fits) and numeric[0] == fits[0]:
            found[separator] = (500 + usual, numeric[0], False)
        elif fits:
            found[separator] = (usual, fits[0], True)
    if not found:
        shown = lines[0][:80]
        raise SourceError(
            f"{path}: no table of bars found (separators tried: comma, semicolon, tab, |); it "
            f"begins {shown!r}"
        )
    separator = max(found, key=lambda each: found[each][0])
    _, first, header = found[separator]
    return separator, first, header


def _names_symbols(row: list[str], fields: list[str]) -> bool:
    """Whether the row above a header names the symbols its fields belong to: each several times."""
    own = [field.strip() for field in row[1:] if field.strip()]
    if len(row) != len(fields) or len(own) < 4 or any(map(_NUMBER.match, own)):
        return False
    return len(set(own)) * 4 <= len(own)


def _by_blanks(content: str | bytes, error: SourceError) -> tuple[bytes, str]:
    """A file whose columns are apart by blanks, with one blank each; raises `error` otherwise."""
    raw = content if isinstance(content, bytes) else Path(content).read_bytes()
    text = re.sub(rb"[ \t]+", b" ", raw).replace(b"\n ", b"\n").replace(b" \n", b"\n").strip(b" ")
    widths = {line.count(b" ") for line in text[:_HEAD].split(b"\n")[:20] if line}
    if len(widths) > 2 or min(widths, default=0) < 4 or not text.isascii():
        raise error
    return text, text[:_HEAD].decode()


def _named(rows: list[list[str]], has_header: bool) -> list[str]:
    """Names of the columns: the header's, made unique; c0, c1, … without one."""
    usual = Counter(len(row) for row in rows[1:200] or rows).most_common(1)[0][0]
    if not has_header:
        return [f"c{i}" for i in range(max(usual, len(rows[0])))]
    given = [name.strip().lstrip("\ufeff") for name in rows[0]]
    if usual == len(given) + 1 and len(rows) > 1 and rows[1][-1].strip():
        given = ["", *given]  # R writes no name above its row names
    seen: Counter[str] = Counter()
    names = []
    for name in given:
        names.append(name if not seen[name] else f"{name}_duplicated_{seen[name] - 1}")
        seen[name] += 1
    return names


def _more_headers(rows: list[list[str]], header: list[str]) -> list[list[str]]:
    """Header rows below the first: no numbers, and more names or nothing but the word Date."""
    found = []
    for row in rows[1:4]:
        filled = [field.strip() for field in row if field.strip()]
        ticker = len(row) == len(header) and len(filled) >= 2
        word = len(filled) == 1 and filled[0].lower() in ("date", "datetime", "timestamp", "time")
        if not (ticker or word) or any(_NUMBER.match(field) for field in filled[1:]):
            break
        if not word and re.search(r"\d{4}", row[0]):
            break
        found.append(row)
    return found if found and len(found) < len(rows) - 1 else []


def _parse(
    path: Path, content: str | bytes, separator: str, skip: int, header: list[str]
) -> pl.DataFrame:
    plain = {str(i): pl.String() for i in range(len(header))}
    numbers = {str(i): pl.Float64() for i, name in enumerate(header) if is_number_name(name)}
    if _quotes(content):  # polars 2.1 panics on a lone quote where a number should be
        numbers = {}
    for schema in ({**plain, **numbers}, plain):
        try:
            frame = pl.read_csv(
                content, has_header=False, separator=separator, skip_lines=skip, schema=schema
            )
        except pl.exceptions.NoDataError:
            return pl.DataFrame(schema=dict.fromkeys(header, pl.String))
        except (pl.exceptions.PolarsError, OSError):
            continue  # not all of them are plain numbers, or rows differ in length
        frame.columns = header
        return frame
    return _parse_ragged(path, content, separator, skip, header)


def _quotes(content: str | bytes) -> bool:
    """Whether a file has a quotation mark anywhere."""
    if isinstance(content, bytes):
        return b'"' in content
    with Path(content).open("rb") as handle:
        return any(b'"' in piece for piece in iter(lambda: handle.read(1 << 22), b""))


def _parse_ragged(
    path: Path, content: str | bytes, separator: str, skip: int, header: list[str]
) -> pl.DataFrame:
    """Rows of different lengths: those that do not fit the header say so in RAGGED_COLUMN."""
    width = len(header)
    raw = content if isinstance(content, bytes) else Path(content).read_bytes()
    text = io.StringIO(
        "\n".join(raw.decode("utf-8", errors="replace").split("\n")[skip:]), newline=""
    )
    kept: list[list[str | None]] = []
    faults: list[str | None] = []
    try:
        for row in csv.reader(text, delimiter=separator):
            if not any(field.strip() for field in row):
                continue
            spare = [field for field in row[width:] if field.strip()]
            fault = f"{len(row)} {_RAGGED} {width}" if spare or len(row) < width else None
            faults.append(fault)
            kept.append([field or None for field in row[:width]] + [None] * (width - len(row)))
    except csv.Error as error:
        raise SourceError(f"{path}: cannot be read as csv ({_first_line(error)})") from None
    frame = pl.DataFrame(
        {str(i): [row[i] for row in kept] for i in range(width)},
        schema={str(i): pl.String for i in range(width)},
    )
    frame.columns = header
    return frame.with_columns(pl.Series(RAGGED_COLUMN, faults, pl.String))


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
