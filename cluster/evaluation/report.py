"""What an evaluation found. A plain record."""

from __future__ import annotations

from dataclasses import dataclass

from forecaster.evaluation import Evaluation


@dataclass(frozen=True)
class EvaluationReport:
    """Figures, and what was left out."""

    evaluation: Evaluation
    names: dict[str, str]
    """Of each model in the table: its id."""
    first: str
    last: str
    horizon: int
    lookback: int
    in_sample: int
    """Windows on dates some model was trained on: left out, or judged where asked for."""
    judged_in_sample: bool
    missing: int
    """Windows without any outcome: too new, delisted or suspended."""
    other_close: int
    """Windows whose close in the store is another than the one forecast from; left out."""
    notes: tuple[str, ...]
