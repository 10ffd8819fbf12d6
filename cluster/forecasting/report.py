"""What a forecast run found or did. A plain record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.forecasting.activity import Activity
from market.table.schema import RunRecord


@dataclass(frozen=True)
class ForecastReport:
    """What a call to run_forecast found or did."""

    record: RunRecord
    already_done: bool
    """An earlier run had committed everything; nothing was computed."""
    resumed: int
    """Forecasts taken over from an interrupted attempt."""
    seconds: dict[str, float]
    """Wall time of each stage of this call."""
    activity: Activity | None = None
    """When each replica was at work; None where nothing was computed."""
    replicas: int = 0
    """Most replicas that were to run."""

    @property
    def computed(self) -> int:
        return 0 if self.already_done else self.record.n_forecasts - self.resumed

    @property
    def paths_per_second(self) -> float:
        spent = self.seconds.get("forecast", 0.0)
        paths = self.computed * int(self.record.settings["paths"])
        return paths / spent if spent else 0.0

    def summary(self) -> dict[str, Any]:
        """The run in a flat record, JSON-ready."""
        record = self.record
        return {
            "status": "already done" if self.already_done else "done",
            "run_id": record.run_id,
            "model": record.model,
            "model_id": record.model_id,
            "dates": len(record.dates),
            "first_date": str(record.dates[0].as_of_date),
            "last_date": str(record.dates[-1].as_of_date),
            "in_sample_dates": sum(each.in_sample for each in record.dates),
            "forecasts": record.n_forecasts,
            "resumed": self.resumed,
            "excluded": sum(len(note.symbols) for note in record.skipped),
            "failed": sum(len(note.symbols) for note in record.failed),
            "trimmed": record.trimmed,
            "repaired_bars": record.repaired_bars,
            "paths_per_second": round(self.paths_per_second, 1),
            "seconds": {stage: round(spent, 3) for stage, spent in self.seconds.items()},
        }

    def __repr__(self) -> str:
        lines = (f"{key}: {value}" for key, value in self.summary().items())
        return "ForecastReport\n  " + "\n  ".join(lines)
