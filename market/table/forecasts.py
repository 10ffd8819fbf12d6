"""The forecast table: Delta tables in one folder that appear whole or not at all.

Knows columns, commits, run records and the pointer to the newest night; nothing of models, Ray or
how a forecast is made.

    OUT/steps/        one row per forecast bar      partitioned by model_id, as_of_date
    OUT/path_stats/   one row per (as_of, symbol)
    OUT/paths/        sampled bars, where asked for
    OUT/ensembles/    raw closes of some symbols, where calibration is on
    OUT/calibration/  per recipe a table of its own, of past dates forecast to calibrate by
    OUT/runs/         one JSON record per run
    OUT/plans/        what each run set out to do: symbols, shards, reasons for exclusion
    OUT/latest/       per model, venue and frequency, the newest published night
    OUT/leases/       who is at work
    OUT/staging/      shard files of unfinished runs; no reader looks here

A date exists for readers only when it is in `steps`, which is committed last. A (model, as_of,
venue, freq) shows the rows of one run: a run with other settings replaces them in `steps`, and the
older rows stay readable at the older table version. The other tables keep the rows of every run;
readers see those of the run that `steps` shows.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path

import polars as pl
from deltalake import DeltaTable

from market.errors import StoreError
from market.storage import Folder
from market.table import records
from market.table.commits import Committed, commit_rows, newest_version
from market.table.files import Written, scan_rows
from market.table.opening import open_table
from market.table.schema import KINDS, ROW_ORDER, SCHEMAS, Kind, Published, RunRecord

__all__ = ["Committed", "ForecastTable"]


class ForecastTable:
    """The forecasts under one folder or URL. Opening it reads nothing; a missing one fails on use.

    versions pins each table to one of its versions; see `at`. require is called right before each
    transaction; what it raises leaves the table as it was.
    """

    def __init__(
        self,
        root: str | Path | Folder,
        versions: Mapping[Kind, int] | None = None,
        require: Callable[[], object] = lambda: None,
    ) -> None:
        self.folder = Folder(root)
        self._versions = versions
        self._require = require
        self._handles: dict[Kind, DeltaTable] = {}
        """Of the tables that this object has written to."""

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_handles": {}}

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
        return self._visible("path_stats", model_id, run_id)

    def paths(self, model_id: str | None = None, run_id: str | None = None) -> pl.LazyFrame:
        """Sampled bars, for the dates that are in `steps`.

        Raises StoreError where no run kept its paths.
        """
        return self._visible("paths", model_id, run_id)

    def keeps(self, kind: Kind) -> bool:
        """Whether any run kept rows of this kind."""
        return open_table(self.folder.at(kind)) is not None

    def ensembles(self, recipe: str) -> pl.LazyFrame | None:
        """Raw closes of one recipe, for the dates that are in `steps`; None where none are kept."""
        if not self.keeps("ensembles"):
            return None
        return self._visible("ensembles", None, None).filter(pl.col("recipe") == recipe)

    def all_ensembles(self, model_id: str) -> pl.LazyFrame:
        """Raw closes of one model, of whatever recipe, for the dates that are in `steps`."""
        return self._visible("ensembles", model_id, None)

    def hindcasts(self, recipe: str) -> ForecastTable:
        """The table of past dates that were forecast to calibrate a recipe by."""
        return ForecastTable(self.folder / f"calibration/{recipe}")

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
                at = (pl.col("as_of_date") == each.as_of_date, pl.col("as_of") == each.as_of)
                frames.append(own.filter(*at).collect())
        rows = pl.concat(frames) if frames else pl.DataFrame(schema=SCHEMAS["steps"])
        return rows.sort(ROW_ORDER["steps"])

    def committed_dates(self, run_id: str, model_id: str) -> set[date]:
        """Dates on which the table shows this run's rows."""
        if not self.keeps("steps"):
            return set()
        held = self.scan(model_id, run_id).select("as_of_date").unique().collect()
        return set(held["as_of_date"])

    def holds(self, record: RunRecord) -> bool:
        """Whether every table shows all forecasts that a run's record counts."""
        expected = {each.as_of: each.forecast for each in record.dates if each.forecast}
        days = [each.as_of_date for each in record.dates if each.forecast]
        kinds: list[Kind] = ["steps", "path_stats"]
        if record.settings.get("keep_paths"):
            kinds.append("paths")
        for kind in kinds:
            if not self.keeps(kind):
                return not expected
            own = _only(self._scan(kind), record.model_id, record.run_id)
            shown = (
                own.filter(pl.col("as_of_date").is_in(days))
                .group_by("as_of")
                .agg(pl.col("symbol").n_unique())
                .collect()
            )
            if dict(shown.iter_rows()) != expected:
                return False
        return True

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
        name = f"plans/{run_id}.parquet"
        try:
            return pl.read_parquet(io.BytesIO(self.folder.read(name)))
        except FileNotFoundError:
            return None
        except pl.exceptions.PolarsError as error:
            raise StoreError(f"{self.folder.at(name)}: the plan is damaged; remove it") from error

    def publish(self, night: Published) -> bool:
        """Move the pointer to a committed night; False where it is there or at a later one.

        Never backwards, whoever else publishes: the pointer is replaced only where it still is
        what was compared.
        """
        return records.publish(self.folder, night)

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
        self,
        run_id: str,
        model_id: str,
        day: date,
        frames: Mapping[Kind, pl.DataFrame | Written],
        require: Callable[[], object] | None = None,
    ) -> Committed:
        """Make one date of a run visible: all its rows in one transaction, once.

        frames: `steps` and `path_stats`, and `paths` and `ensembles` where kept; every row of this
        run, model and date, or the files that hold them. The others are committed first and show
        nothing; the transaction of `steps` makes all of them visible. require: as in the class, for
        this commit.

        Safe to repeat and to race: of two runs of one (model, as_of, venue, freq) one wins whole.
        Raises StoreError where the table cannot be written, with nothing of `steps` changed.
        """
        outcome = Committed(new=False)
        versions: dict[Kind, int] = {}
        for kind in KINDS:
            if kind in frames:
                outcome, versions[kind] = self._commit(
                    kind, run_id, model_id, day, frames[kind], require
                )
        if "steps" in versions:
            # What grows only holds, by now, the rows of every run that this version of steps shows.
            versions |= {
                k: newest_version(self.folder / k) or versions[k] for k in versions if k != "steps"
            }
        return Committed(outcome.new, outcome.replaced, versions)

    def _commit(
        self,
        kind: Kind,
        run_id: str,
        model_id: str,
        day: date,
        frame: pl.DataFrame | Written,
        require: Callable[[], object] | None = None,
    ) -> tuple[Committed, int]:
        return commit_rows(
            self.folder, kind, run_id, model_id, day, frame, require or self._require,
            self._handles,
        )  # fmt: skip

    # -- inside ----------------------------------------------------------------------------

    def _scan(self, kind: Kind) -> pl.LazyFrame:
        place = self.folder.at(kind)
        if self._versions is not None and kind not in self._versions and self.keeps(kind):
            raise StoreError(f"{place}: held nothing yet at that version")
        found = open_table(place, (self._versions or {}).get(kind))
        if found is None:
            hint = " with --keep-paths" if kind == "paths" else ""
            raise StoreError(
                f"{place}: no forecasts here; make some with 'candlecast forecast{hint} … "
                f"--out {self.folder}'"
            )
        return scan_rows(found, self.folder / kind)

    def _visible(self, kind: Kind, model_id: str | None, run_id: str | None) -> pl.LazyFrame:
        key = ["model_id", "as_of_date", "as_of", "run_id"]
        # The table that only grows is looked at second: it holds whatever steps showed before.
        steps = _only(self._scan("steps"), model_id, run_id).select(key).unique()
        return _only(self._scan(kind), model_id, run_id).join(steps, on=key, how="semi")


def _only(frame: pl.LazyFrame, model_id: str | None, run_id: str | None) -> pl.LazyFrame:
    if model_id is not None:
        frame = frame.filter(pl.col("model_id") == model_id)
    if run_id is not None:
        frame = frame.filter(pl.col("run_id") == run_id)
    return frame
