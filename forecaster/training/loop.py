"""The optimisation loop: step, clip, log, validate, checkpoint, resume. Knows no model by name.

A run is a folder: `metrics.jsonl` (one line per logged step), `checkpoint.pt` (everything needed
to go on), and at the end the model in the published format. A killed run goes on from its last
checkpoint and, in one process on a CPU, ends with the same bits as an undisturbed one.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from forecaster.training.config import OptimiserSettings, RunSettings, TrainingError
from forecaster.training.windows import TrainingBatch

METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint.pt"


class BatchSource(Protocol):
    """Gives batch number `step`, always the same."""

    def batch(self, step: int) -> TrainingBatch: ...


@dataclass(frozen=True)
class Task:
    """What distinguishes one kind of training from another."""

    losses: Callable[[TrainingBatch], Mapping[str, Tensor]]
    """Named losses of a batch; `loss` is minimised."""
    validate: Callable[[], Mapping[str, float]]
    """Named figures on the validation windows; must leave model and random state as they are."""


def optimiser_for(
    model: nn.Module, settings: OptimiserSettings
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.OneCycleLR]:
    """AdamW and the one-cycle schedule over all steps."""
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=settings.max_lr,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=settings.max_lr,
        total_steps=settings.steps,
        pct_start=settings.pct_start,
        div_factor=settings.div_factor,
    )
    return optimiser, schedule


def fit(
    model: nn.Module,
    task: Task,
    batches: BatchSource,
    optimiser_settings: OptimiserSettings,
    run: RunSettings,
    folder: Path,
    *,
    identity: Mapping[str, Any],
    resume: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """Trains the model in place and returns the last figures.

    identity: what the run is made of; a checkpoint of another identity is refused.
    resume: go on from the folder's checkpoint, from the start where there is none.
    Raises TrainingError where the folder already holds a run and resume is false, where the
    checkpoint is of other settings, and where a loss or gradient stops being finite: the last
    checkpoint is kept and the message names the batch.
    """
    checkpoint, metrics = folder / CHECKPOINT, folder / METRICS
    optimiser, schedule = optimiser_for(model, optimiser_settings)
    steps = optimiser_settings.steps
    first = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if resume and checkpoint.is_file():
            first = _restore(checkpoint, model, optimiser, schedule, identity)
            _keep_lines(metrics, first)
            report(f"resumed after step {first} of {steps}")
        elif checkpoint.is_file():
            raise TrainingError(
                f"{folder}: holds a run already. Add --resume to go on with it, or choose another "
                "--out."
            )
        else:
            metrics.write_text("")
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be written ({error.strerror})") from error

    model.train()
    figures: dict[str, float] = {}
    began, bars = time.perf_counter(), 0
    for step in range(first, steps):
        batch = batches.batch(step)
        lr = float(schedule.get_last_lr()[0])
        losses, norm = _step(model, task, optimiser, schedule, batch, step, optimiser_settings)
        bars += batch.x_BTF.shape[0] * batch.x_BTF.shape[1]
        done = step + 1
        logged = done % run.log_every == 0 or done == steps
        validated = done % run.validate_every == 0 or done == steps
        if logged or validated:
            seconds = time.perf_counter() - began
            figures = {name: float(value.item()) for name, value in losses.items()}
            line: dict[str, float] = {"step": done, "lr": lr, "grad_norm": norm, **figures}
            if validated:
                checked = dict(task.validate())
                figures |= checked
                line |= checked
            line["bars_per_second"] = round(bars / seconds, 1)
            with metrics.open("a") as out:
                out.write(json.dumps(line) + "\n")
            report(_progress(done, steps, first, seconds, line))
        if done % run.checkpoint_every == 0 or done == steps:
            _save(checkpoint, done, model, optimiser, schedule, identity)
    return figures


def _step(
    model: nn.Module,
    task: Task,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    batch: TrainingBatch,
    step: int,
    settings: OptimiserSettings,
) -> tuple[Mapping[str, Tensor], float]:
    optimiser.zero_grad(set_to_none=True)
    losses = task.losses(batch)
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm))
    if not (math.isfinite(norm) and math.isfinite(losses["loss"].item())):
        raise TrainingError(
            f"step {step + 1}: loss {losses['loss'].item()}, gradient norm {norm}. Stopped before "
            f"the update; the last checkpoint is good. The batch held {batch.names()}. Check those "
            "bars, or lower optimiser.max_lr."
        )
    optimiser.step()
    schedule.step()
    return losses, norm


def _progress(done: int, steps: int, first: int, seconds: float, line: Mapping[str, float]) -> str:
    left = seconds / (done - first) * (steps - done)
    told = "  ".join(
        f"{name} {value:.4f}" for name, value in line.items()
        if name not in ("step", "lr", "bars_per_second")
    )  # fmt: skip
    return (
        f"step {done}/{steps}  {told}  lr {line['lr']:.2e}  {line['bars_per_second']:.0f} bars/s  "
        f"ETA {int(left) // 60}:{int(left) % 60:02d}"
    )


def _save(
    path: Path,
    step: int,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    identity: Mapping[str, Any],
) -> None:
    """Replaces the checkpoint in one move: there is always a whole one."""
    unfinished = path.with_suffix(".tmp")
    torch.save(
        {
            "step": step,
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "random": torch.get_rng_state(),
            "identity": json.dumps(identity, sort_keys=True),
        },
        unfinished,
    )
    os.replace(unfinished, path)


def _restore(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    identity: Mapping[str, Any],
) -> int:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainingError(
            f"{path}: damaged ({type(error).__name__}). Start again in another --out."
        ) from error
    before, now = json.loads(state["identity"]), json.loads(json.dumps(identity))
    differing = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
    if differing:
        raise TrainingError(
            f"{path}: was made with other {', '.join(differing)}. Resume with the same settings "
            "and data, or choose another --out."
        )
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["random"])
    return int(state["step"])


def _keep_lines(path: Path, step: int) -> None:
    """Drops the figures of steps that will be made again."""
    lines = path.read_text().splitlines() if path.is_file() else []
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    path.write_text("".join(line + "\n" for line in kept))
