"""Stores of the format before this one: named where they are met, and migrated whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

import polars as pl
import pytest

from market import MarketHistory, StoreSpec, import_frame
from market.actions.table import ACTION_SCHEMA
from market.bars import QUARANTINE_SCHEMA
from market.errors import StoreError
from market.lake.files import bucket_of
from market.lake.migrate import migrate

MakeBars = Callable[..., pl.DataFrame]


class OldStore:
    """A store as format 1 laid it out: files and manifests named by their hashes, and a pointer."""

    def __init__(self, root: Path, spec: StoreSpec) -> None:
        self.root, self.spec = root, spec
        self.version: str | None = None
        self.told: dict[str, list[object]] = {"bars": [], "quarantine": [], "actions": []}

    def file(self, folder: str, rows: pl.DataFrame) -> str:
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        passing = self.root / folder / "passing"
        rows.write_parquet(passing)
        name = blake2b(passing.read_bytes(), digest_size=16).hexdigest()
        passing.rename(self.root / folder / f"{name}.parquet")
        return f"{folder}/{name}.parquet"

    def add_bars(self, bars: pl.DataFrame, *, instead: bool = False) -> None:
        """Files of the buckets of these bars; instead: those of the same buckets go."""
        for symbol in bars["symbol"].unique().sort():
            bucket, own = bucket_of(symbol), bars.filter(pl.col("symbol") == symbol)
            if instead:
                self.told["bars"] = [
                    each for each in self.told["bars"]
                    if isinstance(each, dict) and each["bucket"] != bucket
                ]  # fmt: skip
            path = self.file(f"bars/{bucket:02d}", own)
            first, last = own["close_utc"].min(), own["close_utc"].max()
            assert isinstance(first, datetime)
            assert isinstance(last, datetime)
            self.told["bars"].append(
                {"path": path, "bucket": bucket, "rows": own.height,
                 "first_close": first.isoformat(), "last_close": last.isoformat()}
            )  # fmt: skip

    def publish(self, source: str) -> str:
        content = {
            "format": 1, "spec": asdict(self.spec), "parent": self.version, "sources": [source],
            **self.told,
        }  # fmt: skip
        text = json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"
        self.version = blake2b(text, digest_size=16).hexdigest()
        (self.root / "manifests").mkdir(parents=True, exist_ok=True)
        (self.root / "manifests" / f"{self.version}.json").write_bytes(text)
        (self.root / "CURRENT").write_text(f"{self.version}\n")
        return self.version


@pytest.fixture
def like(tmp_path: Path, daily_spec: StoreSpec, make_bars: MakeBars) -> MarketHistory:
    """Bars in the lake's columns."""
    import_frame(make_bars(n=40), tmp_path / "like", daily_spec)
    return MarketHistory.open(tmp_path / "like")


def test_every_version_is_there_by_its_old_name(
    tmp_path: Path, like: MarketHistory, daily_spec: StoreSpec, make_bars: MakeBars
) -> None:
    bars = like.scan().collect().sort("symbol", "close_utc")
    cut = datetime(2024, 2, 1, tzinfo=UTC)
    old = OldStore(tmp_path / "old", daily_spec)
    empty = old.publish("created")
    old.add_bars(bars.filter(pl.col("close_utc") < cut))
    old.told["quarantine"] = [old.file("quarantine", pl.DataFrame(schema=QUARANTINE_SCHEMA))]
    first = old.publish("first")
    old.add_bars(bars.filter(pl.col("close_utc") >= cut))
    old.told["quarantine"].append(
        old.file("quarantine", pl.DataFrame([{"source": "x", "row": 3}], schema=QUARANTINE_SCHEMA))
    )
    second = old.publish("second")
    changed = bars.filter(pl.col("symbol") == "AAPL").with_columns(volume=pl.lit(7.0))
    old.add_bars(changed, instead=True)
    split = {
        "symbol": "AAPL",
        "ex_date": datetime(2024, 2, 2).date(),
        "split": 2.0,
        "dividend": 0.0,
    }
    old.told["actions"] = [old.file("actions", pl.DataFrame([split], schema=ACTION_SCHEMA))]
    third = old.publish("third")
    before = {p: p.read_bytes() for p in old.root.rglob("*") if p.is_file()}

    with pytest.raises(StoreError, match=r"format 1.*candlecast store migrate .*old --to NEW"):
        MarketHistory.open(old.root)
    with pytest.raises(StoreError, match=r"candlecast store migrate"):
        import_frame(make_bars(), old.root, daily_spec)

    made = migrate(old.root, tmp_path / "new")
    assert (made.versions, made.bars) == (4, bars.height)
    assert {p: p.read_bytes() for p in old.root.rglob("*") if p.is_file()} == before

    def at(version: str) -> pl.DataFrame:
        history = MarketHistory.open(tmp_path / "new", version=version)
        return history.scan().collect().sort("symbol", "close_utc")

    assert at(empty).is_empty()
    assert at(first).equals(bars.filter(pl.col("close_utc") < cut))
    assert at(second).equals(bars)
    others = bars.filter(pl.col("symbol") != "AAPL")
    assert at(third).equals(pl.concat([others, changed]).sort("symbol", "close_utc"))
    new = MarketHistory.open(tmp_path / "new")
    assert new.actions().height == 1
    assert new.quarantine()["row"].to_list() == [3]
    assert new.contents.sources == ("third",)
    assert MarketHistory.open(tmp_path / "new", version=first).actions().is_empty()
    assert import_frame(make_bars(n=45), tmp_path / "new", daily_spec, on_conflict="keep").new_bars


def test_damage_and_taken_places_are_named(
    tmp_path: Path, like: MarketHistory, daily_spec: StoreSpec
) -> None:
    old = OldStore(tmp_path / "old", daily_spec)
    old.add_bars(like.scan().collect().sort("symbol", "close_utc"))
    old.publish("first")
    with pytest.raises(StoreError, match="is a store already"):
        migrate(old.root, like.root)
    with pytest.raises(StoreError, match="no store of format 1 here"):
        migrate(tmp_path, tmp_path / "new")
    victim = next((old.root / "bars").rglob("*.parquet"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with pytest.raises(StoreError, match=rf"{victim.name}: the file is damaged"):
        migrate(old.root, tmp_path / "new")
    assert not (tmp_path / "new").exists()
