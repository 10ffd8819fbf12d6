"""Memory-mapped series of a history lake, built once per version. Knows the lake, files, Ray Data.

A folder of series appears under its name whole or not at all; what a killed build left behind is
removed by the next one. Training workers then map the folder: no bar passes through Ray.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.training.places import node_folder, pack, unpack
from forecaster.training.config import TrainingError
from forecaster.training.data.series_file import (
    FORMAT,
    SeriesIndex,
    allocate,
    fill,
    is_sealed,
    seal,
    store_series,
)
from forecaster.training.data.sources import simulated_series
from forecaster.training.simulations import SimulatedMarkets
from market.lake.history import MarketHistory
from market.leases import hold
from market.storage import Folder
from market.windows import continuous_values

_SYMBOLS_PER_TASK = 64
_BUILDER_CPUS = 0.5
_PARTIAL = ".partial-"
_WAIT_SECONDS = 600.0
_POLL_SECONDS = 0.5
_KEPT_VERSIONS = 3
"""Series of this many versions of a lake stay; older ones make room."""


@dataclass(frozen=True)
class SeriesSource:
    """A folder of series, built or not yet."""

    folder: Path
    key: str
    """What the bars are."""
    build: Callable[[Path], None]
    """Fills and seals an empty folder."""

    @property
    def is_built(self) -> bool:
        return is_sealed(self.folder)


def lake_source(history: MarketHistory, fallback: Path, *, alone: bool = False) -> SeriesSource:
    """The series of a lake at its version: below the lake, or below `fallback` where the lake may
    not be written to or lies in an object store. alone: built by this process, without Ray's
    tasks, which may run where its files are not seen."""
    own = history.root.path
    home = own if own is not None and os.access(own, os.W_OK) else fallback
    name = f"{history.version}-{FORMAT}"
    return SeriesSource(
        home / "series" / name,
        f"lake {history.version}",
        lambda folder: _build_from_lake(history, folder, alone),
    )


def simulated_source(markets: SimulatedMarkets, home: Path) -> SeriesSource:
    """The series of simulated markets, below `home`."""
    key = hashlib.blake2b(markets.model_dump_json().encode(), digest_size=8).hexdigest()
    return SeriesSource(
        home / "series" / f"simulated-{key}-{FORMAT}",
        f"simulated {key}",
        lambda folder: store_series(folder, simulated_series(markets), f"simulated {key}"),
    )


def packed_source(source: SeriesSource, home: Folder) -> SeriesSource:
    """The same series for nodes without a common folder: packed at a URL, unpacked on each."""
    name = f"series/{source.folder.name}"

    def build(folder: Path) -> None:
        if not home.exists(f"{name}.tar"):
            source.build(folder)
            pack(folder, home, f"{name}.tar", called=source.folder.name)
            return
        unpack(home, f"{name}.tar", folder)
        inner = folder / source.folder.name
        for path in inner.iterdir():
            os.replace(path, folder / path.name)
        inner.rmdir()

    return SeriesSource(node_folder(home) / name, source.key, build)


def ensure(source: SeriesSource) -> None:
    """Builds the folder unless it is there, or somebody else builds it right now: then waits.

    Raises LeaseHeldError where the other has not ended after ten minutes.
    """
    if source.is_built:
        return
    with hold(Folder(source.folder.parent), "series", wait_s=_WAIT_SECONDS):
        if not source.is_built:
            _build(source)


def _build(source: SeriesSource) -> None:
    home = source.folder.parent
    for left in home.glob(f"{_PARTIAL}*"):
        shutil.rmtree(left, ignore_errors=True)
    unfinished = home / f"{_PARTIAL}{uuid.uuid4().hex}"
    try:
        unfinished.mkdir(parents=True)
        source.build(unfinished)
        os.replace(unfinished, source.folder)
    except OSError as error:
        raise TrainingError(
            f"{home}: the series cannot be written ({error.strerror}); free space or fix "
            "permissions, then run the same command again"
        ) from error
    built = sorted(filter(is_sealed, home.iterdir()), key=lambda path: path.stat().st_mtime)
    for old in built[:-_KEPT_VERSIONS]:
        shutil.rmtree(old, ignore_errors=True)


def _build_from_lake(history: MarketHistory, folder: Path, alone: bool) -> None:
    """Every symbol's bars into place, by Ray tasks that each read along the lake's buckets."""
    table = history.symbols()
    if not table.height:
        raise TrainingError(
            f"{history.root}: the store holds no bar; import some with 'candlecast data import'"
        )
    index = SeriesIndex(f"lake {history.version}", tuple(table["symbol"]), tuple(table["n_bars"]))
    allocate(folder, index)
    places = sorted(
        zip(index.symbols, index.offsets()[:-1].tolist(), index.lengths, strict=True),
        key=lambda place: (history.bucket_of(place[0]), place[0]),
    )
    parts = [places[i : i + _SYMBOLS_PER_TASK] for i in range(0, len(places), _SYMBOLS_PER_TASK)]
    if alone:
        n = sum(_write_part(history, folder, part) for part in parts)
    else:
        n = _by_tasks(history, folder, parts)
    if n != index.n_bars:
        raise TrainingError(
            f"{folder}: {n} of {index.n_bars} bars arrived; is this folder visible to every node?"
        )
    seal(folder, index)


def _by_tasks(
    history: MarketHistory, folder: Path, parts: Sequence[Sequence[tuple[str, int, int]]]
) -> int:
    import ray.data

    def write(row: dict[str, Any]) -> dict[str, Any]:
        return {"bars": _write_part(history, folder, row["part"])}

    written = (
        ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
        .map(write, num_cpus=_BUILDER_CPUS)
        .take_all()
    )
    return sum(int(each["bars"]) for each in written)


def _write_part(
    history: MarketHistory, folder: Path, places: Sequence[tuple[str, int, int]]
) -> int:
    """Bars of some symbols into their rows; how many."""
    found = {one.symbol: one for one in history.series([symbol for symbol, _, _ in places])}
    for symbol, first, length in places:
        one = found[symbol]
        if len(one) != length:
            raise TrainingError(f"{symbol}: {len(one)} bars read, the store's index says {length}")
        fill(folder, first, continuous_values(one), one.timestamps_N)
    return sum(length for _, _, length in places)
