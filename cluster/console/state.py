"""What the routes share: the table, the history, what was read of them, and the models.

Knows the parts of the console; nothing of HTTP.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version

from cluster.console.lake import Lake
from cluster.console.nights import Cache, Night, Nights
from cluster.console.ondemand import Forecasts, LocalModels, OnDemand
from cluster.console.reports import Reports
from cluster.console.settings import ServeSettings
from cluster.console.universe import Universe
from forecaster.baselines import known_baselines
from market.errors import StoreError
from market.lake.history import MarketHistory
from market.table.forecasts import ForecastTable
from market.table.schema import Published

WITHOUT = "none"
"""Model name of a console that has baselines alone."""


@dataclass(frozen=True)
class Console:
    """One table, one history, one folder of reports."""

    settings: ServeSettings
    table: ForecastTable
    nights: Nights
    universe: Universe
    reports: Reports
    lake: Lake
    slow: Cache
    """Results that take seconds, by what they depend on."""
    models: tuple[str, ...]
    """Names forecasts on demand may use, the default first."""
    ondemand: Forecasts
    build: str
    """Part of every ETag: pages change with the program, and tags end with the process."""

    @classmethod
    def open(cls, settings: ServeSettings, ondemand: Forecasts | None = None) -> Console:
        """ondemand: where forecasts come from; None loads the models here, when asked."""
        table = ForecastTable(settings.forecasts)
        names = served(settings)
        return cls(
            settings=settings,
            table=table,
            nights=Nights(table, settings.store),
            universe=Universe(),
            reports=Reports(settings.reports),
            lake=Lake(),
            slow=Cache(32),
            models=names,
            ondemand=ondemand
            or OnDemand(LocalModels(names, settings.tokenizer), settings.max_waiting),
            build=f"{version('candlecast')}-{secrets.token_hex(4)}",
        )

    def history(self) -> MarketHistory | None:
        """The newest version of the history; None where there is no store."""
        try:
            return self.nights.history()
        except StoreError:
            return None

    def choose(self, text: str | None) -> Published:
        """The newest night of a model by its slot, id or name; the newest of all without one.

        Raises StoreError where nothing of it was published.
        """
        found = self.nights.published()
        if not text:
            if found:
                return found[0]
            raise StoreError("no night was published yet; 'candlecast forecast' makes one")
        for each in found:
            if text in (slot(each), each.model_id, each.model):
                return each
        raise StoreError(f"no night of a model {text[:60]!r} was published")

    def newest(self, text: str | None) -> tuple[Published, Night]:
        """The newest night of a model, and all of its rows."""
        pointer = self.choose(text)
        return pointer, self.nights.of(pointer)

    def close(self) -> None:
        """Stop what works in the background."""
        self.ondemand.close()


def served(settings: ServeSettings) -> tuple[str, ...]:
    """Names forecasts on demand may use, the default first."""
    own = () if settings.model == WITHOUT else (settings.model,)
    return tuple(dict.fromkeys((*own, *known_baselines())))


def slot(night: Published) -> str:
    """A short name of a model, venue and frequency, for addresses."""
    text = "\n".join((night.model_id, night.venue or "", night.freq))
    return blake2b(text.encode(), digest_size=6).hexdigest()
