"""A forecast run from plan to published table. Knows the order of things; prints nothing.

    plan      who is eligible when, and the run's id
    lease     one driver per run; another waits and finds the work done, or takes over
    resume    shards whose manifest is already there
    stream    Ray Data source -> replicas -> staging files
    commit    one Delta transaction per date; runs of one model, venue and frequency take turns
    record    what was done, skipped, replaced, and when
    publish   the pointer to the newest night

Killing it anywhere and running it again gives the same table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from cluster.forecasting.isolation import Pass
from cluster.forecasting.plan import Plan, Shard, build_plan
from cluster.forecasting.records import final_record, new_record, newest_night
from cluster.forecasting.staging import FinishedShard
from cluster.forecasting.tally import Activity
from cluster.forecasting.weights import shared_weights
from cluster.forecasting.work import ReplicaJob
from cluster.session import Pool, replica_pool
from cluster.settings import ForecastSettings
from forecaster import LoadedModel, SamplingParams, load_forecaster
from market.errors import CandlecastError, ForecastInputError
from market.importing.files import import_query
from market.lake.history import MarketHistory
from market.leases import LeaseLostError, hold
from market.table.forecasts import Committed, ForecastTable, group_by_date
from market.table.schema import Kind, RunRecord
from market.table.vacuum import commit_lease_name, lease_name

_WAIT_POLL_SECONDS = 1.0

Report = Callable[[str, int, int], None]
"""Called with the stage, what is done and the total, in forecasts (symbol and date)."""


@dataclass(frozen=True)
class ForecastReport:
    """What a call to run_forecast found or did."""

    record: RunRecord
    already_done: bool
    """An earlier run had committed everything; nothing was computed."""
    resumed: int
    """Forecasts taken over from an interrupted attempt."""
    seconds: dict[str, float]
    """Wall time of each stage of this call."""
    activity: Activity | None = None
    """When each replica was at work; None where nothing was computed."""
    replicas: int = 0
    """Most replicas that were to run."""

    @property
    def computed(self) -> int:
        return 0 if self.already_done else self.record.n_forecasts - self.resumed

    @property
    def paths_per_second(self) -> float:
        spent = self.seconds.get("forecast", 0.0)
        paths = self.computed * int(self.record.settings["paths"])
        return paths / spent if spent else 0.0

    def summary(self) -> dict[str, Any]:
        """The run in a flat record, JSON-ready."""
        record = self.record
        return {
            "status": "already done" if self.already_done else "done",
            "run_id": record.run_id,
            "model": record.model,
            "model_id": record.model_id,
            "dates": len(record.dates),
            "first_date": str(record.dates[0].as_of_date),
            "last_date": str(record.dates[-1].as_of_date),
            "in_sample_dates": sum(each.in_sample for each in record.dates),
            "forecasts": record.n_forecasts,
            "resumed": self.resumed,
            "excluded": sum(len(note.symbols) for note in record.skipped),
            "failed": sum(len(note.symbols) for note in record.failed),
            "trimmed": record.trimmed,
            "repaired_bars": record.repaired_bars,
            "paths_per_second": round(self.paths_per_second, 1),
            "seconds": {stage: round(spent, 3) for stage, spent in self.seconds.items()},
        }

    def __repr__(self) -> str:
        lines = (f"{key}: {value}" for key, value in self.summary().items())
        return "ForecastReport\n  " + "\n  ".join(lines)


def run_forecast(
    settings: ForecastSettings,
    report: Report = lambda stage, done, total: None,
    require: Callable[[], object] = lambda: None,
) -> ForecastReport:
    """Forecast and commit; safe to repeat.

    require: called before anything that others would see, besides the run's own lease; what it
    raises ends the run there.
    Raises CandlecastError for input that cannot be forecast, and where every forecast failed.
    """
    clock = _Clock()
    report("plan", 0, 0)
    if settings.source is not None and settings.query is not None:
        import_query(settings.source, settings.query, settings.store)
    history = MarketHistory.open(settings.store, version=settings.store_version)
    table = ForecastTable(settings.out)
    loaded = load_forecaster(
        settings.model,
        settings.tokenizer,
        precision=settings.precision,
        overflow=settings.overflow,
        repair_bars=settings.repair,
        anchor=settings.anchor,
    )
    plan = build_plan(history, loaded, settings, table)
    clock.lap("plan")

    if done := _completed(table, plan.run_id):
        return _already_done(table, done, clock, require)
    with hold(
        table.leases,
        lease_name(plan.run_id),
        wait_s=settings.wait_for_other_s,
        waiting=lambda: report("wait", 0, 0),
    ) as lease:
        clock.lap("wait")

        def ours() -> None:
            lease.require()
            require()

        if done := _completed(table, plan.run_id):
            return _already_done(table, done, clock, ours)
        return _run(settings, history, table, loaded, plan, ours, clock, report)


def _run(
    settings: ForecastSettings,
    history: MarketHistory,
    table: ForecastTable,
    loaded: LoadedModel,
    plan: Plan,
    require: Callable[[], object],
    clock: _Clock,
    report: Report,
) -> ForecastReport:
    record = new_record(plan, loaded, settings, history, table.run(plan.run_id))
    table.write_run(record)
    job = _replica_job(plan, loaded, settings, history, table)
    try:
        with replica_pool(
            settings.replicas, len(plan.members), settings.address, settings.gpus_per_replica
        ) as pool:
            if settings.address is not None:
                from cluster.forecasting.visibility import require_visible

                require_visible(history, table, plan.run_id)
            clock.lap("start")
            shards = plan.shards(plan.symbols_per_shard(settings.shard_size, pool.most))
            table.write_plan(plan.run_id, plan.frame(shards))
            resumed, activity = _stream(history, loaded, plan, shards, job, pool, settings, report)
        clock.lap("forecast")
        report("commit", 0, len(plan.as_ofs))
        finished = _finished(job, shards)
        turn = commit_lease_name(job.model_id, history.spec.venue, history.spec.freq)
        with hold(
            table.leases,
            turn,
            wait_s=settings.wait_for_other_s,
            waiting=lambda: report("wait", 0, 0),
        ) as lease:

            def ours() -> None:
                require()
                lease.require()

            committed = _commit(table, plan, job.model_id, finished, ours, report)
            clock.lap("commit")
            record = final_record(record, finished, committed, clock.laps["forecast"])
            ours()
            table.write_run(record)
            _publish(table, record)
    except (CandlecastError, OSError):
        # Another driver may have taken over, committed the run and cleared the staging.
        if done := _completed(table, plan.run_id):
            return _already_done(table, done, clock, require)
        raise
    table.clear_staging(plan.run_id)
    return ForecastReport(record, False, resumed, clock.laps, activity, pool.most)


def _already_done(
    table: ForecastTable, record: RunRecord, clock: _Clock, require: Callable[[], object]
) -> ForecastReport:
    # Its driver may have died between the record and the pointer. Who lost a lease moves nothing.
    with suppress(LeaseLostError):
        require()
        _publish(table, record)
    return ForecastReport(record, already_done=True, resumed=0, seconds=clock.laps)


def _publish(table: ForecastTable, record: RunRecord) -> None:
    night = newest_night(record)
    if night is not None:
        table.publish(night)


def _stream(
    history: MarketHistory,
    loaded: LoadedModel,
    plan: Plan,
    shards: Sequence[Shard],
    job: ReplicaJob,
    pool: Pool,
    settings: ForecastSettings,
    report: Report,
) -> tuple[int, Activity | None]:
    """Forecast the shards that have no manifest yet; how many forecasts the others hold."""
    from cluster.forecasting.actor_pool import run_shards

    todo = [shard for shard in shards if FinishedShard.read(job.staging, shard.key) is None]
    resumed = plan.n_forecasts - sum(shard.n_forecasts for shard in todo)
    report("forecast", resumed, plan.n_forecasts)
    if not todo:
        return resumed, None
    activity = run_shards(
        history,
        todo,
        job,
        shared_weights(loaded),
        pool=pool,
        timeout_s=settings.no_progress_timeout_s,
        report=lambda done: report("forecast", resumed + done, plan.n_forecasts),
    )
    return resumed, activity


def _completed(table: ForecastTable, run_id: str) -> RunRecord | None:
    """The record of a run that finished and whose rows every table still shows, or None."""
    record = table.run(run_id)
    if record is None or record.status != "finished":
        return None
    return record if table.holds(record) else None


def _replica_job(
    plan: Plan,
    loaded: LoadedModel,
    settings: ForecastSettings,
    history: MarketHistory,
    table: ForecastTable,
) -> ReplicaJob:
    return ReplicaJob(
        run_id=plan.run_id,
        model_id=loaded.forecaster.model_id,
        model=settings.model,
        tokenizer=settings.tokenizer,
        trained_through=loaded.trained_through,
        cutoff_unknown=loaded.cutoff_unknown,
        spec=history.spec,
        lookback=settings.lookback,
        horizon=settings.horizon,
        paths=settings.paths,
        sampling=SamplingParams(
            temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p
        ),
        precision=settings.precision,
        overflow=settings.overflow,
        memory_mb=settings.memory_mb,
        seed=settings.seed,
        repair=settings.repair,
        anchor=settings.anchor,
        recipe=plan.recipe,
        fitted=plan.fitted,
        sampled=plan.sampled,
        keep_paths=settings.keep_paths,
        staging=table.staging(plan.run_id),
        device=settings.device,
        submission=Pass.first(),
    )


def _finished(job: ReplicaJob, shards: Sequence[Shard]) -> list[FinishedShard]:
    finished = [(shard, FinishedShard.read(job.staging, shard.key)) for shard in shards]
    missing = [shard.key for shard, found in finished if found is None]
    if missing:
        raise CandlecastError(
            f"{job.staging}: {len(missing)} of {len(shards)} shards left no result, the first is "
            f"{missing[0]}; is this folder visible to every node? Run the same command to resume"
        )
    return [found for _, found in finished if found is not None]


def _commit(
    table: ForecastTable,
    plan: Plan,
    model_id: str,
    finished: Sequence[FinishedShard],
    require: Callable[[], object],
    report: Report,
) -> dict[date, Committed]:
    """Every date with rows, one after the other."""
    failures = [failure for shard in finished for r in shard.results for failure in r.failed]
    if not any(shard.files for shard in finished):
        symbol, error = failures[0]
        raise ForecastInputError(
            f"all {len(failures)} forecasts failed, nothing was committed; first {symbol}: {error}"
        )
    kinds: list[Kind] = ["steps", "path_stats", "paths", "ensembles"]
    scans = {
        kind: [pl.scan_parquet(shard.files[kind]) for shard in finished if kind in shard.files]
        for kind in kinds
    }
    days = sorted({as_of.session for as_of in plan.as_ofs})
    committed: dict[date, Committed] = {}
    for done, day in enumerate(days, start=1):
        frames = {kind: group_by_date(scans[kind], kind, day) for kind in kinds if scans[kind]}
        frames = {kind: frame for kind, frame in frames.items() if frame.height}
        if "steps" in frames:
            committed[day] = table.commit(plan.run_id, model_id, day, frames, require)
        report("commit", done, len(days))
    return committed


class _Clock:
    """Wall time of one stage after the other."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.laps[stage] = now - self._last
        self._last = now
