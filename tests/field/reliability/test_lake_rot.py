"""A flipped bit in a history store is named before any value of the file is used."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from market.errors import StoreError
from market.importing.files import import_frame
from market.lake.history import MarketHistory
from tests.field.reliability.made_up import SPEC, small_store


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake") / "store"
    history = small_store(folder)
    bars = history.scan().collect()
    broken = bars.head(2).select(
        "symbol", pl.col("timestamp") + timedelta(days=365), "open", "high",
        pl.col("high").alias("low") * 2, "close", "volume", "amount",
    )  # fmt: skip
    import_frame(broken, folder, SPEC)
    return folder


READS: dict[str, Callable[[MarketHistory], object]] = {
    "scan": lambda history: history.scan().collect(),
    "one symbol": lambda history: [
        history.scan(symbols=[symbol]).collect() for symbol in history.symbols()["symbol"]
    ],
    "series": lambda history: history.series(),
    "sql": lambda history: history.sql("SELECT sum(close) FROM bars"),
    "sessions": lambda history: history.sessions(),
}


def flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


@pytest.mark.parametrize("read", READS)
def test_every_way_to_read_names_the_damaged_file(sound: Path, tmp_path: Path, read: str) -> None:
    store = tmp_path / "store"
    shutil.copytree(sound, store)
    if read != "sessions":  # which are remembered
        READS[read](MarketHistory.open(store))
    files = sorted((store / "bars").rglob("*.parquet"))
    file = files[len(files) // 2]
    flip(file, file.stat().st_size * 4)
    with pytest.raises(StoreError, match=rf"{file.name}: the file is damaged; restore it"):
        READS[read](MarketHistory.open(store))


def test_a_bit_anywhere_in_a_file_of_bars_is_found(sound: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(sound, store)
    file = next(iter(sorted((store / "bars").rglob("*.parquet"))))
    bits = file.stat().st_size * 8
    for nth in range(40):
        flip(file, nth * (bits // 40))
        with pytest.raises(StoreError, match="the file is damaged"):
            MarketHistory.open(store).scan().collect()
        flip(file, nth * (bits // 40))
    assert MarketHistory.open(store).scan().collect().height > 0


def test_an_import_gives_damage_no_good_name(sound: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(sound, store)
    bars = MarketHistory.open(store).scan().collect()
    for file in (store / "bars").rglob("*.parquet"):
        flip(file, file.stat().st_size * 4)
    replacing = bars.with_columns(pl.col("volume") + 1).select(
        "symbol", "timestamp", "open", "high", "low", "close", "volume", "amount"
    )
    with pytest.raises(StoreError, match="the file is damaged"):
        import_frame(replacing, store, SPEC, on_conflict="replace")


def test_damage_to_quarantine_and_log_is_named_too(sound: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(sound, store)
    history = MarketHistory.open(store)
    assert history.quarantine().height
    (rejected,) = (store / "quarantine").glob("*.parquet")
    flip(rejected, 4000)
    with pytest.raises(StoreError, match="the file is damaged"):
        history.quarantine()
    log = store / "bars" / "_delta_log" / f"{int(history.version.split('-')[0]):020}.json"
    log.write_text(log.read_text().replace("XNYS", "XNYT", 1))
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(store, elsewhere)  # what a version contains is remembered by its place
    with pytest.raises(StoreError, match="is damaged"):
        MarketHistory.open(elsewhere)
