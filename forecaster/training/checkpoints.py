"""Checkpoints of a run: folders that are there whole or not at all. Knows files and torch state.

checkpoints/step-00000250/
    config.json, model.safetensors, training.json    the model, ready for --model
    state.pt                                         what training needs to go on
    about.json                                       step, workers, identity, best so far
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from forecaster.training.config import TrainingError

_ABOUT, _STATE = "about.json", "state.pt"
_PARTIAL = ".partial-"


@dataclass(frozen=True)
class Best:
    """The best validation so far."""

    step: int
    score: float
    """Lower is better."""


@dataclass(frozen=True)
class About:
    """What a checkpoint says of itself."""

    step: int
    world: int
    identity: dict[str, Any]
    """What the run is made of; a checkpoint of another identity is refused."""
    best: Best | None = None


class Checkpoints:
    """The checkpoints under one folder."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self._keep = keep

    def place(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def newest(self) -> About | None:
        """The latest whole checkpoint. Raises TrainingError where it is damaged."""
        steps = self._steps()
        return self.about(steps[-1]) if steps else None

    def about(self, step: int) -> About:
        path = self.place(step) / _ABOUT
        try:
            stored = json.loads(path.read_text())
            best = stored["best"]
            return About(
                stored["step"], stored["world"], stored["identity"], Best(**best) if best else None
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(path, error) from error

    def load(self, step: int, device: torch.device) -> dict[str, Any]:
        """The training state of a checkpoint. Raises TrainingError where it is damaged."""
        path = self.place(step) / _STATE
        try:
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        except Exception as error:
            raise _damaged(path, error) from error
        return state

    def save(self, about: About, state: Mapping[str, Any], publish: Callable[[Path], None]) -> None:
        """Writes a checkpoint beside the others and then names it, in one move.

        publish: writes the model's own files into the folder given.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        unfinished = self.folder / f"{_PARTIAL}{uuid.uuid4().hex}"
        unfinished.mkdir()
        publish(unfinished)
        with (unfinished / _STATE).open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        (unfinished / _ABOUT).write_text(json.dumps(asdict(about), indent=1) + "\n")
        final = self.place(about.step)
        if final.exists():  # of a run that was killed after this and resumed before
            os.replace(final, self.folder / f"{_PARTIAL}{uuid.uuid4().hex}")
        os.replace(unfinished, final)
        kept = {about.step, *self._steps()[-self._keep :]}
        if about.best is not None:
            kept.add(about.best.step)
        for step in self._steps():
            if step not in kept:
                shutil.rmtree(self.place(step), ignore_errors=True)
        self._sweep()

    def _steps(self) -> list[int]:
        found = [path.name.removeprefix("step-") for path in self.folder.glob("step-*")]
        return sorted(int(name) for name in found if name.isdigit())

    def _sweep(self) -> None:
        for path in self.folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(path, ignore_errors=True)


def require_same(about: About, identity: Mapping[str, Any], world: int, place: Path) -> None:
    """Raises TrainingError where a checkpoint is of another run than the one asked for."""
    now = json.loads(json.dumps(identity))
    before = about.identity
    differing = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
    if differing:
        raise TrainingError(
            f"{place}: was made with other {', '.join(differing)}. Go on with the same settings "
            "and data, or choose another --out."
        )
    if about.world != world:
        raise TrainingError(
            f"{place}: was made by {about.world} worker(s), now there are {world}. Resuming needs "
            f"as many: add --workers {about.world}, or choose another --out."
        )


def _damaged(path: Path, error: Exception) -> TrainingError:
    return TrainingError(
        f"{path}: damaged ({type(error).__name__}). Remove the folder {path.parent.name} to go on "
        "from the checkpoint before it, or start again in another --out."
    )
