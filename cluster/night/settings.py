"""What a night is told: one file. Knows the settings of the jobs it runs, not the jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cluster.settings import ForecastSettings, Place, load_settings
from market.errors import ConfigError
from market.lake.history import AsOf
from market.lake.quality import GateSettings
from market.spec import Label

_OWN_KEYS = frozenset({"store", "out", "as_of", "store_version"})


class ImportSettings(BaseModel):
    """How files of the drop folder are to be read; what is missing is inferred."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    venue: str | None = None
    freq: str | None = None
    tz: str | None = None
    label: Label | None = None
    columns: dict[str, str] = {}
    """Field to column name, e.g. close: Px."""
    price_basis: str | None = None
    on_conflict: Literal["error", "keep", "replace"] = "error"
    """What happens when a bar differs from the stored one."""


class NightlySettings(BaseModel):
    """A whole night in one file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    drop: Path
    """Folder where new files of bars arrive."""
    store: Path
    """Folder of the history lake; made when missing."""
    out: Place
    """Folder or URL of the forecast table; made when missing."""
    reports: Path
    """Folder for the HTML report and the JSON summary of each night."""
    as_of: str | None = None
    """Date to forecast from; the newest session without."""
    bars: ImportSettings = ImportSettings()
    """How the files are read."""
    gate: GateSettings = GateSettings()
    """When to stop before forecasting."""
    forecast: dict[str, Any] = Field(default_factory=dict)
    """Settings of `candlecast forecast`, except store, out and as_of."""

    def forecast_settings(self, as_of: AsOf, version: str) -> ForecastSettings:
        """Raises ConfigError for keys that a night sets itself or that nobody knows."""
        clash = sorted(_OWN_KEYS & set(self.forecast))
        if clash:
            raise ConfigError(f"forecast: {clash[0]}: set by the night itself; leave it out")
        own = {
            "store": self.store,
            "out": self.out,
            "as_of": str(as_of.session),
            "store_version": version,
        }
        return load_settings(None, ForecastSettings, {**self.forecast, **own})
