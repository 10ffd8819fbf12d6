"""Tidying a store, and how many files its symbols are spread over."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from market import ImportOptions, Label, MarketHistory, StoreSpec, import_files, import_frame
from market.errors import ConfigError, StoreError
from market.lake.appending import OnConflict
from market.lake.lock import writer_lock
from market.lake.vacuum import vacuum
from market.lake.versions import lake_folder, names

MakeBars = Callable[..., pl.DataFrame]
SPEC = StoreSpec(venue="XNYS", freq="1d", tz="America/New_York", label=Label.SESSION)


def _versions(root: Path) -> dict[str, pl.DataFrame]:
    found = {}
    for version in names(lake_folder(root)):
        bars = MarketHistory.open(root, version=version).scan().collect()
        found[version] = bars.sort("symbol", "close_utc")
    return found


@pytest.fixture
def store(tmp_path: Path, make_bars: MakeBars) -> Path:
    """Three versions; the last took the place of a file that the ones before show."""
    bars = make_bars(symbols=["AAA", "BBB"], n=30)
    for part in (bars.head(40), bars):
        import_frame(part, tmp_path / "store", SPEC)
    other = bars.tail(1).with_columns(volume=pl.col("volume") + 1)
    import_frame(other, tmp_path / "store", SPEC, on_conflict=OnConflict.REPLACE)
    return tmp_path / "store"


@pytest.mark.parametrize("way", ["plain", "link", "dots"])
def test_vacuum_takes_strays_and_leaves_every_version(store: Path, way: str) -> None:
    before = _versions(store)
    assert len(before) == 3
    stray = store / "bars/bucket=7/stray.parquet"
    young = store / "bars/bucket=8/young.parquet"
    for each in (stray, young):
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_bytes(b"of an import that was killed")
    long_ago = 10**9
    for path in store.rglob("*.parquet"):
        if path != young:
            os.utime(path, (long_ago, long_ago))
    place = store
    if way == "link":
        place = store.with_name("link")
        place.symlink_to(store)
    elif way == "dots":
        place = store / ".." / store.name
    assert vacuum(place, dry_run=True).orphans == ("bars/bucket=7/stray.parquet",)
    assert stray.exists()
    assert vacuum(place).orphans == ("bars/bucket=7/stray.parquet",)
    assert not stray.exists()
    assert young.exists()
    assert vacuum(place, orphan_age=timedelta(0)).orphans == ("bars/bucket=8/young.parquet",)
    after = _versions(store)
    assert after.keys() == before.keys()
    assert all(after[name].equals(bars) for name, bars in before.items())


def test_vacuum_waits_for_nobody(store: Path, tmp_path: Path) -> None:
    with (
        writer_lock(lake_folder(store)),
        pytest.raises(StoreError, match="another import is writing"),
    ):
        vacuum(store)
    with pytest.raises(StoreError, match="no history store here"):
        vacuum(tmp_path / "nothing")


def test_buckets_are_chosen_when_a_store_is_made(tmp_path: Path, make_bars: MakeBars) -> None:
    bars = make_bars(symbols=["AAA", "BBB"], n=10)
    bars.head(5).write_csv(tmp_path / "bars.csv")
    root = tmp_path / "store"
    import_files([tmp_path / "bars.csv"], root, ImportOptions(venue="XNYS", freq="1d", buckets=512))
    assert MarketHistory.open(root).contents.buckets == 512
    import_frame(bars, root, SPEC)  # who names none takes what is there
    history = MarketHistory.open(root)
    assert history.contents.buckets == 512
    assert history.scan(symbols=["AAA"]).collect().height == 10
    with pytest.raises(StoreError, match=r"512 buckets.*leave --buckets 64 away"):
        import_files([tmp_path / "bars.csv"], root, ImportOptions(buckets=64))
    for wrong in (0, 32, 100, 8192):
        with pytest.raises(ConfigError, match="power of two from 64 to 4096"):
            ImportOptions(buckets=wrong)
