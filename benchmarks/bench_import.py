"""How fast files become bars in a lake, and in how much memory.

    python benchmarks/bench_import.py [--rows 5000000] [--layouts parquet csv] [--code PATH ...]

Made-up daily bars of 2,000 symbols: one Parquet or CSV file per hundred symbols (parquet, csv), one
file per symbol (symbols), or all in one file (one). Each import is a process of its own: rows per
second of wall time, seconds of processor per million rows, and the largest resident set. --code
names checkouts that are measured in turn with the same files, such as one from before a change;
--rounds repeats them all and keeps the fastest of each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

_HERE = Path(__file__).resolve().parents[1]
_BARS = 2_500
_PER_FILE = 100
_ONE_IMPORT = """
import json, resource, sys, time
from market import ImportOptions, Label, import_files
options = ImportOptions(venue="24/7", label=Label.START)
begun, used = time.perf_counter(), time.process_time()
report = import_files([sys.argv[1]], sys.argv[2], options)
print(json.dumps({
    "rows": report.new_bars, "quarantined": sum(report.quarantined.values()),
    "seconds": time.perf_counter() - begun, "cpu": time.process_time() - used,
    "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
}))
"""


def write_files(folder: Path, layout: str, rows: int) -> None:
    """Random walks: as many symbols of _BARS bars as make `rows`."""
    rng = np.random.default_rng(0)
    per = {"symbols": 1, "one": rows // _BARS}.get(layout, _PER_FILE)
    start = datetime(2015, 1, 1)
    days = pl.Series([start + timedelta(days=i) for i in range(_BARS)], dtype=pl.Datetime("us"))
    folder.mkdir(parents=True)
    for first in range(0, rows // _BARS, per):
        names = [f"S{i:05d}" for i in range(first, min(first + per, rows // _BARS))]
        steps = rng.normal(0, 0.01, (len(names), _BARS))
        close = (50 * np.exp(np.cumsum(steps, axis=1))).round(2).reshape(-1)
        open_ = (close * 0.999).round(2)
        frame = pl.DataFrame(
            {
                "symbol": pl.Series(np.repeat(names, _BARS)),
                "date": pl.concat([days] * len(names)),
                "open": open_,
                "high": (np.maximum(open_, close) * 1.01).round(2),
                "low": (np.minimum(open_, close) * 0.99).round(2),
                "close": close,
                "volume": rng.integers(1_000, 1_000_000, len(close)),
                "amount": (close * 1e5).round(0),
            }
        )
        if layout == "csv":
            frame = frame.with_columns(pl.col("date").dt.date())
            frame.write_csv(folder / f"{names[0]}.csv")
        else:
            frame.write_parquet(folder / f"{names[0]}.parquet")


def measure(code: Path, files: Path, place: Path) -> dict[str, float]:
    """One import in a process of its own, with the code of one checkout."""
    store = place / "store"
    run = subprocess.run(
        [sys.executable, "-c", _ONE_IMPORT, str(files), str(store)],
        cwd=code, env={**os.environ, "PYTHONPATH": str(code), "POLARS_MAX_THREADS": "2"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    subprocess.run(["rm", "-rf", str(store)], check=True)
    if run.returncode:
        raise SystemExit(run.stderr)
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--layouts", nargs="+", default=["parquet", "csv"],
                        choices=["parquet", "csv", "symbols", "one"])  # fmt: skip
    parser.add_argument("--code", type=Path, nargs="+", default=[_HERE])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--files", type=Path, help="where the files are, or are written to stay")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="candlecast-bench-") as temporary:
        for layout in given.layouts:
            files = (given.files or Path(temporary)) / f"{layout}-{given.rows}"
            if not files.exists():
                write_files(files, layout, given.rows)
            best: dict[Path, dict[str, float]] = {}
            for _ in range(given.rounds):
                for code in given.code:
                    found = measure(code.resolve(), files, Path(temporary))
                    if code not in best or found["seconds"] < best[code]["seconds"]:
                        best[code] = found
            for code, found in best.items():
                line = {
                    "layout": layout,
                    "code": code.name,
                    "rows": found["rows"],
                    "rows_per_s": round(found["rows"] / found["seconds"]),
                    "cpu_s_per_million": round(found["cpu"] / found["rows"] * 1e6, 2),
                    "peak_gb": round(found["peak_gb"], 2),
                    "quarantined": found["quarantined"],
                }
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
