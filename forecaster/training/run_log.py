"""Figures of a run as they come: JSON lines, TensorBoard events, a line to read. Knows files.

One line of `metrics.jsonl` holds `step`, losses, `lr`, `grad_norm` and, after a validation, figures
on validation windows. TIMING names what depends on the machine; the rest is reproducible.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forecaster.training.config import TrainingError
from market.storage import Folder

METRICS = "metrics.jsonl"
TIMING = ("bars_per_second", "step_ms", "wait_share", "eta_s")
"""Keys of a line that differ from run to run."""
_DETAILS = ("_used", "_perplexity", "_rmse", "_ce_s1", "_ce_s2", "_unigram")
"""Endings of figures that stay in the file."""


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Every whole line; none where there is not a file."""
    path = folder / METRICS
    text = path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


class MetricsLog:
    """Appends lines. Opening it drops those of steps after `step`, which will come again."""

    def __init__(self, folder: Path, step: int, *, tensorboard: bool = False) -> None:
        self._path = folder / METRICS
        kept = [line for line in read_metrics(folder) if line["step"] <= step]
        Folder(folder).write(METRICS, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._events = _event_writer(folder, step) if tensorboard else None

    def write(self, line: Mapping[str, float]) -> None:
        with self._path.open("a") as out:
            out.write(json.dumps(line) + "\n")
        if self._events is not None:
            for name, value in line.items():
                if name != "step":
                    self._events.add_scalar(name, value, int(line["step"]))
            self._events.flush()

    def close(self) -> None:
        if self._events is not None:
            self._events.close()


def progress(line: Mapping[str, float], steps: int) -> str:
    """A line of metrics for people."""
    told = "  ".join(
        f"{name} {value:.4f}"
        for name, value in line.items()
        if name not in ("step", "lr", *TIMING) and not name.endswith(_DETAILS)
    )
    left = int(line["eta_s"])
    eta = f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}" if left >= 3600 else (
        f"{left // 60}:{left % 60:02d}"
    )  # fmt: skip
    return (
        f"step {int(line['step'])}/{steps}  {told}  lr {line['lr']:.2e}  "
        f"{line['bars_per_second']:.0f} bars/s  wait {line['wait_share']:.1%}  ETA {eta}"
    )


def require_tensorboard() -> None:
    """Raises TrainingError where TensorBoard is not installed."""
    from importlib.util import find_spec

    if find_spec("tensorboard") is None:
        raise TrainingError(
            "run.tensorboard: TensorBoard is not installed; pip install 'candlecast[tensorboard]', "
            "or set it to false (metrics.jsonl and the page at the end hold the same figures)"
        )


def _event_writer(folder: Path, step: int) -> Any:
    require_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
