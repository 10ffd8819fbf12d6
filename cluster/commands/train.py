"""`candlecast train`: flags and progress around training jobs. Heavy modules load inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cluster.training.job import TrainingRequest

Config = Annotated[
    Path, typer.Option(help="YAML of the run; configs/train/ has commented examples.")
]
Stores = Annotated[
    list[Path] | None,
    typer.Option("--store", help="History made by 'candlecast data import'; repeat for several."),
]
Out = Annotated[Path, typer.Option(help="Folder of the run and, at the end, of the model.")]
StartFrom = Annotated[
    str | None,
    typer.Option("--from", help="Weights to begin with: a folder, a hub id, or an alias."),
]
Workers = Annotated[
    int, typer.Option(min=1, help="Processes that train together; resuming needs as many.")
]
Gpus = Annotated[bool, typer.Option("--gpus", help="One GPU per worker.")]
Threads = Annotated[
    int, typer.Option(min=1, help="Threads of each worker's matrix products on CPUs.")
]
Address = Annotated[
    str | None, typer.Option(help="Join this Ray cluster instead of starting a local one.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    train = typer.Typer(
        help="Train a tokenizer, or a predictor on its tokens. The same command resumes.",
        no_args_is_help=True,
    )
    train.command()(tokenizer)
    train.command()(predictor)
    train.command()(walkforward)
    app.add_typer(train, name="train")


def tokenizer(
    config: Config,
    out: Out,
    store: Stores = None,
    start_from: StartFrom = None,
    workers: Workers = 1,
    gpus: Gpus = False,
    threads: Threads = 1,
    address: Address = None,
) -> None:
    """Train the half of a model that turns bars into tokens and back."""
    from cluster.settings import load_settings
    from cluster.training.job import TrainingRequest
    from forecaster.training import TokenizerTraining

    settings = load_settings(config, TokenizerTraining)
    _run(
        TrainingRequest(
            settings=settings,
            out=out,
            stores=tuple(store or ()),
            start_from=start_from,
            workers=workers,
            gpus=gpus,
            threads=threads,
            address=address,
        )
    )
    _tell(f"train a predictor on it with --tokenizer {out}")


def predictor(
    config: Config,
    out: Out,
    tokenizer: Annotated[str, typer.Option(help="The tokenizer: a folder, a hub id, or an alias.")],
    store: Stores = None,
    start_from: StartFrom = None,
    workers: Workers = 1,
    gpus: Gpus = False,
    threads: Threads = 1,
    address: Address = None,
) -> None:
    """Train the half of a model that continues tokens."""
    from cluster.settings import load_settings
    from cluster.training.job import TrainingRequest
    from forecaster.training import PredictorTraining

    settings = load_settings(config, PredictorTraining)
    _run(
        TrainingRequest(
            settings=settings,
            out=out,
            stores=tuple(store or ()),
            tokenizer=tokenizer,
            start_from=start_from,
            workers=workers,
            gpus=gpus,
            threads=threads,
            address=address,
        )
    )
    _tell(f"forecast with --model {out} --tokenizer {tokenizer}")


def walkforward(
    config: Annotated[
        Path, typer.Option(help="YAML file, such as configs/train/walkforward.yaml.")
    ],
    store: Annotated[Path | None, typer.Option(help="Folder of the history.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder or URL of the forecast table.")] = None,
    runs: Annotated[Path | None, typer.Option(help="Folder of the folds and their record.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Predictor every fold starts from: alias, folder, hub id.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Its tokenizer, where the alias does not say it.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that train together.")] = None,
    gpus: Annotated[bool | None, typer.Option("--gpus", help="One GPU per worker.")] = None,
    address: Address = None,
) -> None:
    """Fine-tune, forecast the next period, move on: the honest input of a backtest."""
    from cluster.settings import load_settings
    from cluster.training.walkforward import RECORD, run_walkforward
    from cluster.training.walkforward_settings import WalkForwardSettings

    flags = {
        "store": store,
        "out": out,
        "runs": runs,
        "base": base,
        "tokenizer": tokenizer,
        "workers": workers,
        "gpus": gpus,
        "address": address,
    }
    settings = load_settings(config, WalkForwardSettings, flags)
    record = run_walkforward(settings, _tell)
    made = sum(fold.forecasts for fold in record.folds)
    _tell(f"{len(record.folds)} folds, {made:,} forecasts in {settings.out}")
    _tell(
        f"backtest them: candlecast backtest --store {settings.store} --forecasts {settings.out} "
        f"--walkforward {settings.runs / RECORD}"
    )


def _run(request: TrainingRequest) -> None:
    from cluster.training.job import run_training

    try:
        done = run_training(request, _tell)
    except KeyboardInterrupt:
        _tell("interrupted; the same command goes on from the last checkpoint")
        raise
    if done.already_done:
        _tell(f"already trained: {done.out}")
    else:
        _tell(f"trained in {done.seconds:.0f} s: {done.out}")
    _tell(f"page: {done.page}")


def _tell(line: str) -> None:
    print(line, flush=True)
