"""A forecast run from plan to committed table. Knows the order of things; prints nothing.

    plan      who is eligible when, and the run's id
    resume    shards whose manifest is already there
    stream    Ray Data source -> replicas -> staging files
    commit    one Delta transaction per date
    record    what was done, skipped, replaced, and when

Killing it anywhere and running it again gives the same table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import polars as pl

from cluster.plan import Plan, Shard, build_plan
from cluster.rows import ReplicaJob
from cluster.session import ray_session
from cluster.settings import ForecastSettings
from cluster.staging import DateResult, FinishedShard
from forecaster import LoadedModel, SamplingParams, load_forecaster
from market.errors import CandlecastError, ForecastInputError
from market.forecast_schema import DateRecord, Kind, RunRecord, SymbolNote
from market.forecasts import ForecastTable, group_by_date
from market.history import MarketHistory

_LIBRARIES = ("candlecast", "torch", "numpy", "polars", "ray", "deltalake")

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

    @property
    def computed(self) -> int:
        return 0 if self.already_done else self.record.n_forecasts - self.resumed

    @property
    def paths_per_second(self) -> float:
        spent = self.seconds.get("forecast", 0.0)
        paths = self.computed * int(self.record.settings["paths"])
        return paths / spent if spent else 0.0


def run_forecast(
    settings: ForecastSettings, report: Report = lambda stage, done, total: None
) -> ForecastReport:
    """Forecast and commit; safe to repeat.

    Raises CandlecastError for input that cannot be forecast, and where every forecast failed.
    """
    clock = _Clock()
    report("plan", 0, 0)
    history = MarketHistory.open(settings.store)
    table = ForecastTable(settings.out)
    loaded = load_forecaster(
        settings.model,
        settings.tokenizer,
        precision=settings.precision,
        overflow=settings.overflow,
        repair_bars=settings.repair,
    )
    plan = build_plan(history, loaded, settings)
    clock.lap("plan")

    if done := _completed(table, plan.run_id):
        return ForecastReport(done, already_done=True, resumed=0, seconds=clock.laps)
    record = _new_record(plan, loaded, settings, history, table.run(plan.run_id))
    table.write_run(record)

    job = _replica_job(plan, loaded, settings, history, table)
    try:
        with ray_session(settings.replicas, len(plan.members), settings.address) as replicas:
            clock.lap("start")
            shards = plan.shards(plan.symbols_per_shard(settings.shard_size, replicas))
            resumed = _stream(history, plan, shards, job, replicas, settings, report)
        clock.lap("forecast")
        report("commit", 0, len(plan.as_ofs))
        finished = _finished(job, shards)
        replaced = _commit(table, plan, job.model_id, finished, report)
        clock.lap("commit")
    except (CandlecastError, OSError):
        # Another driver of the same run may have committed it and cleared the staging.
        if done := _completed(table, plan.run_id):
            return ForecastReport(done, already_done=True, resumed=0, seconds=clock.laps)
        raise
    record = _final_record(record, finished, replaced, clock.laps["forecast"])
    table.write_run(record)
    table.clear_staging(plan.run_id)
    return ForecastReport(record, already_done=False, resumed=resumed, seconds=clock.laps)


def _stream(
    history: MarketHistory,
    plan: Plan,
    shards: Sequence[Shard],
    job: ReplicaJob,
    replicas: int,
    settings: ForecastSettings,
    report: Report,
) -> int:
    """Forecast the shards that have no manifest yet; how many forecasts the others hold."""
    from cluster.run import run_shards  # Ray reads its environment when it is imported

    todo = [shard for shard in shards if FinishedShard.read(job.staging, shard.key) is None]
    resumed = plan.n_forecasts - sum(shard.n_forecasts for shard in todo)
    report("forecast", resumed, plan.n_forecasts)
    if todo:
        run_shards(
            history,
            todo,
            job,
            replicas=min(replicas, len(todo)),
            timeout_s=settings.no_progress_timeout_s,
            report=lambda done: report("forecast", resumed + done, plan.n_forecasts),
        )
    return resumed


def _completed(table: ForecastTable, run_id: str) -> RunRecord | None:
    """The record of a run that finished and whose rows every date still shows, or None."""
    record = table.run(run_id)
    if record is None or record.status != "finished":
        return None
    expected = {each.as_of_date for each in record.dates if each.forecast}
    shown = table.committed_dates(record.run_id, record.model_id)
    return record if expected <= shown else None


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
        keep_paths=settings.keep_paths,
        staging=table.staging(plan.run_id).absolute(),
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
    report: Report,
) -> set[str]:
    """Every date with rows, one after the other; the runs whose rows were replaced."""
    failures = [failure for shard in finished for r in shard.results for failure in r.failed]
    if not any(shard.files for shard in finished):
        symbol, error = failures[0]
        raise ForecastInputError(
            f"all {len(failures)} forecasts failed, nothing was committed; first {symbol}: {error}"
        )
    kinds: list[Kind] = ["steps", "path_stats", "paths"]
    scans = {
        kind: [pl.scan_parquet(shard.files[kind]) for shard in finished if kind in shard.files]
        for kind in kinds
    }
    days = sorted({as_of.session for as_of in plan.as_ofs})
    replaced: set[str] = set()
    for done, day in enumerate(days, start=1):
        frames = {kind: group_by_date(scans[kind], kind, day) for kind in kinds if scans[kind]}
        if frames["steps"].height:
            replaced.update(table.commit(plan.run_id, model_id, day, frames).replaced)
        report("commit", done, len(days))
    return replaced


def _new_record(
    plan: Plan,
    loaded: LoadedModel,
    settings: ForecastSettings,
    history: MarketHistory,
    earlier: RunRecord | None,
) -> RunRecord:
    through = loaded.trained_through
    spec = history.spec
    eligible = plan.eligible()
    return RunRecord(
        run_id=plan.run_id,
        model_id=loaded.forecaster.model_id,
        model=loaded.name,
        status="running",
        started_at=datetime.now(UTC) if earlier is None else earlier.started_at,
        forecast_seconds=0.0 if earlier is None else earlier.forecast_seconds,
        identity=plan.identity,
        settings=settings.model_dump(mode="json"),
        history={
            "root": str(history.root),
            "version": history.version,
            "venue": spec.venue,
            "freq": spec.freq,
        },
        versions={name: version(name) for name in _LIBRARIES},
        dates=tuple(
            DateRecord(
                as_of=as_of.close_utc,
                as_of_date=as_of.session,
                eligible=eligible[as_of],
                in_sample=through is not None and as_of.session <= through,
            )
            for as_of in plan.as_ofs
        ),
        skipped=plan.skipped,
    )


def _final_record(
    record: RunRecord, finished: Sequence[FinishedShard], replaced: set[str], seconds: float
) -> RunRecord:
    results: list[DateResult] = [result for shard in finished for result in shard.results]
    forecast: dict[datetime, int] = {}
    failed: dict[tuple[datetime, str], list[str]] = {}
    for result in results:
        forecast[result.as_of] = forecast.get(result.as_of, 0) + result.forecast
        for symbol, error in result.failed:
            failed.setdefault((result.as_of, error), []).append(symbol)
    return record.model_copy(
        update={
            "status": "finished",
            "finished_at": datetime.now(UTC),
            "forecast_seconds": record.forecast_seconds + seconds,
            "dates": tuple(
                each.model_copy(update={"forecast": forecast.get(each.as_of, 0)})
                for each in record.dates
            ),
            "failed": tuple(
                SymbolNote(as_of=as_of, reason=error, symbols=tuple(symbols))
                for (as_of, error), symbols in failed.items()
            ),
            "trimmed": sum(result.trimmed for result in results),
            "repaired_bars": sum(result.repaired_bars for result in results),
            "replaced_runs": tuple(sorted(replaced)),
        }
    )


class _Clock:
    """Wall time of one stage after the other."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.laps[stage] = now - self._last
        self._last = now
