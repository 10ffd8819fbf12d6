"""The forecast table: Delta tables in one folder that appear whole or not at all.

Knows columns, commits, run records and the pointer to the newest night; nothing of models, Ray or
how a forecast is made.

    OUT/steps/        one row per forecast bar      partitioned by model_id, as_of_date
    OUT/path_stats/   one row per (as_of, symbol)
    OUT/paths/        sampled bars, where asked for
    OUT/runs/         one JSON record per run
    OUT/plans/        what each run set out to do: symbols, shards, reasons for exclusion
    OUT/latest/       per model, venue and frequency, the newest published night
    OUT/leases/       who is at work
    OUT/staging/      shard files of unfinished runs; no reader looks here

A date exists for readers only when it is in `steps`, which is committed last. A (model, as_of,
venue, freq) holds the rows of one run: a run with other settings replaces them, and the older rows
stay readable at the older table version.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from urllib.parse import quote

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from market.errors import StoreError
from market.storage import Folder
from market.table import records
from market.table.schema import (
    KINDS,
    PARTITION_BY,
    ROW_ORDER,
    SCHEMAS,
    SLOT,
    Kind,
    Published,
    RunRecord,
)

COMMIT_ATTEMPTS = 20
_ONE_FILE = 2**50  # bytes: a partition is never split


@dataclass(frozen=True)
class Committed:
    """What one commit did."""

    new: bool
    """False: the rows were already there."""
    replaced: tuple[str, ...] = ()
    """Runs whose rows for the same model and as_of went out of sight."""
    versions: dict[Kind, int] = field(default_factory=dict)
    """Table versions that show the rows."""


class ForecastTable:
    """The forecasts under one folder or URL. Opening it reads nothing; a missing one fails on use.

    versions pins each table to one of its versions; see `at`.
    """

    def __init__(
        self, root: str | Path | Folder, versions: Mapping[Kind, int] | None = None
    ) -> None:
        self.folder = Folder(root)
        self._versions = versions

    @property
    def root(self) -> Path:
        """The local folder. Raises StoreError for a table in an object store."""
        if self.folder.path is None:
            raise StoreError(f"{self.folder} is not a local folder")
        return self.folder.path

    # -- reading ---------------------------------------------------------------------------

    def scan(self, model_id: str | None = None, run_id: str | None = None) -> pl.LazyFrame:
        """Forecast bars, one row per (as_of, symbol, step), lazily.

        Raises StoreError where no forecast was ever committed.
        """
        return _only(self._scan("steps"), model_id, run_id)

    def path_stats(self, model_id: str | None = None, run_id: str | None = None) -> pl.LazyFrame:
        """Statistics of whole paths, for the dates that are in `steps`."""
        return _only(self._visible("path_stats"), model_id, run_id)

    def paths(self, model_id: str | None = None, run_id: str | None = None) -> pl.LazyFrame:
        """Sampled bars, for the dates that are in `steps`.

        Raises StoreError where no run kept its paths.
        """
        return _only(self._visible("paths"), model_id, run_id)

    def at(self, *, version: int | None = None, time: datetime | None = None) -> ForecastTable:
        """The table as it was: at a version of `steps`, or at a moment (UTC without time zone).

        Raises StoreError where there was nothing yet, or no such version.
        """
        return ForecastTable(self.folder, records.versions_at(self.folder, version, time))

    def published(self) -> list[Published]:
        """The newest night of every model, venue and frequency."""
        return records.published(self.folder)

    def latest(self, model_id: str, freq: str, venue: str | None = None) -> Published | None:
        """The newest night of a model and frequency, or None where none was published.

        `ForecastTable(root, found.versions).scan(run_id=found.run_id)` reads exactly that night.
        Raises StoreError where several venues published and none is named.
        """
        return records.latest(self.folder, model_id, freq, venue)

    def runs(self) -> list[RunRecord]:
        """Records of all runs, oldest first."""
        return records.runs(self.folder)

    def run(self, run_id: str) -> RunRecord | None:
        """The record of one run, or None."""
        return records.run(self.folder, run_id)

    def rows_of(self, record: RunRecord) -> pl.DataFrame:
        """A run's forecast bars, in table order, also those that another run replaced."""
        frames = []
        for each in record.dates:
            if "steps" in each.versions:
                pinned = ForecastTable(self.folder, each.versions)
                own = pinned.scan(record.model_id, record.run_id)
                frames.append(own.filter(pl.col("as_of") == each.as_of).collect())
        rows = pl.concat(frames) if frames else pl.DataFrame(schema=SCHEMAS["steps"])
        return rows.sort(ROW_ORDER["steps"])

    def committed_dates(self, run_id: str, model_id: str) -> set[date]:
        """Dates on which the table shows this run's rows."""
        if not DeltaTable.is_deltatable(self.folder.at("steps")):
            return set()
        held = self.scan(model_id, run_id).select("as_of_date").unique().collect()
        return set(held["as_of_date"])

    # -- writing ---------------------------------------------------------------------------

    def write_run(self, record: RunRecord) -> None:
        """Replace the record of a run in one step."""
        content = record.model_dump_json(indent=1).encode()
        self.folder.write(f"runs/{record.run_id}.json", content)

    def write_plan(self, run_id: str, plan: pl.DataFrame) -> None:
        """Store what a run set out to do."""
        buffer = io.BytesIO()
        plan.write_parquet(buffer, compression="zstd")
        self.folder.write(f"plans/{run_id}.parquet", buffer.getvalue())

    def plan(self, run_id: str) -> pl.DataFrame | None:
        """symbol, as_of, shard, reason of a run; None where no plan is stored."""
        try:
            return pl.read_parquet(io.BytesIO(self.folder.read(f"plans/{run_id}.parquet")))
        except FileNotFoundError:
            return None

    def publish(self, night: Published) -> bool:
        """Move the pointer to a committed night; False where it is there or at a later one."""
        name = records.pointer(night.model_id, night.venue, night.freq)
        before = records.decode(Published, self.folder, name) if self.folder.exists(name) else None
        if before is not None and (before == night or before.as_of > night.as_of):
            return False
        content = night.model_dump_json(indent=1).encode()
        self.folder.write(name, content)
        return True

    @property
    def leases(self) -> Folder:
        return self.folder / "leases"

    def staging(self, run_id: str) -> Folder:
        """Folder for the shard files of one run, outside the tables."""
        return self.folder / f"staging/{run_id}"

    def clear_staging(self, run_id: str) -> None:
        """Remove the shard files of a run whose dates are all committed."""
        self.staging(run_id).remove_all()

    def commit(
        self, run_id: str, model_id: str, day: date, frames: Mapping[Kind, pl.DataFrame]
    ) -> Committed:
        """Make one date of a run visible: all its rows in one transaction, once.

        frames: `steps` and `path_stats`, and `paths` where kept; every row of this run, model and
        date. Path tables are committed first, so that a date in `steps` is complete.

        Safe to repeat and to race: the transaction id `forecast:{run_id}:{day}` is looked up on
        the handle that commits, and a lost race (CommitFailedError) reloads and looks again.
        Raises StoreError where the table cannot be written, with nothing of `steps` changed.
        """
        outcome = Committed(new=False)
        versions: dict[Kind, int] = {}
        for kind in KINDS:
            if kind in frames:
                outcome, versions[kind] = self._commit(kind, run_id, model_id, day, frames[kind])
        return Committed(outcome.new, outcome.replaced, versions)

    def _commit(
        self, kind: Kind, run_id: str, model_id: str, day: date, frame: pl.DataFrame
    ) -> tuple[Committed, int]:
        own = frame.select(SCHEMAS[kind].names()).cast(SCHEMAS[kind])
        slots = own.select(SLOT).unique()
        app_id = f"forecast:{run_id}:{day.isoformat()}"
        in_partition = f"model_id = '{model_id}' AND as_of_date = '{day.isoformat()}'"
        for _ in range(COMMIT_ATTEMPTS):
            handle = self._open_or_create(kind)
            last_version = handle.transaction_version(app_id)
            there = (
                _lazy(handle, self.folder.at(kind))
                .filter(pl.col("model_id") == model_id, pl.col("as_of_date") == day)
                .collect()
            )
            same_slot = there.join(slots, on=SLOT, how="semi", nulls_equal=True)
            holders = set(same_slot["run_id"])
            if last_version is not None and holders == {run_id}:
                return Committed(new=False), handle.version()
            # Another as_of or venue of the session stays: the partition is rewritten as one file.
            kept = there.join(slots, on=SLOT, how="anti", nulls_equal=True)
            rows = pl.concat([kept.select(own.columns), own]).sort(ROW_ORDER[kind])
            transaction = Transaction(app_id=app_id, version=(last_version or 0) + 1)
            try:
                write_deltalake(
                    handle,
                    rows,
                    mode="overwrite",
                    predicate=in_partition,
                    target_file_size=_ONE_FILE,
                    commit_properties=CommitProperties(app_transactions=[transaction]),
                )
            except CommitFailedError:
                continue
            except (DeltaError, OSError) as error:
                raise _unwritable(self.folder.at(kind), error) from error
            replaced = tuple(sorted(holders - {run_id}))
            return Committed(new=True, replaced=replaced), handle.version()
        raise StoreError(
            f"{self.folder.at(kind)}: {COMMIT_ATTEMPTS} attempts to commit {day} lost against "
            "other writers; run the same command again"
        )

    # -- inside ----------------------------------------------------------------------------

    def _open_or_create(self, kind: Kind) -> DeltaTable:
        place = self.folder.at(kind)
        try:
            if not DeltaTable.is_deltatable(place):
                if self.folder.path is not None:
                    (self.folder.path / kind).mkdir(parents=True, exist_ok=True)
                DeltaTable.create(
                    place,
                    schema=pl.DataFrame(schema=SCHEMAS[kind]).to_arrow().schema,
                    partition_by=list(PARTITION_BY),
                    mode="ignore",
                )
            handle = DeltaTable(place)
        except (DeltaError, OSError) as error:
            raise _unwritable(place, error) from error
        found = {column.name for column in handle.schema().fields}
        ours = set(SCHEMAS[kind].names())
        if found != ours:
            which = "a newer" if found - ours else "an older"
            odd = ", ".join(sorted(found ^ ours)[:5])
            raise StoreError(
                f"{place}: this table was written by {which} candlecast (columns: {odd}); "
                f"{'update candlecast' if found - ours else 'name a new --out'}"
            )
        return handle

    def _scan(self, kind: Kind) -> pl.LazyFrame:
        place = self.folder.at(kind)
        if not DeltaTable.is_deltatable(place):
            hint = " with --keep-paths" if kind == "paths" else ""
            raise StoreError(
                f"{place}: no forecasts here; make some with 'candlecast forecast{hint} … "
                f"--out {self.folder}'"
            )
        if self._versions is None:
            return _lazy(DeltaTable(place), place)
        if kind not in self._versions:
            raise StoreError(f"{place}: held nothing yet at that version")
        return _lazy(DeltaTable(place, version=self._versions[kind]), place)

    def _visible(self, kind: Kind) -> pl.LazyFrame:
        key = ["model_id", "as_of_date", "as_of", "run_id"]
        return self._scan(kind).join(self._scan("steps").select(key).unique(), on=key, how="semi")


def _lazy(handle: DeltaTable, place: str) -> pl.LazyFrame:
    """A table lazily. Polars does not find local files below a folder whose name a URL escapes."""
    if quote(place, safe="/:") == place:
        return pl.scan_delta(handle)
    return pl.scan_pyarrow_dataset(handle.to_pyarrow_dataset(), allow_pyarrow_filter=False)


def group_by_date(frames: Iterable[pl.LazyFrame], kind: Kind, day: date) -> pl.DataFrame:
    """All rows of one date from many shard files, in table order."""
    rows = pl.concat(list(frames)).filter(pl.col("as_of_date") == day).collect()
    return rows.sort(ROW_ORDER[kind])


def _only(frame: pl.LazyFrame, model_id: str | None, run_id: str | None) -> pl.LazyFrame:
    if model_id is not None:
        frame = frame.filter(pl.col("model_id") == model_id)
    if run_id is not None:
        frame = frame.filter(pl.col("run_id") == run_id)
    return frame


def _unwritable(place: str, error: Exception) -> StoreError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return StoreError(
        f"{place}: cannot be written ({reason}); free space or mend permissions, or name another "
        "--out. What was committed before is untouched, and the same command resumes"
    )
