"""Is tonight's data good enough to forecast from? Knows the history; decides by stated limits.

Everything is counted from the store as it is, so that a second look gives the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
from pydantic import Field

from market.bars import RULE_GRID, RULE_TIME
from market.lake.history import MarketHistory
from market.settings import Settings
from market.spec import AsOf

CLOCK_TOLERANCE = timedelta(minutes=5)


class GateSettings(Settings):
    """Limits beyond which a night is not forecast."""

    max_missing: float = Field(0.1, ge=0, le=1)
    """Share of the previous session's symbols that may be without a bar at as_of."""
    max_quarantined: float = Field(0.02, ge=0, le=1)
    """Share of the session's rows that may be in quarantine,"""
    quarantine_floor: int = Field(1, ge=0)
    """and so many may in any case, however few rows there are (not where that share is 0)."""
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
    """Rows of the session that broke a rule, by their label's date; live quotes and unfinished bars
    of symbols that have their bar do not count."""
    now: datetime
    future: int = 0
    """Rows of the newest import that are quarantined because they lie in the clock's future."""

    @property
    def missing_share(self) -> float:
        return len(self.missing) / self.expected if self.expected else 0.0

    @property
    def quarantined_share(self) -> float:
        total = self.rows + self.quarantined
        return self.quarantined / total if total else 0.0

    def allowed(self, gate: GateSettings) -> int:
        """Whole rows of the session that may be in quarantine."""
        if not gate.max_quarantined:
            return 0
        share = int(gate.max_quarantined * (self.rows + self.quarantined))
        return max(gate.quarantine_floor, share)

    def objections(self, gate: GateSettings) -> list[str]:
        """Why this night must not be forecast; none where it may."""
        found = []
        day = self.as_of.session
        if self.as_of.close_utc > self.now + CLOCK_TOLERANCE:
            found.append(
                f"the session {day} closes at {self.as_of.close_utc:%Y-%m-%d %H:%M} UTC, but this "
                f"machine's clock says {self.now:%Y-%m-%d %H:%M} UTC: correct the clock, or the "
                "time zone and label side of the import"
            )
        if self.future > max(1, self.present // 10):
            found.append(
                f"{self.future} rows of the newest import lie in the future, and in quarantine: "
                f"this machine's clock says {self.now:%Y-%m-%d %H:%M} UTC; correct the clock, or "
                "the dates or the time zone of the import"
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
        if self.quarantined > self.allowed(gate):
            found.append(
                f"{self.quarantined} of {self.rows + self.quarantined} rows of {day} are in "
                f"quarantine ({self.quarantined_share:.1%}, allowed {self.allowed(gate)} rows: "
                f"max_quarantined {gate.max_quarantined:.1%}, quarantine_floor "
                f"{gate.quarantine_floor}); 'candlecast data quarantine' shows them"
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
    harmless = (pl.col("rule") == RULE_GRID) & pl.col("symbol").is_in(today["symbol"].implode())
    bad = bad.filter(~harmless)
    moment = now or datetime.now(UTC)
    ahead = moment.replace(tzinfo=None) + timedelta(days=1)
    late = history.quarantine().filter(
        (pl.col("rule") == RULE_TIME)
        & (pl.col("timestamp") > ahead)
        & pl.col("source").is_in(history.contents.sources)
    )
    return Quality(
        future=late.height,
        as_of=as_of,
        present=today.height,
        expected=before.height,
        missing=tuple(missing),
        rows=int(today["len"].sum()),
        quarantined=bad.height,
        now=moment,
    )
