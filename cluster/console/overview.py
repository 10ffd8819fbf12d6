"""What a reader should know before trusting tonight: alarms, cards of models, earlier nights.

Knows records and what was kept beside them; nothing of HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import polars as pl

from cluster.console.state import Console, slot
from cluster.console.trust import by_night
from forecaster.baselines import known_baselines
from forecaster.registry import KNOWN
from market.lake.history import MarketHistory
from market.table.schema import Published, RunRecord

_LATE_SESSIONS = 2
_NOMINAL, _OFF, _ENOUGH = 0.8, 0.1, 10
"""Coverage of an 80% interval that is worth an alarm, over at least so many nights."""
_MOST_ROWS = 3_000_000
"""Rows of steps that a look at earlier nights may read."""


class Alarm(NamedTuple):
    """Something to look at first."""

    title: str
    words: str


@dataclass(frozen=True)
class Card:
    """One model of the table."""

    name: str
    model_id: str
    about: str
    slot: str | None
    """Of its newest night; None where it published none."""
    trained_through: str | None
    cutoff_unknown: bool
    baseline: bool
    runs: int
    dates: int
    first: date
    last: date
    forecasts: int
    in_sample: int
    """Dates the model had seen in training."""
    numerics: dict[str, Any]
    asked: dict[str, Any]
    """Lookback, horizon, paths and calibration of its newest run."""


def alarms(
    console: Console,
    nights: list[Published],
    history: MarketHistory | None,
    last: dict[str, Any] | None,
) -> list[Alarm]:
    """What is wrong or odd about what is published."""
    found = []
    if last is not None and last.get("status") == "stopped":
        found.append(Alarm("STOPPED", f"Night of {last.get('as_of')}: {last.get('stop')}"))
    if last is not None and last.get("drift_alarm"):
        found.append(Alarm("DRIFT", f"Night of {last.get('as_of')}: {last['drift_alarm']}"))
    sessions = [] if history is None else history.sessions()
    for night in nights:
        record = console.table.run(night.run_id)
        if record is None:
            continue
        name = f"{night.model}, {night.as_of_date}"
        if any(each.in_sample for each in record.dates if each.as_of == night.as_of):
            found.append(Alarm("IN-SAMPLE", f"{name}: the model had seen this date in training; "
                                            "the night proves nothing."))  # fmt: skip
        elif record.cutoff_unknown:
            found.append(Alarm("CUT-OFF", f"{name}: the model does not state up to which date it "
                                          "was trained."))  # fmt: skip
        failed = sum(len(note.symbols) for note in record.failed if note.as_of == night.as_of)
        if failed:
            found.append(Alarm("FAILED", f"{name}: {failed:,} symbols failed; see run "
                                         f"{night.run_id}."))  # fmt: skip
        behind = sum(day > night.as_of_date for day in sessions)
        if behind >= _LATE_SESSIONS and night is nights[0]:
            found.append(Alarm("BEHIND", f"{name}: the store holds {behind} newer sessions that "
                                         "were not forecast."))  # fmt: skip
    return found


def model_cards(console: Console) -> list[Card]:
    """Every model that finished a run, the newest first; baselines last."""
    newest = {each.model_id: slot(each) for each in console.nights.published()[::-1]}
    by_model: dict[str, list[RunRecord]] = {}
    for record in console.table.runs():
        by_model.setdefault(record.model_id, []).append(record)
    baselines = known_baselines()
    cards = [_card(records, newest, baselines) for records in by_model.values()]
    return sorted(cards, key=lambda each: (each.baseline, -each.last.toordinal(), each.name))


def _card(records: list[RunRecord], newest: dict[str, str], baselines: dict[str, str]) -> Card:
    record = records[-1]
    days = {each.as_of_date: each for run in records for each in run.dates}
    name = record.model
    about = KNOWN[name].about if name in KNOWN else baselines.get(name, "")
    return Card(
        name=name,
        model_id=record.model_id,
        about=about,
        slot=newest.get(record.model_id),
        trained_through=record.identity.get("trained_through"),
        cutoff_unknown=record.cutoff_unknown,
        baseline=name in baselines and name not in KNOWN,
        runs=len(records),
        dates=len(days),
        first=min(days),
        last=max(days),
        forecasts=sum(run.n_forecasts for run in records),
        in_sample=sum(each.in_sample for each in days.values()),
        numerics=dict(record.identity.get("numerics", {})),
        asked={key: record.settings.get(key) for key in
               ("lookback", "horizon", "paths", "calibration", "precision")},
    )  # fmt: skip


def coverage_off(rows: pl.DataFrame) -> str | None:
    """An alarm where the 80% intervals of earlier nights held far more or less than they say.

    rows: trust.RATIO_SCHEMA.
    """
    held = rows.group_by("step").agg(pl.len().alias("nights"), pl.col("coverage").mean())
    for step, nights, share in held.sort("step").iter_rows():
        if nights >= _ENOUGH and abs(share - _NOMINAL) > _OFF:
            side = "too narrow" if share < _NOMINAL else "too wide"
            return (
                f"80 % intervals held {share:.0%} of the closes at bar {step} over {nights} "
                f"nights: they are {side}; 'candlecast calibrate' corrects that from the past."
            )
    return None


def trust_rows(console: Console, night: Published) -> tuple[pl.DataFrame | None, str | None]:
    """By night, the model's CRPS over a random walk's; or why it cannot be told."""
    history = console.history()
    if history is None:
        return None, "There is no store to compare with."
    days = console.nights.newest_rows(night.model_id, _MOST_ROWS)
    key = (night.model_id, tuple(days), history.version)
    rows = console.slow.get(key, lambda: by_night(console.table, history, night.model_id, days))
    if not rows.height:
        return rows, "No earlier night of this model has an outcome in the store yet."
    return rows, None
