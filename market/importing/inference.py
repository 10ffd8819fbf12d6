"""What bars say about themselves: their frequency, and which instant their labels name.

Only what the labels show beyond doubt is inferred; the rest raises SourceError and asks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from market.calendars import sessions_and_closes
from market.errors import SourceError
from market.spec import ALWAYS_OPEN, DAILY, Label, StoreSpec

_SYMBOLS = 32
"""How many symbols speak for all when the frequency is looked for."""
_MINUTE = 60_000_000
_DAY = 1440 * _MINUTE


@dataclass(frozen=True)
class Step:
    """The usual distance between two bars of one symbol."""

    step: int
    """In microseconds."""

    @staticmethod
    def step_of(freq: str) -> int:
        return int(StoreSpec(None, freq, "UTC", Label.END).step.astype(np.int64))

    def __str__(self) -> str:
        if self.step % _DAY == 0:
            return f"{self.step // _DAY}d"
        if self.step % _MINUTE == 0:
            return f"{self.step // _MINUTE}min"
        return f"{self.step / 1e6:g}s"


def infer_freq(rows: pl.DataFrame) -> Step | None:
    """The commonest step between neighbouring labels of a symbol; None where there is no pair.

    Labels at one time of day are daily bars, whatever holidays lie between them; steps of a week
    and more raise SourceError, since such bars are not supported.
    """
    some = rows["symbol"].unique(maintain_order=True).head(_SYMBOLS)
    labels = (
        rows.lazy().select("symbol", "timestamp").filter(pl.col("symbol").is_in(some.implode()))
    )
    step = pl.col("timestamp").sort().diff().over("symbol").dt.total_microseconds()
    steps = labels.drop_nulls().select(step.alias("step")).filter(pl.col("step") > 0).collect()
    if not steps.height:
        return None
    common = int(steps.to_series().mode().min())  # type: ignore[arg-type]
    if common % _DAY == 0 and common <= 4 * _DAY:
        return Step(_DAY)
    if common >= 5 * _DAY:
        raise SourceError(
            f"{rows['source'][0]}: bars are {Step(common)} apart; bars longer than a day are not "
            "supported, import daily ones"
        )
    return Step(common)


def infer_label(rows: pl.DataFrame, venue: str | None, freq: str, tz: str) -> tuple[Label, str]:
    """Which instant the labels name, and how that shows. Raises SourceError where it does not."""
    labels = rows["timestamp"].drop_nulls().unique().sort()
    if freq == DAILY:
        if labels.dt.time().n_unique() == 1 or venue not in (None, ALWAYS_OPEN):
            return Label.SESSION, "one label per day"
    elif venue not in (None, ALWAYS_OPEN):
        found = _side_by_hours(labels, venue, freq, tz)
        if found is not None:
            return found
    raise SourceError(
        f"{rows['source'][0]}: the labels do not show whether they name a bar's start or end; say "
        "--label start (as most exchanges' interfaces give it) or --label end"
    )


def _side_by_hours(
    labels: pl.Series, venue: str | None, freq: str, tz: str
) -> tuple[Label, str] | None:
    """Start where sessions have a label at the open and none at the close; end the other way."""
    from market.calendars import session_hours

    spec = StoreSpec(venue, freq, tz, Label.START)
    values = labels.to_numpy()
    sessions, _ = sessions_and_closes(spec, values)
    opens, closes = session_hours(spec, np.unique(sessions))
    if not len(opens):
        return None
    at_open, at_close = np.isin(opens, values).mean(), np.isin(closes, values).mean()
    if at_open > 0.5 and at_close < 0.1:
        return Label.START, f"{at_open:.0%} of sessions have one at the open"
    if at_close > 0.5 and at_open < 0.1:
        return Label.END, f"{at_close:.0%} of sessions have one at the close"
    return None
