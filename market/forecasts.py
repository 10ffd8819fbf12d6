"""The forecast table: Delta tables in one folder that appear whole or not at all.

Knows columns, commits and run records; nothing of models, Ray or how a forecast is made.

    OUT/steps/        one row per forecast bar      partitioned by model_id, as_of_date
    OUT/path_stats/   one row per (as_of, symbol)
    OUT/paths/        sampled bars, where asked for
    OUT/runs/         one JSON record per run
    OUT/staging/      shard files of unfinished runs; no reader looks here

A date exists for readers only when it is in `steps`, which is committed last. A (model, as_of)
holds the rows of one run: a run with other settings replaces them, and the older rows stay
readable at the older table version.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from pydantic import ValidationError

from market.errors import StoreError
from market.forecast_schema import PARTITION_BY, ROW_ORDER, SCHEMAS, Kind, RunRecord

COMMIT_ATTEMPTS = 20
_ONE_FILE = 2**50  # bytes: a partition is never split


@dataclass(frozen=True)
class Committed:
    """What one commit did."""

    new: bool
    """False: the rows were already there."""
    replaced: tuple[str, ...] = ()
    """Runs whose rows for the same model and as_of went out of sight."""


class ForecastTable:
    """The forecasts under one folder. Opening it reads nothing; a missing table fails on use."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()

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

    def runs(self) -> list[RunRecord]:
        """Records of all runs, oldest first."""
        records = [self._read_run(path) for path in (self.root / "runs").glob("*.json")]
        return sorted(records, key=lambda record: (record.started_at, record.run_id))

    def run(self, run_id: str) -> RunRecord | None:
        """The record of one run, or None."""
        path = self._run_path(run_id)
        return self._read_run(path) if path.exists() else None

    def committed_dates(self, run_id: str, model_id: str) -> set[date]:
        """Dates on which the table shows this run's rows."""
        if not DeltaTable.is_deltatable(str(self.root / "steps")):
            return set()
        held = self.scan(model_id, run_id).select("as_of_date").unique().collect()
        return set(held["as_of_date"])

    # -- writing ---------------------------------------------------------------------------

    def write_run(self, record: RunRecord) -> Path:
        """Replace the record of a run in one step."""
        path = self._run_path(record.run_id)
        write_atomically(path, record.model_dump_json(indent=1))
        return path

    def staging(self, run_id: str) -> Path:
        """Folder for the shard files of one run, outside the tables."""
        return self.root / "staging" / run_id

    def clear_staging(self, run_id: str) -> None:
        """Remove the shard files of a run whose dates are all committed."""
        shutil.rmtree(self.staging(run_id), ignore_errors=True)

    def commit(
        self, run_id: str, model_id: str, day: date, frames: Mapping[Kind, pl.DataFrame]
    ) -> Committed:
        """Make one date of a run visible: all its rows in one transaction, once.

        frames: `steps` and `path_stats`, and `paths` where kept; every row of this run, model and
        date. Path tables are committed first, so that a date in `steps` is complete.

        Safe to repeat and to race: the transaction id `forecast:{run_id}:{day}` is looked up on
        the handle that commits, and a lost race (CommitFailedError) reloads and looks again.
        """
        order: list[Kind] = ["paths", "path_stats", "steps"]
        outcome = Committed(new=False)
        for kind in order:
            if kind in frames:
                outcome = self._commit(kind, run_id, model_id, day, frames[kind])
        return outcome

    def _commit(
        self, kind: Kind, run_id: str, model_id: str, day: date, frame: pl.DataFrame
    ) -> Committed:
        own = frame.select(SCHEMAS[kind].names()).cast(SCHEMAS[kind])
        app_id = f"forecast:{run_id}:{day.isoformat()}"
        in_partition = f"model_id = '{model_id}' AND as_of_date = '{day.isoformat()}'"
        for _ in range(COMMIT_ATTEMPTS):
            handle = self._open_or_create(kind)
            last_version = handle.transaction_version(app_id)
            there = (
                pl.scan_delta(handle)
                .filter(pl.col("model_id") == model_id, pl.col("as_of_date") == day)
                .collect()
            )
            same_as_of = there.filter(pl.col("as_of").is_in(own["as_of"].unique().implode()))
            holders = set(same_as_of["run_id"])
            if last_version is not None and holders == {run_id}:
                return Committed(new=False)
            # Another as_of of the same session stays: the partition is rewritten as one file.
            kept = there.filter(~pl.col("as_of").is_in(own["as_of"].unique().implode()))
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
            return Committed(new=True, replaced=tuple(sorted(holders - {run_id})))
        raise StoreError(
            f"{self.root / kind}: {COMMIT_ATTEMPTS} attempts to commit {day} lost against other "
            "writers; run the same command again"
        )

    # -- inside ----------------------------------------------------------------------------

    def _open_or_create(self, kind: Kind) -> DeltaTable:
        path = self.root / kind
        if not DeltaTable.is_deltatable(str(path)):
            path.mkdir(parents=True, exist_ok=True)
            DeltaTable.create(
                str(path),
                schema=pl.DataFrame(schema=SCHEMAS[kind]).to_arrow().schema,
                partition_by=list(PARTITION_BY),
                mode="ignore",
            )
        return DeltaTable(str(path))

    def _scan(self, kind: Kind) -> pl.LazyFrame:
        path = self.root / kind
        if not DeltaTable.is_deltatable(str(path)):
            hint = " with --keep-paths" if kind == "paths" else ""
            raise StoreError(
                f"{path}: no forecasts here; make some with 'candlecast forecast{hint} … "
                f"--out {self.root}'"
            )
        return pl.scan_delta(str(path))

    def _visible(self, kind: Kind) -> pl.LazyFrame:
        key = ["model_id", "as_of_date", "as_of", "run_id"]
        return self._scan(kind).join(self._scan("steps").select(key).unique(), on=key, how="semi")

    def _run_path(self, run_id: str) -> Path:
        return self.root / "runs" / f"{run_id}.json"

    def _read_run(self, path: Path) -> RunRecord:
        try:
            return RunRecord.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole file"
            raise StoreError(
                f"{path}: not a run record ({where}: {first['msg']}); it was damaged or written "
                "by another version of candlecast. Move it away to run again"
            ) from error


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that readers see the old text or the new one, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


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
