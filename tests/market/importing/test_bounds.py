"""One import, one outcome: however much is held in memory, and whatever happens to the disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from market import ImportOptions, ImportReport, Label, MarketHistory
from market.errors import StoreError
from market.importing.batches import Bounds
from market.importing.files import find_files, read_source
from market.importing.job import Sources, run_import
from market.lake.appending import OnConflict

OPTIONS = ImportOptions(venue="24/7", label=Label.START)


def write_bars(folder: Path, symbols: int = 12, days: int = 40) -> None:
    """A file per symbol; the third also holds the bars of the first again, one of them changed."""
    folder.mkdir()
    labels = [datetime(2024, 1, 1) + timedelta(days=i) for i in range(days)]
    for k in range(symbols):
        close = 50.0 + k + np.arange(days) * 0.25
        frame = pl.DataFrame(
            {"symbol": f"S{k:02d}", "time": labels, "open": close, "high": close + 1,
             "low": close - 1, "close": close, "volume": 7.0}
        )  # fmt: skip
        if k == 1:
            frame = frame.with_columns(
                low=pl.when(pl.col("time") == labels[3]).then(1e9).otherwise("low")
            )
        frame.write_parquet(folder / f"{k:02d}.parquet")
    first = pl.read_parquet(folder / "00.parquet").with_columns(
        high=pl.when(pl.col("time") == labels[7]).then(99.0).otherwise("high")
    )
    pl.concat([first, pl.read_parquet(folder / "02.parquet")]).write_parquet(folder / "02.parquet")


def imported(folder: Path, store: Path, bounds: Bounds, policy: OnConflict) -> ImportReport:
    def read(told: ImportOptions) -> Sources:
        files = find_files(folder)
        return Sources([f.name for f in files], (read_source(f, told) for f in files), [])

    return run_import(read, store, OPTIONS, policy, bounds=bounds)


@pytest.mark.parametrize("policy", [OnConflict.KEEP, OnConflict.REPLACE])
def test_nothing_depends_on_what_is_held_in_memory(tmp_path: Path, policy: OnConflict) -> None:
    write_bars(tmp_path / "in")
    found = []
    for number, bounds in enumerate([Bounds(), Bounds(1, 10_000), Bounds(100, 60), Bounds(1, 1)]):
        store = tmp_path / f"store{number}"
        report = imported(tmp_path / "in", store, bounds, policy)
        again = imported(tmp_path / "in", store, bounds, policy)
        assert (again.new_bars, again.known_bars) == (0, report.new_bars + 39)
        found.append((report.version, again.version, report.new_bars, report.quarantined))
        assert report.conflicts.height == 1
        high = MarketHistory.open(store).scan(symbols=["S00"]).collect()["high"].max()
        assert high == (99.0 if policy is OnConflict.REPLACE else 60.75)
    assert len({each[0] for each in found}) == len({each[1] for each in found}) == 1
    assert found[0][2:] == (479, {"low <= open, close <= high": 1})


def test_a_conflict_between_files_is_found_whatever_is_held(tmp_path: Path) -> None:
    write_bars(tmp_path / "in")
    for bounds in (Bounds(), Bounds(1, 1)):
        with pytest.raises(StoreError, match=r"02.parquet and .*00.parquet both hold S00"):
            imported(tmp_path / "in", tmp_path / "s", bounds, OnConflict.ERROR)
        assert not (tmp_path / "s").exists()


@contextmanager
def small_disk(place: Path, options: str) -> Iterator[Path]:
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def listing(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_size for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("held", [10_000, 100])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, held: int) -> None:
    write_bars(tmp_path / "in", symbols=12, days=600)
    with small_disk(tmp_path / "disk", "size=112k") as disk:
        with pytest.raises(StoreError) as caught:
            imported(tmp_path / "in", disk / "store", Bounds(1000, held), OnConflict.KEEP)
        assert "\n" not in str(caught.value)
        assert "No space left" in str(caught.value)
        assert list(disk.iterdir()) == []
        write_bars(tmp_path / "small", symbols=3, days=9)
        imported(tmp_path / "small", disk / "store", Bounds(), OnConflict.KEEP)
        before, version = listing(disk), MarketHistory.open(disk / "store").version
        with pytest.raises(StoreError, match="No space left"):
            imported(tmp_path / "in", disk / "store", Bounds(1000, held), OnConflict.REPLACE)
        assert listing(disk) == before
        assert MarketHistory.open(disk / "store").version == version


def test_a_read_only_disk_is_one_line(tmp_path: Path) -> None:
    write_bars(tmp_path / "in")
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        imported(tmp_path / "in", disk / "store", Bounds(), OnConflict.KEEP)
        before = listing(disk)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for store in (disk / "store", disk / "other"):
            with pytest.raises(StoreError) as caught:
                imported(tmp_path / "in", store, Bounds(), OnConflict.KEEP)
            assert "\n" not in str(caught.value)
            assert "Read-only file system" in str(caught.value)
        assert listing(disk) == before


def test_no_room_for_bars_on_their_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bars(tmp_path / "in", symbols=12, days=600)
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        monkeypatch.setattr("tempfile.tempdir", str(disk))
        with pytest.raises(StoreError, match=r"on their way to the store cannot be kept .*TMPDIR"):
            imported(tmp_path / "in", tmp_path / "s", Bounds(1000, 1000), OnConflict.KEEP)
        assert list(disk.iterdir()) == []
    assert not (tmp_path / "s").exists()
