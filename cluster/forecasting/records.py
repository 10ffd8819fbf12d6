"""The record of a run: what was asked for, what was read, what came of it. Computes no forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from importlib.metadata import version

from cluster.forecasting.plan import Plan
from cluster.forecasting.staging import DateResult, FinishedShard
from cluster.settings import ForecastSettings
from forecaster import LoadedModel
from market.lake.history import MarketHistory
from market.secrets import hidden
from market.table.forecasts import Committed
from market.table.schema import DateRecord, Kind, Published, RunRecord, SymbolNote

_LIBRARIES = ("candlecast", "torch", "numpy", "polars", "ray", "deltalake")


def new_record(
    plan: Plan,
    loaded: LoadedModel,
    settings: ForecastSettings,
    history: MarketHistory,
    earlier: RunRecord | None,
) -> RunRecord:
    """The record of a run that begins, or begins again."""
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
        settings={
            key: hidden(value) if isinstance(value, str) else value
            for key, value in settings.model_dump(mode="json").items()
        },
        history={
            "root": str(history.root),
            "version": history.version,
            "venue": spec.venue,
            "freq": spec.freq,
        },
        cutoff_unknown=loaded.cutoff_unknown,
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


def final_record(
    record: RunRecord,
    finished: Sequence[FinishedShard],
    committed: Mapping[date, Committed],
    seconds: float,
) -> RunRecord:
    """The record of a run whose dates are all committed."""
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
                each.model_copy(
                    update={
                        "forecast": forecast.get(each.as_of, 0),
                        "versions": _versions(committed, each.as_of_date),
                    }
                )
                for each in record.dates
            ),
            "failed": tuple(
                SymbolNote(as_of=as_of, reason=error, symbols=tuple(symbols))
                for (as_of, error), symbols in failed.items()
            ),
            "trimmed": sum(result.trimmed for result in results),
            "repaired_bars": sum(result.repaired_bars for result in results),
            "replaced_runs": tuple(
                sorted({r for each in committed.values() for r in each.replaced})
            ),
        }
    )


def newest_night(record: RunRecord) -> Published | None:
    """The last date of a run that has forecasts, as `latest` points to it."""
    nights = [each for each in record.dates if each.forecast and each.versions]
    if not nights:
        return None
    night = max(nights, key=lambda each: each.as_of)
    return Published(
        model_id=record.model_id,
        model=record.model,
        venue=record.history["venue"],
        freq=str(record.history["freq"]),
        run_id=record.run_id,
        as_of=night.as_of,
        as_of_date=night.as_of_date,
        forecasts=night.forecast,
        versions=night.versions,
    )


def _versions(committed: Mapping[date, Committed], day: date) -> dict[Kind, int]:
    return committed[day].versions if day in committed else {}
