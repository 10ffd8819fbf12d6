"""The job of a replica, and one window of its work. Plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

import numpy as np

from cluster.forecasting.isolation import Pass
from forecaster.calibration.gate import Fitted
from forecaster.interface import Overflow, Precision, SamplingParams
from market.spec import StoreSpec
from market.storage import Folder
from market.windows import SymbolSeries, Window


@dataclass(frozen=True, kw_only=True)
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
    recipe: str | None = None
    """Names forecasts that can calibrate each other; None where no closes are kept."""
    fitted: Mapping[np.datetime64, Fitted] = field(default_factory=dict)
    """What each moment's past says; empty where nothing is to be calibrated."""
    sampled: frozenset[tuple[str, np.datetime64]] = frozenset()
    """Symbols and moments whose raw closes are kept, …"""
    baselines: tuple[str, ...] = ()
    """… and baselines of which they are, beside those that calibration blends with."""


@dataclass(frozen=True, kw_only=True)
class ReplicaJob(WindowJob):
    """What every replica of a run needs to know."""

    model: str
    tokenizer: str | None
    precision: Precision
    overflow: Overflow
    memory_mb: int | None
    repair: bool
    anchor: bool
    staging: Folder
    device: str
    """Of the replicas, as torch names it."""
    submission: Pass


class Task(NamedTuple):
    """One window to forecast."""

    series: SymbolSeries
    window: Window
