"""What `candlecast audit` is told. Knows settings alone."""

from __future__ import annotations

from pydantic import Field

from market.settings import Place, Settings


class AuditSettings(Settings):
    """Which pipeline to audit on which bars."""

    store: Place
    """Folder or URL of the history lake."""
    as_of: str
    """Date (or moment) after which everything is poisoned; bars must follow it."""
    model: str = "nano"
    """Model or baseline whose forecasts are audited."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer, where the alias does not say it."""
    symbols: int = Field(6, ge=3)
    """Symbols drawn."""
    lookback: int = Field(64, ge=30)
    """Bars the model sees."""
    horizon: int = Field(5, ge=1)
    """Bars it forecasts."""
    paths: int = Field(8, ge=2)
    """Sampled futures per symbol and date."""
