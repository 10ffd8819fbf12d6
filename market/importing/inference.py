"""What bars say about themselves: their frequency, time zone, and which instant their labels name.

Only what the labels show beyond doubt is inferred; the rest raises SourceError and asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import time

import numpy as np
import polars as pl

from market.calendars import session_hours, sessions_and_closes
from market.errors import SourceError, StoreError
from market.exchange_sessions import canonical_venue, venue_tz
from market.importing.options import ImportOptions
from market.importing.steps import Step, common_freq
from market.spec import ALWAYS_OPEN, DAILY, Label, StoreSpec, parse_freq


def with_defaults(
    options: ImportOptions, existing: StoreSpec | None
) -> tuple[ImportOptions, list[str]]:
    """Fill what the store or the venue already says; complain where it contradicts the options."""
    venue = canonical_venue(options.venue) if options.venue else None
    freq = parse_freq(options.freq) if options.freq else None
    if existing is not None:
        for name, given, stored in (
            ("--venue", venue, existing.venue),
            ("--freq", freq, existing.freq),
            ("--tz", options.tz, existing.tz),
            ("--label", options.label, existing.label),
            ("--price-basis", options.price_basis, existing.price_basis),
        ):
            if given is not None and given != stored:
                raise StoreError(
                    f"{name} {given}: the store holds {existing}; one store holds one kind of "
                    "bars, choose another --store"
                )
        return replace(
            options,
            venue=existing.venue,
            freq=existing.freq,
            tz=existing.tz,
            label=existing.label,
            price_basis=existing.price_basis,
        ), []
    notes = []
    if venue is not None and options.venue is not None and venue != options.venue.upper():
        notes.append(f"venue {options.venue} keeps the calendar {venue}")
    if options.tz is None and venue is not None:
        tz = venue_tz(venue)
        notes.append(f"time zone {tz} (that of {venue})")
        return replace(options, venue=venue, freq=freq, tz=tz), notes
    return replace(options, venue=venue, freq=freq), notes


def infer_spec(
    labels: pl.DataFrame, steps: Sequence[Step], options: ImportOptions, source: str
) -> tuple[StoreSpec, list[str]]:
    """The spec of a new store's bars, and what about it was inferred.

    labels: timestamp and instant of all sources, each distinct pair once. source: the first one's
    name. Raises SourceError where the labels do not show it.
    """
    notes = []
    freq = options.freq
    if freq is None:
        freq = common_freq(steps)
        if freq is None:
            raise SourceError(
                f"{source}: too few bars to see their frequency; say it, for example --freq 1d"
            )
        notes.append(f"frequency {freq} (the usual step between labels)")
    tz = options.tz
    if tz is None:
        tz = _default_tz(labels, freq, source)
        notes.append(
            "no --venue: days end at midnight UTC, and future sessions follow the weekdays seen; "
            "--venue XNYS (say) brings the exchange's calendar"
        )
    elif options.venue is None:
        notes.append("no --venue: future sessions follow the weekdays and times of day seen")
    label = options.label
    if label is None:
        label, why = _infer_label(labels["timestamp"], options.venue, freq, tz, source)
        notes.append(f"labels name the bar's {label} ({why})")
    basis = options.price_basis or "as given"
    return StoreSpec(options.venue, freq, tz, label, basis), notes


def _default_tz(labels: pl.DataFrame, freq: str, source: str) -> str:
    """UTC for daily labels that name days. Raises SourceError where a zone must be said."""
    if freq != DAILY:
        raise SourceError(
            f"{source}: intraday bars need their time zone; say --venue (such as XNYS), --venue "
            "24/7 for crypto in UTC, or --tz (such as Asia/Kolkata)"
        )
    instants = labels.filter(pl.col("instant").is_not_null())["timestamp"]
    odd = instants.filter(instants.dt.time() != time(0))
    if len(odd) * 2 > labels.height:
        raise SourceError(
            f"{source}: the daily labels are instants such as {odd[0]} UTC; say whose days they "
            "name with --venue or --tz (such as Asia/Kolkata), or --tz UTC if they are UTC's"
        )
    return "UTC"


def _infer_label(
    labels: pl.Series, venue: str | None, freq: str, tz: str, source: str
) -> tuple[Label, str]:
    """Which instant the labels name, and how that shows. Raises SourceError where it does not."""
    distinct = labels.drop_nulls().unique().sort()
    if freq == DAILY:
        days = distinct.dt.date().n_unique()
        if venue not in (None, ALWAYS_OPEN) or len(distinct) <= days * 1.1:
            return Label.SESSION, "one label per day"
    elif venue not in (None, ALWAYS_OPEN):
        found = _side_by_hours(distinct, venue, freq, tz)
        if found is not None:
            return found
    raise SourceError(
        f"{source}: the labels do not show whether they name a bar's start or end; say "
        "--label start (as most exchanges' interfaces give it) or --label end"
    )


def _side_by_hours(
    labels: pl.Series, venue: str | None, freq: str, tz: str
) -> tuple[Label, str] | None:
    """Start where sessions have a label at the open and none at the close; end the other way."""
    spec = StoreSpec(venue, freq, tz, Label.START)
    years = labels.dt.year()
    values = labels.filter(years.is_between(1900, 2100)).to_numpy()
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
