"""A history store in an object store: imports, versions, writers and reads as on a disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from market import MarketHistory, StoreSpec, import_frame
from market.errors import StoreError
from market.lake.lock import writer_lock
from market.lake.versions import lake_folder
from market.storage import Folder

MakeBars = Callable[..., pl.DataFrame]

pytestmark = pytest.mark.filterwarnings("ignore")  # s3fs's own event loop and deprecations


def contents(history: MarketHistory) -> pl.DataFrame:
    return history.scan().collect().sort("symbol", "timestamp")


def test_a_store_in_s3_is_the_store_of_a_folder(
    bucket: str, tmp_path: Path, daily_spec: StoreSpec, make_bars: MakeBars
) -> None:
    place = f"{bucket}/store"
    bad = make_bars(["A"], n=3).with_columns(close=pl.lit(None, pl.Float64))
    changed = make_bars().with_columns(volume=pl.lit(7.0))
    for store in (place, tmp_path / "store"):
        import_frame(pl.concat([make_bars(), bad]), store, daily_spec)
        import_frame(make_bars(n=40), store, daily_spec)
        import_frame(changed, store, daily_spec, on_conflict="replace")
        assert import_frame(make_bars(n=40), store, daily_spec, on_conflict="keep").nothing_new
    there, here = MarketHistory.open(place), MarketHistory.open(tmp_path / "store")
    assert there.version == here.version
    assert contents(there).equals(contents(here))
    assert there.quarantine().equals(here.quarantine())
    older = MarketHistory.open(place, version="1")
    assert contents(older).height == 90
    as_of = there.resolve_as_of("2024-01-31")
    one = there.scan(symbols=["AAPL"], as_of=as_of.close_utc).collect()
    assert one.sort("timestamp").equals(contents(here).filter(symbol="AAPL").head(one.height))
    assert there.sql("SELECT count(*) AS n FROM bars")["n"].to_list() == [120]


def test_one_writer_at_a_time_and_nothing_left_of_what_failed(
    bucket: str, daily_spec: StoreSpec, make_bars: MakeBars
) -> None:
    place = f"{bucket}/busy"
    import_frame(make_bars(), place, daily_spec)
    with (
        writer_lock(lake_folder(place)),
        pytest.raises(StoreError, match="another import is writing"),
    ):
        import_frame(make_bars(n=40), place, daily_spec)
    assert import_frame(make_bars(n=40), place, daily_spec).new_bars == 30

    Folder(bucket).write("full/letter.txt", b"dear")
    with pytest.raises(StoreError, match=r"holds other files \(letter.txt\)"):
        import_frame(make_bars(), f"{bucket}/full", daily_spec)
    with pytest.raises(StoreError, match="no history store here"):
        MarketHistory.open(f"{bucket}/nowhere")


def test_a_damaged_object_is_named(bucket: str, daily_spec: StoreSpec, make_bars: MakeBars) -> None:
    place = f"{bucket}/rot"
    import_frame(make_bars(), place, daily_spec)
    history = MarketHistory.open(place)
    victim = history.contents.bars[0].path
    content = bytearray(history.root.read(victim))
    content[len(content) // 2] ^= 1
    history.root.write(victim, bytes(content))
    with pytest.raises(StoreError, match=rf"{victim}: the file is damaged"):
        history.scan().collect()
    history.root.remove(victim)
    with pytest.raises(StoreError, match="the file is damaged"):
        history.scan().collect()


def test_a_file_is_read_though_its_folder_was_listed_before_it_came(bucket: str) -> None:
    """Another process writes; what this one has listed is no reason to miss it."""
    import boto3

    folder = Folder(f"{bucket}/listed")
    folder.write("old", b"1")
    assert folder.names() == ["old"]
    assert list(folder.files()) == ["old"]
    boto3.client("s3").put_object(Bucket=bucket.removeprefix("s3://"), Key="listed/new", Body=b"2")
    assert folder.exists("new")
    assert folder.read("new") == b"2"
    assert not folder.swap("new", b"1", b"3")
    assert folder.swap("new", b"2", b"3")
