"""A run in several processes without Ray: what jobs on a cluster are compared with."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from forecaster.training import (
    Peers,
    PredictorTraining,
    Surroundings,
    TokenizerTraining,
    TrainingRun,
)
from forecaster.training.data.series_file import open_series


def train_in_group(
    world: int,
    settings: TokenizerTraining | PredictorTraining,
    series: list[Path],
    out: Path,
    tokenizer: Path | None = None,
) -> None:
    """Trains with so many processes that start fresh; returns when all are done."""
    out.mkdir(parents=True, exist_ok=True)
    mp.spawn(_one, args=(world, settings, series, out, tokenizer), nprocs=world)  # type: ignore[no-untyped-call]


def _one(
    rank: int,
    world: int,
    settings: TokenizerTraining | PredictorTraining,
    series: list[Path],
    out: Path,
    tokenizer: Path | None,
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out}/meet", rank=rank, world_size=world)
    try:
        bars = [one for folder in series for one in open_series(folder)]
        run = TrainingRun(settings, bars, tokenizer=tokenizer, world=world)
        run.train(out, Surroundings(peers=Peers.of_process_group()))
    finally:
        dist.destroy_process_group()
