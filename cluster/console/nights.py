"""One night of the forecast table, held in memory as long as somebody looks at it.

Knows tables and their versions; nothing of HTTP or pages. A night is read at the table versions its
pointer names, so that whoever holds it sees one moment, whatever is committed meanwhile.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from deltalake import DeltaTable

from market.errors import StoreError
from market.lake.history import MarketHistory
from market.lake.versions import current_version
from market.table.forecasts import ForecastTable
from market.table.schema import Kind, Published

Made = TypeVar("Made")

COLUMNS = (
    "run_id", "as_of", "as_of_date", "symbol", "freq", "venue", "step", "timestamp", "n_paths",
    "last_close", "price_basis", "flags", "published", "close_mean", "close_std", "close_q05",
    "close_q10", "close_q25", "close_q50", "close_q75", "close_q90", "close_q95", "p_up",
)  # fmt: skip
_HELD = 6


class Cache:
    """The newest results of slow calls by key; of many who ask at once, one computes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Future[Any]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What make returns, perhaps from earlier; what it raises is not kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                mine: Future[Any] = Future()
                self._kept[key] = mine
                while len(self._kept) > self._size:
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(key)
        if found is not None:
            there: Made = found.result()
            return there
        try:
            made = make()
        except BaseException as error:
            with self._lock:
                self._kept.pop(key, None)
            mine.set_exception(error)
            raise
        mine.set_result(made)
        return made

    def ready(self, key: Hashable) -> bool:
        """Whether the result is there already."""
        with self._lock:
            found = self._kept.get(key)
        return found is not None and found.done()


@dataclass(frozen=True)
class Key:
    """Which night: of one model, venue and frequency, at one date."""

    model_id: str
    as_of_date: date
    freq: str
    venue: str | None
    content: str
    """Changes with what there is to read: the run and version, or a hash of the files' names."""


@dataclass(frozen=True, eq=False)
class Night:
    """Every forecast of one model and date."""

    key: Key
    run_id: str
    as_of: datetime
    steps: pl.DataFrame
    """COLUMNS, sorted by symbol and step."""
    path_stats: pl.DataFrame
    """Statistics of whole paths, sorted by symbol."""

    @property
    def horizon(self) -> int:
        return int(self.steps["step"].max())  # type: ignore[arg-type]

    @property
    def said(self) -> dict[str, int]:
        """What was published (as sampled, calibrated, a baseline's), and of how many symbols."""
        first = self.steps.filter(pl.col("step") == 1)
        return dict(first["published"].value_counts(sort=True).iter_rows())

    @property
    def symbols(self) -> int:
        """How many symbols have a forecast."""
        return int(self.steps["symbol"].n_unique())


class _Log:
    """The newest version of one Delta table and the files it shows, read again where it moved."""

    def __init__(self, place: str | Path) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._handle: DeltaTable | None = None
        self._seen: tuple[int, pl.DataFrame] | None = None

    def now(self) -> tuple[int, pl.DataFrame]:
        """Raises StoreError where there is no table yet."""
        with self._lock:
            if self._handle is None:
                if not DeltaTable.is_deltatable(str(self._place)):
                    raise StoreError(f"{self._place}: no forecasts here yet")
                self._handle = DeltaTable(self._place)
            else:
                self._handle.update_incremental()
            version = self._handle.version()
            if self._seen is None or self._seen[0] != version:
                self._seen = version, _files(self._handle)
            return self._seen


class Nights:
    """Reads nights of one table and the history beside them; never writes."""

    def __init__(self, table: ForecastTable, store: str | Path) -> None:
        self.table, self._store = table, store
        self._nights = Cache(_HELD)
        self._histories = Cache(2)
        self._steps = _Log(table.folder.at("steps"))
        self._stats = _Log(table.folder.at("path_stats"))

    def history(self) -> MarketHistory:
        """The newest version of the history. Raises StoreError where there is none."""
        version = current_version(self._store)
        return self._histories.get(version, lambda: MarketHistory.open(self._store))

    def published(self) -> list[Published]:
        """The newest night of every model, venue and frequency, the newest first."""
        found = self.table.published()
        return sorted(found, key=lambda each: (each.as_of, each.forecasts), reverse=True)

    def newest(self, model_id: str | None = None) -> Published:
        """The newest published night, of one model or of any.

        Raises StoreError where there is none.
        """
        for each in self.published():
            if model_id in (None, each.model_id):
                return each
        raise StoreError("no night of this model was published yet")

    def of(self, pointer: Published) -> Night:
        """The night a pointer names, at the versions it names."""
        pinned = ForecastTable(self.table.folder, pointer.versions)
        key = Key(
            pointer.model_id, pointer.as_of_date, pointer.freq, pointer.venue,
            f"{pointer.run_id}-{pointer.versions.get('steps')}",
        )  # fmt: skip
        return self._nights.get(key, lambda: _read(pinned, key, pointer.as_of, pointer.run_id))

    def at(self, like: Published, day: date) -> Night:
        """The same model, venue and frequency on another date.

        Raises StoreError where the table shows no forecast of that date.
        """
        if day == like.as_of_date:
            return self.of(like)
        versions, files = self._now()
        own = _of_night(files, like.model_id, day)
        if not own:
            raise StoreError(f"{self.table.folder}: no forecasts of {like.model} from {day}")
        names = "\n".join(own).encode()
        digest = blake2b(names, digest_size=10).hexdigest()
        key = Key(like.model_id, day, like.freq, like.venue, digest)
        pinned = ForecastTable(self.table.folder, versions)
        return self._nights.get(key, lambda: _read(pinned, key))

    def dates(self, model_id: str) -> list[date]:
        """Dates on which the table shows forecasts of a model, the newest first."""
        _, files = self._steps.now()
        own = files.filter(pl.col("partition.model_id") == model_id)
        days: list[date] = own["partition.as_of_date"].unique().sort(descending=True).to_list()
        return days

    def shown(self, model_id: str, day: date) -> list[str]:
        """Names of the files that hold a model's forecasts of a date now."""
        _, files = self._steps.now()
        return _of_night(files, model_id, day)

    def newest_rows(self, model_id: str, most: int) -> list[date]:
        """The newest dates of a model that together hold at most so many rows of steps."""
        _, files = self._steps.now()
        own = (
            files.filter(pl.col("partition.model_id") == model_id)
            .group_by("partition.as_of_date")
            .agg(pl.col("num_records").sum())
            .sort("partition.as_of_date", descending=True)
        )
        days: list[date] = own.filter(pl.col("num_records").cum_sum() <= most)[
            "partition.as_of_date"
        ].to_list()
        return days

    def models_at(self, like: Published) -> list[Published]:
        """Every model that published beside this one: same venue and frequency."""
        return [p for p in self.published() if (p.venue, p.freq) == (like.venue, like.freq)]

    def _now(self) -> tuple[dict[Kind, int], pl.DataFrame]:
        """Versions of this moment, and the files that steps shows in it."""
        steps, files = self._steps.now()
        # path_stats is looked at second: it holds whatever that version of steps shows.
        stats, _ = self._stats.now()
        return {"steps": steps, "path_stats": stats}, files


def _files(handle: DeltaTable) -> pl.DataFrame:
    """The files a version shows, with their partitions and rows."""
    files = pl.DataFrame(handle.get_add_actions(flatten=True))
    return files.with_columns(pl.col("partition.as_of_date").cast(pl.Date))


def _of_night(files: pl.DataFrame, model_id: str, day: date) -> list[str]:
    own = files.filter(
        pl.col("partition.model_id") == model_id, pl.col("partition.as_of_date") == day
    )
    names: list[str] = own["path"].sort().to_list()
    return names


def _read(
    table: ForecastTable, key: Key, as_of: datetime | None = None, run_id: str | None = None
) -> Night:
    rows = (
        table.scan(key.model_id, run_id)
        .filter(pl.col("as_of_date") == key.as_of_date)
        .filter(pl.col("freq") == key.freq)
        .select(COLUMNS)
        .collect()
        .filter(pl.col("venue").eq_missing(pl.lit(key.venue, dtype=pl.String)))
    )
    if rows.height and as_of is None:
        as_of = rows["as_of"].max()  # type: ignore[assignment]
    rows = rows.filter(pl.col("as_of") == as_of).sort("symbol", "step")
    if not rows.height or as_of is None:
        raise StoreError(f"{table.folder}: no forecasts of {key.model_id} from {key.as_of_date}")
    run = str(rows["run_id"][0])
    stats = (
        table.path_stats(key.model_id, run)
        .filter(pl.col("as_of_date") == key.as_of_date)
        .collect()
        .filter(pl.col("as_of") == as_of)
        .sort("symbol")
    )
    return Night(key, run, as_of, rows, stats)
