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
class ReplicaJob:
    """What every replica of a run needs to know."""

    run_id: str
    model_id: str
    model: str
    tokenizer: str | None
    trained_through: date | None
    cutoff_unknown: bool
    spec: StoreSpec
    lookback: int
    horizon: int
    paths: int
    sampling: SamplingParams
    precision: Precision
    overflow: Overflow
    memory_mb: int | None
    seed: int
    repair: bool
    keep_paths: bool
    staging: Folder
    device: str
    """Of the replicas, as torch names it."""
    submission: Pass


class Task(NamedTuple):
    """One window to forecast."""

    series: SymbolSeries
    window: Window
