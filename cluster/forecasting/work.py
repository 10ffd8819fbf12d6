"""What a replica is told, and one window of its work. Plain records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from cluster.forecasting.isolation import Pass
from forecaster.interface import SamplingParams
from forecaster.kronos.engine import Precision
from forecaster.kronos.pipeline import Overflow
from market.spec import StoreSpec
from market.storage import Folder
from market.windows import SymbolSeries, Window


@dataclass(frozen=True)
class WindowJob:
    """What turns windows into rows of the forecast table, wherever that happens."""

    run_id: str
    model_id: str
    trained_through: date | None
    cutoff_unknown: bool
    spec: StoreSpec
    lookback: int
    horizon: int
    paths: int
    sampling: SamplingParams
    seed: int
    keep_paths: bool


@dataclass(frozen=True)
class ReplicaJob(WindowJob):
    """What every replica of a run needs to know."""

    model: str
    tokenizer: str | None
    precision: Precision
    overflow: Overflow
    memory_mb: int | None
    repair: bool
    staging: Folder
    device: str
    """Of the replicas, as torch names it."""
    submission: Pass


class Task(NamedTuple):
    """One window to forecast."""

    series: SymbolSeries
    window: Window
