"""What `candlecast evaluate` is told. Knows settings alone."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from pydantic import Field

from cluster.settings import USUAL_BASELINES
from market.settings import Place, Settings


class EvaluateSettings(Settings):
    """Which forecasts to judge, by which bars, beside which baselines."""

    store: Place
    """Folder or URL of the history lake."""
    store_version: str | None = None
    """Version of the history to read; the newest without."""
    forecasts: Place
    """Folder or URL of the forecast table."""
    models: tuple[str, ...] = ()
    """Names or ids of models in the table; all without."""
    baselines: tuple[str, ...] = USUAL_BASELINES
    """Computed on the same windows; where none are named, also seasonal on intraday bars."""
    start: date | None = None
    """First forecast date."""
    end: date | None = None
    """Last forecast date."""
    groups: Path | None = None
    """CSV of symbol,group: figures per group too."""
    in_sample: bool = False
    """Judge dates the model was trained on as well; they are not evidence."""
    max_gap_sessions: int = Field(5, ge=0)
    """Sessions in a row that may be missing from an outcome."""
    report: Path | None = None
    """Folder for evaluation.html, evaluation.json and Parquet tables; none are written without."""
