"""Qlib's binary folders: bars in and out. Knows that format alone.

    calendars/day.txt            one date (or time) per line
    instruments/all.txt          SYMBOL <tab> first day <tab> last day
    features/symbol/close.day.bin  float32: index of the first day in the calendar, then one per day

Prices there are adjusted: times `factor`, volumes divided by it (Qlib's documented convention).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from market.actions.adjust import actions_by_symbol
from market.actions.factors import factors
from market.errors import SourceError
from market.fields import PRICES
from market.storage import writing

_FIELDS = ("open", "high", "low", "close", "volume", "amount", "factor")
_FREQS = {"1d": "day", "1min": "1min", "5min": "5min", "15min": "15min", "1h": "60min"}


def is_qlib(folder: Path) -> bool:
    """Whether a folder is one of Qlib's."""
    return (folder / "features").is_dir() and (folder / "calendars").is_dir()


def read_qlib(folder: Path, freq: str | None) -> tuple[pl.DataFrame, list[str]]:
    """Raw bars of a folder: symbol, timestamp, prices, volume, and adjclose where it has factors.

    freq: which bars, where it has several. Where it has no high and low, they are those of open
    and close, and the notes say so. Raises SourceError naming file and fault.
    """
    calendars = {path.stem: path for path in (folder / "calendars").glob("*.txt")
                 if not path.stem.endswith("_future")}  # fmt: skip
    wanted = _FREQS.get(freq, freq) if freq else "day" if "day" in calendars else None
    name = wanted or (next(iter(calendars)) if len(calendars) == 1 else None)
    if name not in calendars:
        found = ", ".join(sorted(calendars)) or "none"
        raise SourceError(f"{folder}: no calendar of {name or 'one frequency'}; found {found}")
    lines = calendars[name].read_text(encoding="utf-8").split("\n")
    calendar = pl.Series("timestamp", [line.strip() for line in lines if line.strip()])
    days = calendar.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us")
    days = days.fill_null(calendar.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")))
    if days.null_count():
        raise SourceError(
            f"{calendars[name]}: {calendar.filter(days.is_null())[0]!r} is not a date"
        )
    symbols = _symbols(folder)
    parts = []
    bare = False
    for place in sorted((folder / "features").iterdir()):
        files = {field: place / f"{field}.{name}.bin" for field in _FIELDS}
        there = {field: _values(path, len(days)) for field, path in files.items() if path.is_file()}
        if "close" not in there:
            continue
        frame = pl.DataFrame({"timestamp": days, **there}).with_columns(
            symbol=pl.lit(symbols.get(place.name.lower(), place.name.upper()))
        )
        if not {"high", "low"} <= set(there):
            bare = True
            open_ = pl.col("open") if "open" in there else pl.col("close")
            frame = frame.with_columns(
                open=open_,
                high=pl.max_horizontal(open_, "close"),
                low=pl.min_horizontal(open_, "close"),
            )
        parts.append(_raw(frame.drop_nulls("close")))
    if not parts:
        raise SourceError(f"{folder}: no close.{name}.bin under features")
    notes = [f"{folder.name}: Qlib folder, {len(parts)} instruments, {name} bars"]
    if bare:
        notes.append("the folder has no high and low: those of open and close are taken")
    return pl.concat(parts, how="diagonal"), notes


def write_qlib(bars: pl.DataFrame, actions: pl.DataFrame, folder: Path) -> None:
    """Write daily raw bars (BAR_SCHEMA) and actions (ACTION_SCHEMA) as a new Qlib folder.

    Prices are adjusted for splits and dividends up to the last bar, with the factor beside them,
    so that reading the folder gives the raw bars again, in single precision. Raises SourceError
    where the folder is there, StoreError where it cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise SourceError(f"{folder}: is there and not empty; name a new folder")
    days = bars["session"].unique().sort()
    index = {day: i for i, day in enumerate(days)}
    own = actions_by_symbol(actions)
    instruments = []
    with writing(folder):
        for name in ("calendars", "instruments", "features"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "calendars" / "day.txt").write_text("\n".join(map(str, days)) + "\n")
        for (symbol,), rows in bars.sort("symbol", "session").partition_by(
            "symbol", as_dict=True, maintain_order=True
        ).items():  # fmt: skip
            first, last = index[rows["session"][0]], index[rows["session"][-1]]
            at = np.array([index[day] for day in rows["session"]]) - first
            factor_N = np.ones(rows.height)
            sessions_N = rows["session"].to_numpy().astype("datetime64[D]")
            if str(symbol) in own:
                factor_N = factors(
                    sessions_N, rows["close"].to_numpy(), own[str(symbol)], sessions_N[-1], "total"
                ).price_N
            columns = {name: rows[name].to_numpy() * factor_N for name in PRICES}
            columns |= {"volume": rows["volume"].to_numpy() / factor_N, "factor": factor_N,
                        "amount": rows["amount"].to_numpy()}  # fmt: skip
            place = folder / "features" / str(symbol).lower().replace("/", "_")
            place.mkdir()
            for field, values in columns.items():
                out = np.full(last - first + 2, np.nan, "<f4")
                out[0] = first
                out[at + 1] = values
                out.tofile(place / f"{field}.day.bin")
            instruments.append(f"{symbol}\t{days[first]}\t{days[last]}")
        (folder / "instruments" / "all.txt").write_text("\n".join(instruments) + "\n")


def _raw(frame: pl.DataFrame) -> pl.DataFrame:
    """Adjusted prices over their factor; the adjusted close stays beside, to find actions by."""
    if "factor" not in frame.columns:
        return frame
    factor = pl.col("factor").fill_null(strategy="forward").fill_null(1.0)
    prices = [(pl.col(name) / factor).alias(name) for name in PRICES]
    volume = [(pl.col("volume") * factor).alias("volume")] if "volume" in frame.columns else []
    return frame.with_columns(pl.col("close").alias("adjclose"), *prices, *volume).drop("factor")


def _values(path: Path, n_days: int) -> pl.Series:
    raw = np.fromfile(path, "<f4")
    if not len(raw) or not np.isfinite(raw[0]) or not 0 <= raw[0] <= n_days - (len(raw) - 1):
        raise SourceError(f"{path}: damaged, or not of this calendar ({n_days} days)")
    out = np.full(n_days, np.nan)
    first = int(raw[0])
    out[first : first + len(raw) - 1] = raw[1:]
    return pl.Series(path.name.split(".")[0], out).fill_nan(None)


def _symbols(folder: Path) -> dict[str, str]:
    found = {}
    for path in (folder / "instruments").glob("*.txt"):
        for line in path.read_text(encoding="utf-8").split("\n"):
            if line.strip():
                name = line.split("\t")[0].strip()
                found[name.lower().replace("/", "_")] = name
    return found
