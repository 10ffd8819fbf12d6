"""The settings of a night, in one file. Knows the settings of the jobs it runs, not the jobs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from cluster.settings import ForecastSettings, ModelForecast
from market.importing.options import ImportOptions
from market.lake.quality import GateSettings
from market.settings import Place, Settings
from market.spec import AsOf, Label


class ImportSettings(Settings):
    """How files of the drop folder are to be read; what is missing is inferred."""

    venue: str | None = None
    """Exchange calendar (XNYS, XSHG, …) or 24/7."""
    freq: str | None = None
    """Bar length: 1d, 1h, 5min, …"""
    tz: str | None = None
    """Time zone of the labels. Without: the venue's."""
    label: Label | None = None
    """Which instant of a bar its label names."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Field to column name, e.g. close: Px."""
    price_basis: Literal["raw", "adjusted"] | None = None
    """Whether prices are adjusted for splits and dividends; noted in forecasts."""
    on_conflict: Literal["error", "keep", "replace"] = "error"
    """What happens when a bar differs from the stored one."""
    day_first: bool | None = None
    """Whether 03/04/2024 is in April or in March. Without: as most dates show."""
    decimal: Literal[".", ","] | None = None
    """Decimal sign. Without: as the file shows."""
    thousands: str | None = None
    """Sign between thousands. Without: as the file shows."""
    max_closed: float = Field(0.35, ge=0, le=1)
    """Share of a file's bars that may lie on days the venue is closed."""

    def options(self) -> ImportOptions:
        """As the importers take them."""
        return ImportOptions(**self.model_dump(exclude={"on_conflict"}))


class NightlySettings(Settings):
    """A whole night in one file."""

    drop: Place
    """Folder or URL where new files of bars arrive."""
    store: Place
    """Folder or URL of the history lake; made when missing."""
    out: Place
    """Folder or URL of the forecast table; made when missing."""
    reports: Place
    """Folder or URL for the HTML report and the JSON summary of each night."""
    as_of: str | None = None
    """Date to forecast from. Without: the newest session."""
    metrics_file: Path | None = None
    """Write the night's figures into this file, as Prometheus' node exporter collects them."""
    events_file: Path | None = None
    """Append the night's events to this file, one JSON object a line."""
    bars: ImportSettings = ImportSettings()
    """How the files are read."""
    gate: GateSettings = GateSettings()
    """When to stop before forecasting."""
    forecast: ModelForecast = ModelForecast()
    """Settings of `candlecast forecast` that the night does not set itself."""

    @field_validator("forecast", mode="before")
    @classmethod
    def _not_the_nights_own(cls, value: Any) -> Any:
        own = ForecastSettings.model_fields.keys() - ModelForecast.model_fields.keys()
        clash = sorted(own & set(value)) if isinstance(value, Mapping) else []
        if clash:
            raise ValueError(f"forecast.{clash[0]} is set by the night itself; leave it out")
        return value

    def forecast_settings(self, as_of: AsOf, version: str) -> ForecastSettings:
        """The night's forecast from one session, of one version of the history."""
        return ForecastSettings(
            **dict(self.forecast),
            store=self.store,
            out=self.out,
            as_of=str(as_of.session),
            store_version=version,
        )
