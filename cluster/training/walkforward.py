"""Fine-tune, forecast the next period, move on: forecasts that no model saw the answer to.

Per fold a training job and a forecast run, in time order, and a record after each. Both are safe
to repeat, so the whole is: the same command resumes with the fold that was interrupted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from backtest.walkforward import folds
from cluster.settings import ForecastSettings, HowToForecast
from cluster.training.job import TrainingReport, run_training
from cluster.training.request import TrainingRequest, Workforce
from cluster.training.walkforward_settings import WalkForwardSettings
from forecaster.hub import TRAINING_RECORD
from forecaster.registry import KNOWN, cutoff_of, resolve_model
from forecaster.training.config import (
    DataRules,
    DataSettings,
    Fitting,
    PredictorLoss,
    PredictorTraining,
    TrainingError,
)
from market.errors import AsOfError
from market.lake.history import MarketHistory
from market.leases import hold
from market.settings import Settings
from market.storage import Folder
from market.table.walkforwards import FoldRecord, WalkForwardRecord

RECORD = "walkforward.json"
_LEASE = "walkforward"


@dataclass(frozen=True)
class FoldPlan:
    """One fold, decided before anything runs."""

    number: int
    train_from: date
    train_through: date
    validation_through: date
    first_as_of: date
    last_as_of: date


def plan_folds(settings: WalkForwardSettings, history: MarketHistory) -> list[FoldPlan]:
    """Folds in time order; those whose period has no date to forecast from are left out.

    The outcomes a fold trains on end with its `validation_through`, and its first forecast is at
    least a horizon and the embargo later. Raises BacktestInputError where nothing fits.
    """
    sessions = history.sessions(settings.start, settings.end)
    found = folds(
        len(sessions),
        train=settings.train_sessions,
        test=settings.test_sessions,
        horizon=settings.forecast.horizon,
        embargo=settings.embargo,
        expanding=settings.expanding,
    )
    plans = [
        FoldPlan(
            number,
            sessions[fold.train_start],
            sessions[fold.train_end - 1 - settings.validation_sessions],
            sessions[fold.train_end - 1],
            sessions[fold.test_start],
            sessions[fold.test_end - 1],
        )
        for number, fold in enumerate(found, start=1)
    ]
    return [plan for plan in plans if _has_dates(plan, settings, history)]


def _has_dates(plan: FoldPlan, settings: WalkForwardSettings, history: MarketHistory) -> bool:
    try:
        return bool(history.resolve_as_of_range(_as_of(plan, settings)))
    except AsOfError:
        return False


def _as_of(plan: FoldPlan, settings: WalkForwardSettings) -> str:
    return f"{plan.first_as_of}:{plan.last_as_of}:{settings.forecast.every}"


def run_walkforward(
    settings: WalkForwardSettings, report: Callable[[str], None] = lambda line: None
) -> WalkForwardRecord:
    """Every fold's training and forecasts; safe to repeat.

    Raises CandlecastError where a fold cannot be trained or forecast, and where the base had seen
    a date that is to be forecast, or does not say up to which date it was trained.
    """
    history = MarketHistory.open(settings.store)
    predictor, tokenizer = _base(settings)
    plans = plan_folds(settings, history)
    _require_unseen(settings, predictor, tokenizer, plans)
    identity = _identity(settings, history, predictor, tokenizer)
    name = "wf-" + hashlib.blake2b(json.dumps(identity).encode(), digest_size=8).hexdigest()
    runs = Folder(settings.runs)
    path = runs.at(RECORD)
    with hold(runs, _LEASE) as lease:
        record = WalkForwardRecord(id=name, identity=identity)
        if runs.exists(RECORD):
            before = WalkForwardRecord.read(path)
            if before.id != name:
                raise TrainingError(
                    f"{path}: is of other settings, base or bars; choose another runs: folder"
                )
            record = before
        done = {fold.number for fold in record.folds}
        for plan in plans:
            if plan.number in done:
                report(f"fold {plan.number} of {len(plans)}: done")
                continue
            report(
                f"fold {plan.number} of {len(plans)}: train {plan.train_from} to "
                f"{plan.train_through}, forecast {plan.first_as_of} to {plan.last_as_of}"
            )
            fold = _run_fold(plan, settings, history, predictor, tokenizer, report)
            lease.require()
            record = record.model_copy(update={"folds": (*record.folds, fold)})
            record.write(path)
        record = record.model_copy(update={"finished": True})
        record.write(path)
    return record


def _run_fold(
    plan: FoldPlan,
    settings: WalkForwardSettings,
    history: MarketHistory,
    predictor: str,
    tokenizer: str,
    report: Callable[[str], None],
) -> FoldRecord:
    from cluster.forecasting.job import run_forecast

    training = settings.training
    request = TrainingRequest(
        settings=PredictorTraining(
            **_of(training, Fitting, PredictorLoss),
            data=DataSettings(
                **_of(training, DataRules),
                train_from=plan.train_from,
                train_through=plan.train_through,
                validation_through=plan.validation_through,
                purge_bars=training.windows.horizon,
            ),
            base_trained_through=settings.base_trained_through,
        ),
        out=Folder(settings.runs).at(f"fold-{plan.number:03d}"),
        stores=(settings.store,),
        store_version=history.version,
        tokenizer=tokenizer,
        start_from=predictor,
        **_of(settings, Workforce),
    )
    trained: TrainingReport = run_training(request, report)
    through = _cutoff(trained.out, plan)
    made = run_forecast(
        ForecastSettings(
            **_of(settings.forecast, HowToForecast),
            store=settings.store,
            store_version=history.version,
            out=settings.out,
            as_of=_as_of(plan, settings),
            model=str(trained.out),
            tokenizer=tokenizer,
            address=settings.address,
        )
    ).record
    report(f"fold {plan.number}: {made.n_forecasts:,} forecasts by model {made.model_id}")
    return FoldRecord(
        number=plan.number,
        train_from=plan.train_from,
        train_through=plan.train_through,
        validation_through=plan.validation_through,
        trained_through=through,
        first_as_of=min(each.as_of_date for each in made.dates),
        last_as_of=max(each.as_of_date for each in made.dates),
        model=trained.place,
        model_id=made.model_id,
        run_id=made.run_id,
        forecasts=made.n_forecasts,
        figures=trained.figures,
    )


def _of(settings: Settings, *kinds: type[Settings]) -> dict[str, Any]:
    """The settings that these models declare."""
    return {name: getattr(settings, name) for kind in kinds for name in kind.model_fields}


def _cutoff(model: Path, plan: FoldPlan) -> date:
    """The fold's model's own cut-off. Raises TrainingError unless it is before the first date."""
    through = cutoff_of(model)
    if through is None or through >= plan.first_as_of:
        raise TrainingError(
            f"{model / TRAINING_RECORD}: trained through {through or 'an unknown date'}, but fold "
            f"{plan.number} forecasts from {plan.first_as_of}: those forecasts would prove nothing"
        )
    return through


def _base(settings: WalkForwardSettings) -> tuple[str, str]:
    """Predictor and tokenizer, as folders or hub ids."""
    spec = resolve_model(settings.base, settings.tokenizer)
    return spec.predictor, spec.tokenizer


def _require_unseen(
    settings: WalkForwardSettings, predictor: str, tokenizer: str, plans: list[FoldPlan]
) -> None:
    if not plans:
        raise TrainingError(
            f"no fold has a date to forecast from ({settings.forecast.every}); shorten "
            "train_sessions, or lengthen test_sessions"
        )
    for part in (predictor, tokenizer):
        through = cutoff_of(part) or settings.base_trained_through
        if through is None:
            raise TrainingError(
                f"{part}: does not say up to which date it was trained; set base_trained_through, "
                "or the forecasts could be of dates it has seen"
            )
        if through >= plans[0].first_as_of:
            raise TrainingError(
                f"{part}: trained through {through}, but the first fold forecasts from "
                f"{plans[0].first_as_of}: it has seen what it would forecast. Move start to later "
                f"sessions, or take a base that saw less ({', '.join(KNOWN)} and their dates are "
                "in docs/forecasting.md)."
            )


def _identity(
    settings: WalkForwardSettings, history: MarketHistory, predictor: str, tokenizer: str
) -> dict[str, Any]:
    where = dict.fromkeys(("store", "out", "runs", "address", "gpus", "threads"), True)
    how = {"replicas", "gpus_per_replica", "memory_mb", "shard_size", "no_progress_timeout_s",
           "wait_for_other_s"}  # fmt: skip
    return {
        "settings": settings.model_dump(mode="json", exclude={**where, "forecast": how}),
        "store version": history.version,
        "predictor": predictor,
        "tokenizer": tokenizer,
    }
