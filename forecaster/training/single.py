"""Whole training runs in this process alone: no group, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from forecaster.training.config import PredictorTraining, TokenizerTraining
from forecaster.training.data.pools import TrainingSeries
from forecaster.training.run import TrainingRun
from forecaster.training.surroundings import Surroundings
from forecaster.training.timellm_config import TimeLLMTraining


def train_tokenizer(
    settings: TokenizerTraining,
    series: Sequence[TrainingSeries],
    out: Path,
    *,
    start_from: str | Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """Trains a tokenizer in this process and writes it, with its record, to `out`."""
    return _alone(TrainingRun(settings, series, start_from=start_from), out, report)


def train_predictor(
    settings: PredictorTraining,
    tokenizer: str | Path,
    series: Sequence[TrainingSeries],
    out: Path,
    *,
    start_from: str | Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """Trains a predictor in this process on the tokens of a frozen tokenizer."""
    run = TrainingRun(settings, series, tokenizer=tokenizer, start_from=start_from)
    return _alone(run, out, report)


def train_timellm(
    settings: TimeLLMTraining,
    series: Sequence[TrainingSeries],
    out: Path,
    *,
    start_from: str | Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """Trains a point model in this process; `TimeLLMForecaster.load(out)` forecasts with it."""
    return _alone(TrainingRun(settings, series, start_from=start_from), out, report)


def _alone(run: TrainingRun, out: Path, report: Callable[[str], None]) -> dict[str, float]:
    for line in run.description():
        report(line)
    done = run.resumes_after(out)
    if done:
        report(f"going on after step {done} of {run.settings.optimiser.steps}")
    return run.train(out, Surroundings(report=report))
