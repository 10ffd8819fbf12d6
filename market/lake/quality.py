"""Is tonight's data good enough to forecast from? Knows the history; decides by stated limits.

Everything is counted from the store as it is, so that a second look gives the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
from pydantic import Field

from market.lake.history import MarketHistory
from market.settings import Settings
from market.spec import AsOf

CLOCK_TOLERANCE = timedelta(minutes=5)


class GateSettings(Settings):
    """Limits beyond which a night is not forecast."""

    max_missing: float = Field(0.1, ge=0, le=1)
    """Share of the previous session's symbols that may be without a bar at as_of."""
    max_quarantined: float = Field(0.02, ge=0, le=1)
    """Share of the session's rows that may be in quarantine."""
    min_symbols: int = Field(1, ge=1)
    """Symbols that must have a bar at as_of."""
    max_age_days: float | None = Field(None, gt=0)
    """Days the as_of close may lie behind the clock; None does not look."""


@dataclass(frozen=True)
class Quality:
    """What the store holds of one session."""

    as_of: AsOf
    present: int
    """Symbols with a bar in the session."""
    expected: int
    """Symbols with a bar in the session before it."""
    missing: tuple[str, ...]
    """Of those, the ones without a bar now, sorted."""
    rows: int
    quarantined: int
    """Rows of the session that broke a rule, by their label's date."""
    now: datetime

    @property
    def missing_share(self) -> float:
        return len(self.missing) / self.expected if self.expected else 0.0

    @property
    def quarantined_share(self) -> float:
        total = self.rows + self.quarantined
        return self.quarantined / total if total else 0.0

    def objections(self, gate: GateSettings) -> list[str]:
        """Why this night must not be forecast; none where it may."""
        found = []
        day = self.as_of.session
        if self.as_of.close_utc > self.now + CLOCK_TOLERANCE:
            found.append(
                f"the session {day} closes at {self.as_of.close_utc:%Y-%m-%d %H:%M} UTC, but this "
                f"machine's clock says {self.now:%Y-%m-%d %H:%M} UTC: mend the clock, or the time "
                "zone and label side of the import"
            )
        age = self.now - self.as_of.close_utc
        if gate.max_age_days is not None and age > timedelta(days=gate.max_age_days):
            found.append(
                f"the newest session is {day}, {age.days} days behind the clock "
                f"(max_age_days={gate.max_age_days:g}): did the new bars arrive?"
            )
        if self.present < gate.min_symbols:
            found.append(
                f"{self.present} symbols have a bar on {day}, {gate.min_symbols} must (min_symbols)"
            )
        if self.missing_share > gate.max_missing:
            found.append(
                f"{len(self.missing)} of {self.expected} symbols of the session before have no bar "
                f"on {day} ({self.missing_share:.1%}, allowed {gate.max_missing:.1%}; "
                f"max_missing), for example {', '.join(self.missing[:3])}"
            )
        if self.quarantined_share > gate.max_quarantined:
            found.append(
                f"{self.quarantined} of {self.rows + self.quarantined} rows of {day} are in "
                f"quarantine ({self.quarantined_share:.1%}, allowed {gate.max_quarantined:.1%}; "
                "max_quarantined); 'candlecast data quarantine' shows them"
            )
        return found


def quality(history: MarketHistory, as_of: AsOf, now: datetime | None = None) -> Quality:
    """Count what one session of the store holds, compared with the session before."""
    earlier = [each for each in history.sessions(end=as_of.session) if each < as_of.session]
    bars = history.scan(start=earlier[-1] if earlier else as_of.session, as_of=as_of.close_utc)
    counts = bars.group_by("session", "symbol").len().collect()
    today = counts.filter(pl.col("session") == as_of.session)
    before = counts.filter(pl.col("session") < as_of.session)
    missing = sorted(set(before["symbol"]) - set(today["symbol"]))
    bad = history.quarantine().filter(pl.col("timestamp").dt.date() == as_of.session)
    return Quality(
        as_of=as_of,
        present=today.height,
        expected=before.height,
        missing=tuple(missing),
        rows=int(today["len"].sum()),
        quarantined=bad.height,
        now=now or datetime.now(UTC),
    )
