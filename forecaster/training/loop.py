"""The optimisation loop: step, clip, log, validate, checkpoint, resume. Knows no model by name.

Every process of a group runs it in step with the others. A killed run resumes from its last
checkpoint and, in one process on a CPU, ends with the same bits as an undisturbed one.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from forecaster.training.checkpoints import About, Best, Checkpoints, require_same
from forecaster.training.config import OptimiserSettings, RunSettings, TrainingError
from forecaster.training.data.pools import TrainingBatch
from forecaster.training.data.prefetch import Prefetcher
from forecaster.training.objectives import Model, Objective
from forecaster.training.process_group import Peers
from forecaster.training.run_log import MetricsLog, progress

CHECKPOINTS = "checkpoints"


class BatchSource(Protocol):
    """Gives a rank's slice of batch number `step`, always the same."""

    def batch(self, step: int, rank: int = 0, world: int = 1) -> TrainingBatch: ...


@dataclass(frozen=True)
class Hooks:
    """What the loop is given from outside."""

    validate: Callable[[Model], Mapping[str, float]]
    """Named figures on the validation windows; must leave model and random state as they are.
    Called on every rank."""
    score: Callable[[Mapping[str, float]], float | None]
    """What `best` compares of those figures, lower is better; None: nothing is compared."""
    publish: Callable[[Model, Path, Mapping[str, float]], None]
    """Writes the model and its record into a folder."""
    report: Callable[[str], None] = lambda line: None
    """Told every logged step, on the first rank."""
    reached: Callable[[int], None] = lambda step: None
    """Called on every rank after a checkpoint."""
    require: Callable[[], None] = lambda: None
    """Called before anything is written; raises where another driver took over."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    figures: dict[str, float]
    """Of the last step."""
    chosen: int
    """Step whose weights are to be published."""


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
    objective: Objective,
    batches: BatchSource,
    settings: OptimiserSettings,
    run: RunSettings,
    folder: Path,
    hooks: Hooks,
    *,
    identity: Mapping[str, Any],
    peers: Peers,
) -> Outcome:
    """Trains the objective's model in place, from the folder's newest checkpoint where it has one.

    Raises TrainingError where that checkpoint is of another identity or number of processes, and
    where a loss or gradient stops being finite: nothing is updated, the last checkpoint is kept,
    and the message names the batch.
    """
    trainer = _Trainer(objective, settings, run, folder, hooks, dict(identity), peers)
    return trainer.run_through(batches)


class _Trainer:
    """What changes from step to step."""

    def __init__(
        self,
        objective: Objective,
        settings: OptimiserSettings,
        run: RunSettings,
        folder: Path,
        hooks: Hooks,
        identity: dict[str, Any],
        peers: Peers,
    ) -> None:
        self._settings, self._run, self._hooks, self._peers = settings, run, hooks, peers
        self._folder, self._identity = folder, identity
        self._model = objective.model.train()
        self._optimiser, self._schedule = optimiser_for(objective.model, settings)
        self._average = None
        if settings.ema_decay is not None:
            decayed = get_ema_multi_avg_fn(settings.ema_decay)  # type: ignore[no-untyped-call]
            self._average = AveragedModel(objective.model, multi_avg_fn=decayed)
        self._checkpoints = Checkpoints(folder / CHECKPOINTS, run.keep_checkpoints)
        self._figures: dict[str, float] = {}
        self._best: Best | None = None
        self._first = self._restore()
        if settings.compile is not None:
            objective.compile(backend=settings.compile)
        self._objective = peers.replicated(objective)

    @property
    def _judged(self) -> Model:
        """The weights that are measured and published."""
        return self._model if self._average is None else cast(Model, self._average.module)

    def run_through(self, batches: BatchSource) -> Outcome:
        settings, run, peers = self._settings, self._run, self._peers
        log = None
        if peers.first:
            self._hooks.require()
            log = MetricsLog(self._folder, self._first, tensorboard=run.tensorboard)
        began, bars, waited, steps = time.perf_counter(), 0, 0.0, 0
        lap = began

        def make(step: int) -> TrainingBatch:
            return batches.batch(step, peers.rank, peers.world)

        with Prefetcher(make, range(self._first, settings.steps)) as loader:
            for step in range(self._first, settings.steps):
                batch, seconds = loader.next()
                waited += seconds
                steps += 1
                lr = float(self._schedule.get_last_lr()[0])
                losses, norm = self._step(batch, step)
                bars += batch.x_BTF.shape[0] * batch.x_BTF.shape[1] * peers.world
                done = step + 1
                last = done == settings.steps
                validated = done % run.validate_every == 0 or last
                line: dict[str, float] = {"step": done, "lr": lr, "grad_norm": norm, **losses}
                if done % run.log_every == 0 or validated:
                    # Before the validation, whose time is not that of the steps.
                    now = time.perf_counter()
                    spent = max(now - lap, 1e-9)
                    since = done - self._first
                    timing = {
                        "bars_per_second": round(bars / spent, 1),
                        "wait_share": round(waited / spent, 5),
                        "step_ms": round(1000 * spent / steps, 3),
                        "eta_s": round((now - began) / since * (settings.steps - done), 1),
                    }
                    improved = self._validate(line, done) if validated else False
                    self._figures = {k: v for k, v in line.items() if k not in ("step", "lr")}
                    if log is not None:
                        self._hooks.require()
                        log.write(line | timing)
                        self._hooks.report(progress(line | timing, settings.steps))
                    lap, bars, waited, steps = time.perf_counter(), 0, 0.0, 0
                else:
                    improved = False
                if done % run.checkpoint_every == 0 or last or improved:
                    paused = time.perf_counter()
                    self._save(done)
                    self._hooks.reached(done)
                    lap += time.perf_counter() - paused
        if log is not None:
            log.close()
        chosen = settings.steps
        if run.publish == "best" and self._best is not None:
            chosen = self._best.step
        return Outcome(self._figures, chosen)

    def _step(self, batch: TrainingBatch, step: int) -> tuple[dict[str, float], float]:
        """One update of the weights; losses are means over the whole batch."""
        settings, peers = self._settings, self._peers
        self._optimiser.zero_grad(set_to_none=True)
        x_BTF, stamp_BT = (
            torch.from_numpy(array).to(peers.device) for array in (batch.x_BTF, batch.stamp_BT)
        )
        parts = settings.accumulate
        size = len(x_BTF) // parts
        mean: dict[str, Tensor] = {}
        for part in range(parts):
            rows = slice(part * size, (part + 1) * size)
            whole = part == parts - 1
            with contextlib.ExitStack() as stack:
                if not whole and isinstance(self._objective, nn.parallel.DistributedDataParallel):
                    stack.enter_context(self._objective.no_sync())
                with torch.autocast(
                    peers.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"
                ):
                    losses = self._objective(x_BTF[rows], stamp_BT[rows], batch.lookback)
                (losses["loss"] / parts).backward()
            for name, value in losses.items():
                mean[name] = mean.get(name, 0.0) + value.detach() / parts
        norm = float(torch.nn.utils.clip_grad_norm_(self._model.parameters(), settings.clip_norm))
        own = torch.stack([value.double() for value in mean.values()])
        shared = dict(zip(mean, peers.mean(own).tolist(), strict=True))
        if not (math.isfinite(norm) and all(map(math.isfinite, shared.values()))):
            self._refuse(batch, step, shared["loss"], norm, bool(torch.isfinite(own).all()))
        self._optimiser.step()
        self._schedule.step()
        if self._average is not None:
            self._average.update_parameters(self._model)
        return shared, norm

    def _refuse(
        self, batch: TrainingBatch, step: int, loss: float, norm: float, fine: bool
    ) -> None:
        """Every rank is here: the losses and the norm are the same on all of them."""
        told = self._peers.gather((fine, batch.names()))
        held = [names for well, names in told if not well] or [names for _, names in told]
        raise TrainingError(
            f"step {step + 1}: loss {loss}, gradient norm {norm}. Stopped before the update; the "
            f"last checkpoint is good. The batch held {'; '.join(held)}. Check those bars, or "
            "lower optimiser.max_lr."
        )

    def _validate(self, line: dict[str, float], done: int) -> bool:
        """Adds the figures to the line; whether they are the best so far and worth keeping."""
        figures = dict(self._hooks.validate(self._judged))
        line.update(figures)
        score = self._hooks.score(figures)
        if score is None or not math.isfinite(score):
            return False
        if self._best is not None and score >= self._best.score:
            return False
        self._best = Best(done, score)
        return self._run.publish == "best"

    def _save(self, step: int) -> None:
        peers = self._peers
        random = peers.gather(_random_state(peers.device))
        if not peers.first:
            peers.wait()
            return
        self._hooks.require()
        state = {
            "step": step,
            "model": self._model.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "random": random,
            "figures": self._figures,
        }
        best = self._best if self._run.publish == "best" else None
        self._checkpoints.save(
            About(step, peers.world, self._identity, best),
            state,
            lambda place: self._hooks.publish(self._judged, place, self._figures),
        )
        peers.wait()

    def _restore(self) -> int:
        """Goes back to the newest checkpoint; its step, 0 without one."""
        about = self._checkpoints.newest()
        if about is None:
            return 0
        require_same(about, self._identity, self._peers.world, self._folder)
        state = self._checkpoints.load(about.step, self._peers.device)
        self._model.load_state_dict(state["model"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        _set_random_state(state["random"][self._peers.rank], self._peers.device)
        self._figures, self._best = dict(state["figures"]), about.best
        return about.step


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
