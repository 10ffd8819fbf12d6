"""What a night found or did. A plain record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from cluster.forecasting.report import ForecastReport
from cluster.night.trust import Trust
from market.lake.quality import Quality

Status = Literal["done", "already done", "running elsewhere", "stopped"]


@dataclass(frozen=True)
class NightReport:
    """What one call of nightly found or did."""

    status: Status
    started_at: datetime
    seconds: float
    stop: str | None = None
    """Why nothing was forecast."""
    quality: Quality | None = None
    new_bars: int = 0
    new_quarantine: int = 0
    files: int = 0
    unread: tuple[str, ...] = ()
    """Files of the drop folder that are none that can be read."""
    store_version: str | None = None
    forecast: ForecastReport | None = None
    trust: Trust | None = None
    """How earlier nights did; None where none has an outcome yet."""
    page: str | None = None
    """Path or URL."""

    def summary(self) -> dict[str, Any]:
        """For monitoring: flat, JSON-ready; the same keys whatever happened."""
        seen, made = self.quality, self.forecast
        record = made.record if made else None
        counted = made.summary() if made else {}
        return {
            "status": self.status,
            "stop": self.stop,
            "as_of": None if seen is None else str(seen.as_of.session),
            "started_at": self.started_at.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "run_id": record.run_id if record else None,
            "model": record.model if record else None,
            "forecasts": counted.get("forecasts", 0),
            "failed": counted.get("failed", 0),
            "excluded": counted.get("excluded", 0),
            "published": self._fit("published"),
            "published_because": self._fit("status"),
            "earlier_nights": self.trust.nights if self.trust else 0,
            "coverage_80": round(self.trust.steps[0].coverage, 4) if self.trust else None,
            "drift_alarm": self.trust.alarm if self.trust else None,
            "symbols_present": seen.present if seen else None,
            "symbols_missing": len(seen.missing) if seen else None,
            "rows_quarantined": seen.quarantined if seen else None,
            "files_imported": self.files,
            "files_not_read": list(self.unread),
            "new_bars": self.new_bars,
            "new_quarantined_rows": self.new_quarantine,
            "store_version": self.store_version,
            "utilisation": round(made.activity.utilisation(made.replicas), 4)
            if made and made.activity
            else None,
            "stage_seconds": counted.get("seconds", {}),
        }

    def _fit(self, key: str) -> str | None:
        """Of what the past said, where the night was calibrated."""
        calibration = self.forecast and self.forecast.record.identity.get("calibration")
        fits = (calibration or {}).get("fits", {})
        return str(fits[max(fits)][key]) if fits else None
