"""`candlecast train tokenizer|predictor`: flags and progress around a training run.

Heavy modules load inside the commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from forecaster.training.config import SimulatedMarkets
    from forecaster.training.windows import TrainingSeries

Config = Annotated[
    Path, typer.Option(help="YAML of the run; configs/train/ has commented examples.")
]
Stores = Annotated[
    list[Path] | None,
    typer.Option("--store", help="History made by 'candlecast data import'; repeat for several."),
]
Out = Annotated[Path, typer.Option(help="Folder of the run and, at the end, of the model.")]
StartFrom = Annotated[
    Path | None, typer.Option("--from", help="Folder of a model of the same shape to start from.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the last checkpoint in --out, if there is one.")
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads of the matrix products; default: one per core.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    train = typer.Typer(
        help="Train a tokenizer, or a predictor on its tokens.", no_args_is_help=True
    )
    train.command()(tokenizer)
    train.command()(predictor)
    app.add_typer(train, name="train")


def tokenizer(
    config: Config,
    out: Out,
    store: Stores = None,
    start_from: StartFrom = None,
    resume: Resume = False,
    threads: Threads = None,
) -> None:
    """Train the half of a model that turns bars into tokens and back."""
    import torch

    from cluster.settings import load_settings
    from forecaster.training import TokenizerTraining, train_tokenizer

    settings = load_settings(config, TokenizerTraining)
    if threads is not None:
        torch.set_num_threads(threads)
    train_tokenizer(
        settings,
        _series(store, settings.data.simulated),
        out,
        start_from=start_from,
        resume=resume,
        report=_tell,
    )
    _tell(f"tokenizer written to {out}")


def predictor(
    config: Config,
    out: Out,
    tokenizer: Annotated[Path, typer.Option(help="Folder of the trained tokenizer.")],
    store: Stores = None,
    start_from: StartFrom = None,
    resume: Resume = False,
    threads: Threads = None,
) -> None:
    """Train the half of a model that continues tokens."""
    import torch

    from cluster.settings import load_settings
    from forecaster.kronos.tokenizer import KronosTokenizer
    from forecaster.training import PredictorTraining, train_predictor

    settings = load_settings(config, PredictorTraining)
    frozen = KronosTokenizer.from_pretrained(tokenizer, local_files_only=True)
    if threads is not None:
        torch.set_num_threads(threads)
    train_predictor(
        settings,
        frozen,
        _series(store, settings.data.simulated),
        out,
        start_from=start_from,
        resume=resume,
        report=_tell,
    )
    _tell(f"predictor written to {out}; forecast with --model {out} --tokenizer {tokenizer}")


def _series(stores: list[Path] | None, simulated: SimulatedMarkets | None) -> list[TrainingSeries]:
    from forecaster.training.sources import training_series
    from market.history import MarketHistory

    return training_series([MarketHistory.open(store) for store in stores or []], simulated)


def _tell(line: str) -> None:
    print(line, flush=True)
