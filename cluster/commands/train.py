"""`candlecast train`: flags and progress around training jobs. Heavy modules load inside."""

from __future__ import annotations

import typer

from cluster.commands.options import add, from_settings
from cluster.commands.output import Output
from cluster.training.request import PredictorPlace, TimeLLMPlace, TokenizerPlace, TrainingRequest
from cluster.training.walkforward_settings import WalkForwardSettings
from forecaster.training.config import PredictorTraining, TokenizerTraining
from forecaster.training.timellm_config import TimeLLMTraining


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    train = typer.Typer(
        help="Train a tokenizer and a predictor on its tokens, or a Time-LLM. Repeat to resume.",
        no_args_is_help=True,
    )
    add(train, tokenizer)
    add(train, predictor)
    add(train, timellm)
    add(train, walkforward)
    app.add_typer(train, name="train")


@from_settings(
    "candlecast train tokenizer --config train/returns_tokenizer.yaml --store store "
    "--out tokenizer",
    "candlecast train tokenizer --config train/finetune_tokenizer.yaml --store store --from nano "
    "--out tokenizer --set optimiser.steps=500",
    config=True,
)
def tokenizer(place: TokenizerPlace, settings: TokenizerTraining, output: Output) -> None:
    """Train the half of a model that turns bars into tokens and back."""
    _run(TrainingRequest(settings=settings, **dict(place)), output)
    output.line(f"train a predictor on it with --tokenizer {place.out}")


@from_settings(
    "candlecast train predictor --config train/returns_predictor.yaml --store store "
    "--tokenizer tokenizer --out predictor",
    "candlecast train predictor --config train/finetune_predictor.yaml --store store --from nano "
    "--tokenizer nano --out predictor",
    config=True,
)
def predictor(place: PredictorPlace, settings: PredictorTraining, output: Output) -> None:
    """Train the half of a model that continues tokens."""
    _run(TrainingRequest(settings=settings, **dict(place)), output)
    output.line(f"forecast with --model {place.out} --tokenizer {place.tokenizer}")


@from_settings(
    "candlecast train timellm --config train/timellm.yaml --store store --out timellm",
    "candlecast train timellm --config train/timellm.yaml --store store --out timellm "
    "--set model.backbone=openai-community/gpt2",
    config=True,
)
def timellm(place: TimeLLMPlace, settings: TimeLLMTraining, output: Output) -> None:
    """Train a Time-LLM, or one of the models without a language model that it has to beat."""
    told = place.model_dump()
    backbone = told.pop("backbone")
    if backbone is not None:
        shape = settings.model.model_dump() | {"backbone": backbone}
        settings = TimeLLMTraining.model_validate(settings.model_dump() | {"model": shape})
    _run(TrainingRequest(settings=settings, **told), output)
    output.line(f"forecast with --model timellm:{place.out}")


@from_settings(
    "candlecast train walkforward --config train/walkforward.yaml --store store",
    "candlecast train walkforward --config train/walkforward.yaml --store store "
    "--set forecast.paths=64",
    config=True,
)
def walkforward(settings: WalkForwardSettings, output: Output) -> None:
    """Fine-tune, forecast the next period, move on: the honest input of a backtest."""
    from cluster.training.walkforward import RECORD, run_walkforward
    from market.storage import Folder

    record = run_walkforward(settings, output.line)
    path = Folder(settings.runs).at(RECORD)
    made = sum(fold.forecasts for fold in record.folds)
    output.result(
        {"record": path, **record.model_dump(mode="json")},
        f"{len(record.folds)} folds, {made:,} forecasts in {settings.out}",
    )
    output.line(
        f"backtest them: candlecast backtest --store {settings.store} --forecasts {settings.out} "
        f"--walkforward {path}"
    )


def _run(request: TrainingRequest, output: Output) -> None:
    from cluster.training.job import run_training

    try:
        done = run_training(request, output.line)
    except KeyboardInterrupt:
        output.line("interrupted; the same command resumes from the last checkpoint")
        raise
    output.result(
        {
            "out": done.place,
            "page": done.page,
            "already_done": done.already_done,
            "seconds": round(done.seconds, 3),
            "figures": done.figures,
        },
        f"already trained: {done.place}"
        if done.already_done
        else f"trained in {done.seconds:.0f} s: {done.place}",
    )
    output.line(f"page: {done.page}")
