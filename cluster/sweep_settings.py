"""What a sweep is told. Knows the settings of a backtest; no engine and no Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from backtest.settings import BacktestRequest


class SweepRequest(BacktestRequest):
    """The settings of `candlecast sweep`: a backtest, and what to vary."""

    grid: dict[str, list[Any]]
    """Values to try, by settings key."""
    samples: int = Field(0, ge=0)
    """Random combinations to try; 0: all."""
    seed: int = Field(0, ge=0)
    """Of the random combinations."""
    blocks: int = Field(16, ge=4, le=20)
    """Blocks of bars of the cross-validation."""
    heat: tuple[str, str] | None = None
    """Axes of the heat map. Without: the first two keys with several values."""
    in_process: int = Field(20_000, ge=1)
    """More combinations than this go to Ray."""
    address: str | None = None
    """Ray cluster to use, however few the combinations are."""
    pieces: Path | None = None
    """Folder of finished pieces, from which the same command goes on after an interruption.
    Without: beside the table."""
    table: Path = Path("sweep.parquet")
    """Where every combination and its figures go."""
    page: Path = Path("sweep.html")
    """Where the heat map goes."""
