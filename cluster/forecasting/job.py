"""A forecast run from plan to published table. Knows the order of things; prints nothing.

    plan      who is eligible when, and the run's id
    lease     one driver per run; another waits and finds the work done, or takes over
    resume    shards whose manifest is already there
    stream    Ray Data source -> replicas -> staging files
    commit    one Delta transaction per date and table; runs of one model take turns
    record    what was done, skipped, replaced, and when
    publish   the pointer to the newest night

Killing it anywhere and running it again gives the same table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from cluster.forecasting.activity import Activity
from cluster.forecasting.committing import commit_dates
from cluster.forecasting.eligible import on_the_cluster
from cluster.forecasting.isolation import Pass
from cluster.forecasting.plan import Plan, build_plan
from cluster.forecasting.records import final_record, new_record, newest_night
from cluster.forecasting.report import ForecastReport
from cluster.forecasting.shards import Shard
from cluster.forecasting.staging import FinishedShard
from cluster.forecasting.weights import shared_weights
from cluster.forecasting.work import ReplicaJob
from cluster.session import Pool, replica_pool
from cluster.settings import ForecastSettings
from forecaster import LoadedModel, SamplingParams, load_forecaster
from market.errors import CandlecastError
from market.importing.files import import_query
from market.lake.history import MarketHistory
from market.leases import LeaseLostError, hold
from market.table.forecasts import ForecastTable
from market.table.schema import RunRecord
from market.table.vacuum import commit_lease_name, lease_name

_WAIT_POLL_SECONDS = 1.0

Report = Callable[[str, int, int], None]
"""Called with the stage, what is done and the total, in forecasts (symbol and date)."""


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
    with ExitStack() as stack:
        looking = on_the_cluster(stack, settings)
        plan = build_plan(history, loaded, settings, table, looking)
        return _forecast(settings, history, table, loaded, plan, require, clock, report)


def _forecast(
    settings: ForecastSettings,
    history: MarketHistory,
    table: ForecastTable,
    loaded: LoadedModel,
    plan: Plan,
    require: Callable[[], object],
    clock: _Clock,
    report: Report,
) -> ForecastReport:
    """What is planned, unless it is done, by one driver at a time."""
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
            finished = _finished(job, shards)
            record = _commit(table, history, plan, record, settings, shards, finished, require,
                             clock, report)  # fmt: skip
    except (CandlecastError, OSError):
        # Another driver may have taken over, committed the run and cleared the staging.
        if done := _completed(table, plan.run_id):
            return _already_done(table, done, clock, require)
        raise
    table.clear_staging(plan.run_id)
    return ForecastReport(record, False, resumed, clock.laps, activity, pool.most)


def _commit(
    table: ForecastTable,
    history: MarketHistory,
    plan: Plan,
    record: RunRecord,
    settings: ForecastSettings,
    shards: Sequence[Shard],
    finished: Sequence[FinishedShard],
    require: Callable[[], object],
    clock: _Clock,
    report: Report,
) -> RunRecord:
    """The dates, the record and the pointer, by one run of the model, venue and frequency at a
    time."""
    report("commit", 0, len(plan.as_ofs))
    with hold(
        table.leases,
        commit_lease_name(record.model_id, history.spec.venue, history.spec.freq),
        wait_s=settings.wait_for_other_s,
        waiting=lambda: report("wait", 0, 0),
    ) as lease:

        def ours() -> None:
            require()
            lease.require()

        committed = commit_dates(
            table, plan, record.model_id, shards, finished, ours,
            lambda done, total: report("commit", done, total), horizon=settings.horizon,
        )  # fmt: skip
        clock.lap("commit")
        final = final_record(record, finished, committed, clock.laps["forecast"])
        ours()
        table.write_run(final)
        _publish(table, final)
        return final


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
        baselines=settings.calibration_baselines,
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


class _Clock:
    """Wall time of one stage after the other."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.laps[stage] = now - self._last
        self._last = now
