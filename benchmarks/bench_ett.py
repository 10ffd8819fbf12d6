"""The long-horizon protocol on the ETT series: Time-LLM, its ablations and the linear models.

    python benchmarks/bench_ett.py --series ETTh1 --horizons 96 --models nlinear dlinear
    python benchmarks/bench_ett.py --series ETTh1 --models FOLDER --layers 6 --out results.jsonl

12/4/4 months of training, validation and test; every channel standardised by its training part;
every test window counts, the last batch included; MSE and MAE are means over windows, steps and
channels, of the weights with the least validation MSE. One line of JSON per run goes to --out.
A run that --out already has is not run again, so the same command goes on after a stop.
A model is nlinear, dlinear, none, attention, a folder or hub id of a language model, or
`random-gpt2`: a small GPT-2 with random weights, which needs no files.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from forecaster.timellm.config import PointConfig
from forecaster.timellm.model import PointModel, build_model
from forecaster.timellm.offline import write_random_backbone

DATA = Path("../shared/data/ett")
HORIZONS = (96, 192, 336, 720)
DESCRIPTION = (
    "The Electricity Transformer Temperature: load and oil temperature of a transformer station, "
    "two years."
)


@dataclass(frozen=True)
class Recipe:
    """How one kind of model is trained."""

    lr: float
    epochs: int
    batch: int
    """Windows, of all channels, per step."""
    patience: int = 3
    decay: float = 0.5
    """The learning rate is multiplied by it after every epoch."""


LINEAR = Recipe(lr=5e-3, epochs=10, batch=32)
PATCHES = Recipe(lr=1e-3, epochs=10, batch=32, decay=0.8)
LANGUAGE = Recipe(lr=1e-3, epochs=10, batch=16, decay=0.8)


@dataclass(frozen=True)
class Series:
    """Standardised values of the three parts; validation and test begin a lookback early."""

    train_NC: Tensor
    validation_NC: Tensor
    test_NC: Tensor


def load(name: str, lookback: int, folder: Path = DATA) -> Series:
    """ETTh1, ETTh2 (hourly), ETTm1 or ETTm2 (every 15 minutes)."""
    frame = pl.read_parquet(folder / f"{name}.parquet")
    values_NC = frame.drop("date").to_numpy().astype(np.float64)
    month = 30 * 24 * (4 if name.startswith("ETTm") else 1)
    ends = [12 * month, 16 * month, 20 * month]
    past_NC = values_NC[: ends[0]]
    x_NC = torch.from_numpy((values_NC - past_NC.mean(axis=0)) / past_NC.std(axis=0)).float()
    return Series(
        x_NC[: ends[0]], x_NC[ends[0] - lookback : ends[1]], x_NC[ends[1] - lookback : ends[2]]
    )


def n_windows(part_NC: Tensor, config: PointConfig) -> int:
    return len(part_NC) - config.lookback - config.horizon + 1


def windows(
    part_NC: Tensor, config: PointConfig, order: Tensor, size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of lookback and horizon, every channel a row of its own, some windows at a time."""
    length = config.lookback + config.horizon
    all_WCT = part_NC.unfold(0, length, 1)
    for chosen in order.split(size):
        rows_BT = all_WCT[chosen].flatten(0, 1)
        yield rows_BT[:, : config.lookback], rows_BT[:, config.lookback :]


@torch.no_grad()
def measure(model: PointModel, part_NC: Tensor, size: int = 64) -> tuple[float, float]:
    """MSE and MAE over every window of a part."""
    model.eval()
    squared = absolute = count = 0.0
    order = torch.arange(n_windows(part_NC, model.config))
    for x_BL, y_BH in windows(part_NC, model.config, order, size):
        error = (model(x_BL) - y_BH).double()
        squared += error.square().sum().item()
        absolute += error.abs().sum().item()
        count += error.numel()
    return squared / count, absolute / count


def train(model: PointModel, series: Series, recipe: Recipe, most_steps: int | None) -> int:
    """Trains in place and leaves the weights of the best epoch; how many epochs were run."""
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=recipe.lr)
    best, kept, since = float("inf"), copy.deepcopy(model.state_dict()), 0
    for epoch in range(recipe.epochs):
        model.train()
        order = torch.randperm(n_windows(series.train_NC, model.config))
        if most_steps is not None:
            order = order[: most_steps * recipe.batch]
        for x_BL, y_BH in windows(series.train_NC, model.config, order, recipe.batch):
            optimiser.zero_grad(set_to_none=True)
            torch.nn.functional.mse_loss(model(x_BL), y_BH).backward()
            optimiser.step()
        mse, _ = measure(model, series.validation_NC)
        print(f"    epoch {epoch + 1}: validation MSE {mse:.4f}", flush=True)
        if mse < best:
            best, kept, since = mse, copy.deepcopy(model.state_dict()), 0
        else:
            since += 1
            if since == recipe.patience:
                break
        for group in optimiser.param_groups:
            group["lr"] *= recipe.decay
    model.load_state_dict(kept)
    return epoch + 1


def run(name: str, backbone: str, horizon: int, args: argparse.Namespace) -> dict[str, object]:
    """One model on one series and horizon, from the seed to the test figures."""
    torch.manual_seed(args.seed)
    config = PointConfig(
        backbone=backbone,
        backbone_layers=args.layers,
        lookback=args.lookback,
        horizon=horizon,
        d_model=args.d_model,
        d_ff=args.d_ff,
        description=DESCRIPTION,
    )
    recipe = LINEAR if backbone in ("nlinear", "dlinear") else PATCHES
    recipe = LANGUAGE if config.uses_language_model else recipe
    if args.epochs is not None:
        recipe = replace(recipe, epochs=args.epochs)
    series = load(name, args.lookback, args.data)
    model = build_model(config)
    began = time.perf_counter()
    epochs = train(model, series, recipe, args.most_steps)
    mse, mae = measure(model, series.test_NC)
    return {
        "series": name,
        "model": backbone,
        "lookback": args.lookback,
        "horizon": horizon,
        "mse": round(mse, 4),
        "mae": round(mae, 4),
        "windows": n_windows(series.test_NC, config),
        "most_steps": args.most_steps,
        "seconds": round(time.perf_counter() - began),
        "trained": sum(p.numel() for p in model.parameters()),
        "seed": args.seed,
        **asdict(recipe),
        "epochs": epochs,
    }


def finished(out: Path | None) -> set[tuple[object, ...]]:
    """Which runs a file of results has: series, model, lookback, horizon, seed, most steps."""
    if out is None or not out.exists():
        return set()
    keys = ("series", "model", "lookback", "horizon", "seed", "most_steps")
    lines = map(json.loads, out.read_text().splitlines())
    return {tuple(line[key] for key in keys) for line in lines}


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--data", type=Path, default=DATA)
    parse.add_argument("--series", nargs="+", default=["ETTh1"])
    parse.add_argument("--horizons", nargs="+", type=int, default=HORIZONS)
    parse.add_argument("--models", nargs="+", default=["nlinear", "dlinear", "none", "attention"])
    parse.add_argument("--lookback", type=int, default=512)
    parse.add_argument("--layers", type=int, help="first layers of a language model that are used")
    parse.add_argument("--d-model", type=int, default=32)
    parse.add_argument("--d-ff", type=int, default=32)
    parse.add_argument("--epochs", type=int, help="at most; 10 without")
    parse.add_argument("--most-steps", type=int, help="steps of an epoch, at most; all without")
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--threads", type=int, default=1)
    parse.add_argument("--out", type=Path, help="file that a line of JSON per run is added to")
    args = parse.parse_args()
    torch.set_num_threads(args.threads)
    done = finished(args.out)
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.series:
            for horizon in args.horizons:
                for asked in args.models:
                    if (name, asked, args.lookback, horizon, args.seed, args.most_steps) in done:
                        continue
                    backbone = asked
                    if asked == "random-gpt2":
                        backbone = str(write_random_backbone(Path(scratch) / "gpt2"))
                    print(f"{name} {args.lookback} -> {horizon}: {asked}", flush=True)
                    line = json.dumps(run(name, backbone, horizon, args) | {"model": asked})
                    print(f"  {line}", flush=True)
                    if args.out is not None:
                        with args.out.open("a") as file:
                            file.write(line + "\n")


if __name__ == "__main__":
    main()
