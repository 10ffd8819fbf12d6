"""Thousands of damaged files through the importer: what does it store, say, and leave behind?

    python benchmarks/fuzz_import.py --files 5000 --seed 0
    python benchmarks/fuzz_import.py --only 2388      one of them alone, with its traceback

Every file is a made-up one (tests/field/data and generated ones), mutated: bytes flipped, dropped
and repeated, rows and fields shuffled, cut and replaced with what breaks readers. Each goes into a
fresh store or into one that holds bars. A failure is an error that is no CandlecastError or has
more than one line, a stored bar that breaks a rule, anything written where an import failed, and
anything written outside the store. Failing files are kept under --keep.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from market import ImportOptions, Label, MarketHistory, import_files
from market.bars import LARGEST
from market.errors import CandlecastError
from market.fields import FEATURES, PRICES

CASES = Path(__file__).resolve().parents[1] / "tests" / "field" / "data"
NASTY = (
    b"", b"nan", b"inf", b"-1", b"0", b"1e308", b"1e400", b"99999999999999999999", b"-0.0",
    b"2024-13-45", b"0001-01-01", b"9999-12-31", b"1677-01-01", b"1970-01-01", b"0", b"24:00",
    b"2024-03-10 02:30", b"\xff\xfe", b"\x00", b'"', b'"\n"', b"'", b";", b",,,", b"[/b]",
    b"=1+1", b"\xf0\x9f\x92\xa5", b"5$5", b"1 2", b"1,234", b"1.234,5", b"true", b"NULL",
    b"2024-01-02T00:00:00+99:99", b"20240102", b"1704067200000", b"../../etc", b"A/B", b" ",
)  # fmt: skip
OPTIONS = (
    ImportOptions(venue="XNYS"), ImportOptions(), ImportOptions(venue="24/7", label=Label.START),
    ImportOptions(venue="XNYS", label=Label.START), ImportOptions(tz="Asia/Kolkata"),
    ImportOptions(venue="XBOM", freq="1d"), ImportOptions(venue="24/7", freq="1h", label=Label.END),
    ImportOptions(venue="XFRA", decimal=","), ImportOptions(venue="XSHG", day_first=True),
)  # fmt: skip


@dataclass
class Tally:
    """What happened."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    bars: int = 0


def seeds() -> list[tuple[str, bytes]]:
    """Names and contents of the files that are mutated."""
    found = [
        (path.name, path.read_bytes())
        for path in sorted(CASES.rglob("*"))
        if path.is_file() and path.suffix in (".csv", ".txt", ".gz", ".parquet")
    ]
    days = [date(2024, 1, 2) + timedelta(days=i) for i in range(40)]
    days = [day for day in days if day.weekday() < 5]
    frame = pl.DataFrame(
        {"symbol": ["A"] * len(days), "date": days, "open": 10.0, "high": 11.0, "low": 9.0,
         "close": 10.5, "volume": 100.0}
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        frame.write_parquet(Path(folder) / "A.parquet")
        found.append(("A.parquet", (Path(folder) / "A.parquet").read_bytes()))
    return found


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes to a file."""
    for _ in range(int(rng.integers(1, 5))):
        if not content:
            return content
        kind = int(rng.integers(0, 9))
        at = int(rng.integers(0, len(content)))
        lines = content.split(b"\n")
        row = int(rng.integers(0, len(lines)))
        nasty = NASTY[int(rng.integers(0, len(NASTY)))]
        if kind == 0:
            content = (
                content[:at]
                + bytes([content[at] ^ 1 << int(rng.integers(0, 8))])
                + content[at + 1 :]
            )
        elif kind == 1:
            content = content[:at]
        elif kind == 2:
            content = content[:at] + nasty + content[at:]
        elif kind == 3:
            lines.insert(row, lines[int(rng.integers(0, len(lines)))])
            content = b"\n".join(lines)
        elif kind == 4:
            del lines[row]
            content = b"\n".join(lines)
        elif kind in (5, 6, 7):
            fields = lines[row].split(b",")
            fields[int(rng.integers(0, len(fields)))] = nasty
            lines[row] = b",".join(fields)
            content = b"\n".join(lines)
        else:
            order = rng.permutation(len(lines))
            content = b"\n".join(lines[i] for i in order)
    return content


def broken_rules(store: Path) -> str | None:
    """The first rule a stored bar breaks, or None."""
    history = MarketHistory.open(store)
    bars = history.scan().collect()
    key = "session" if history.spec.daily else "close_utc"
    values = bars.select(FEATURES).to_numpy()
    low = bars.select(pl.min_horizontal("open", "close") >= pl.col("low")).to_series()
    high = bars.select(pl.max_horizontal("open", "close") <= pl.col("high")).to_series()
    checks = {
        "finite": bool(np.isfinite(values).all()) and bool((np.abs(values) < LARGEST).all()),
        "price > 0": bool((bars.select(PRICES).to_numpy() > 0).all()),
        "low <= open, close <= high": bool(low.all() and high.all()),
        "volume, amount >= 0": bool((values[:, 4:] >= 0).all()),
        "one bar per time": not bars.select(pl.struct("symbol", key).is_duplicated().any()).item(),
        "no null": sum(bars.null_count().row(0)) == 0,
        "years": bars.filter(~pl.col("timestamp").dt.year().is_between(1900, 2100)).height == 0,
    }
    return next((name for name, holds in checks.items() if not holds), None)


def try_one(
    name: str, content: bytes, options: ImportOptions, base: Path | None, room: Path
) -> str:
    """Import one file; returns the outcome. Raises AssertionError where a promise is broken."""
    drop, store = room / "drop", room / "store"
    drop.mkdir(parents=True)
    path = drop / name
    path.write_bytes(content)
    if base is not None:
        shutil.copytree(base, store)
    before = listing(store)
    said = None
    try:
        report = import_files([path], store, options)
        outcome = "imported" if not report.quarantined else "imported, some in quarantine"
    except CandlecastError as error:
        said, outcome = str(error), type(error).__name__
    if said is None:
        rule = broken_rules(store)
        assert rule is None, f"a stored bar breaks the rule {rule}"
    else:
        assert "\n" not in said, f"more than one line: {said}"
        assert listing(store) == before, "something was written by an import that failed"
        assert base is not None or not store.exists(), "an empty store was left"
    others = {each.name for each in room.iterdir()} - {"drop", "store"}
    assert not others, f"written outside the store: {others}"
    assert [each.name for each in drop.iterdir()] == [name], "the drop folder changed"
    return outcome


def listing(store: Path) -> dict[str, int]:
    return {
        str(path.relative_to(store)): path.stat().st_size
        for path in store.rglob("*")
        if path.is_file() and path.name != "LOCK"
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of the one file to try")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    given = parser.parse_args()
    numbers = range(given.files) if given.only is None else [given.only]
    tally, sources, begun = Tally(), seeds(), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        base = Path(place) / "base"
        import_files([CASES / "banner_with_commas" / "AAAA.csv"], base, ImportOptions(venue="XNYS"))
        for number in numbers:
            rng = np.random.default_rng([given.seed, number])
            name, content = sources[int(rng.integers(0, len(sources)))]
            changed = mutated(content, rng)
            held = base if rng.random() < 0.25 else None
            options = ImportOptions() if held else OPTIONS[int(rng.integers(0, len(OPTIONS)))]
            room = Path(place) / "room"
            try:
                tally.outcomes[try_one(name, changed, options, held, room)] += 1
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) or given.only is not None:
                    raise
                given.keep.mkdir(parents=True, exist_ok=True)
                (given.keep / f"{number}-{name}").write_bytes(changed)
                last = traceback.format_exc().strip().splitlines()
                tally.outcomes["FAILED"] += 1
                tally.failures.append(
                    f"{number}-{name} {options}: {last[-1][:300]} ({last[-3][:120]})"
                )
            shutil.rmtree(room, ignore_errors=True)
            if number % 500 == 499:
                print(f"{number + 1:,} files, {len(tally.failures)} failures", flush=True)
    seconds = time.monotonic() - begun
    print(f"{len(numbers):,} files in {seconds:,.0f} s")
    for outcome, count in tally.outcomes.most_common():
        print(f"  {count:6,} {outcome}")
    for line in tally.failures[:40]:
        print(line)
    raise SystemExit(1 if tally.failures else 0)


if __name__ == "__main__":
    main()
