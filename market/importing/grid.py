"""Where rows lie in time: session, close, and whether their label is on the store's grid.

Knows the spec, the calendar and labels; no prices. A label off the grid is quarantined, never
rounded: it is a live quote, an unfinished bar or a slip.

Legend: U distinct labels, S sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from market.bars import RULE_GRID, RULE_TIME
from market.calendars import session_hours, sessions_and_closes, to_local, to_utc
from market.errors import SourceError
from market.exchange_sessions import venue_sessions
from market.importing.options import ImportOptions
from market.spec import ALWAYS_OPEN, Label, StoreSpec

_SENTINELS = (
    *(date(1970, 1, 1), date(1900, 1, 1), date(1904, 1, 1), date(1901, 1, 1), date(1980, 1, 1)),
)
"""Days that programs write for "no date"; none of them was a trading day."""
_RARE = 0.1
_SOLID = 0.25
"""Share of a source's labels that makes a phase of its own part of the grid."""
_SOME_SESSIONS = 10
"""From so many sessions on, the share on closed days can refuse a source."""


def place(
    rows: pl.DataFrame,
    spec: StoreSpec,
    options: ImportOptions,
    stored: pl.Series | None = None,
    lengths: Sequence[int] = (),
) -> pl.DataFrame:
    """Rows with session and close_utc, and with fault_rule and fault where their label is wrong.

    rows: source, symbol, timestamp, instant, fault_rule, fault; one source after the other, each
    judged by itself. stored: some labels of the store's own bars, which show its grid; None in a
    new store. lengths: rows of each source; none: there is one.
    """
    rows = _in_span(rows, options)
    sound = rows["timestamp"].is_not_null() & rows["fault_rule"].is_null()
    rows = rows.with_columns(_placed(rows["timestamp"].set(~sound, None), spec))
    if len(lengths) < 2 or not _odd(rows, spec):
        return _judged(rows, spec, stored)
    starts = np.cumsum(lengths) - np.array(lengths)
    return pl.concat(
        _judged(rows.slice(int(start), length), spec, stored)
        for start, length in zip(starts, lengths, strict=True)
    )


def _odd(rows: pl.DataFrame, spec: StoreSpec) -> bool:
    """Whether any label needs a look at the others of its source."""
    labels = _sound_labels(rows)
    if spec.daily:
        return bool((labels.drop_nulls().dt.time() != time(0)).any())
    step = int(spec.step.astype(np.int64))
    if _ambiguous(labels.set(rows["instant"].is_not_null(), None), spec.tz) is not None:
        return True
    return not (labels.to_physical() % step).is_in(_calendar_phases(labels, spec, step)).all()


def _sound_labels(rows: pl.DataFrame) -> pl.Series:
    return rows["timestamp"].set(rows["fault_rule"].is_not_null(), None)


def _judged(rows: pl.DataFrame, spec: StoreSpec, stored: pl.Series | None) -> pl.DataFrame:
    labels = _sound_labels(rows)
    if spec.daily:
        faults = _daily_faults(rows, labels, spec)
    else:
        instants = rows["instant"].set(labels.is_null(), None)
        rows = _by_instant(rows, labels, instants, spec)
        faults = _intraday_faults(rows, labels, spec, stored)
    if faults.null_count() == len(faults):
        return rows
    return rows.with_columns(
        fault_rule=pl.when(pl.col("fault_rule").is_null() & faults.is_not_null())
        .then(pl.lit(RULE_GRID))
        .otherwise("fault_rule"),
        fault=pl.coalesce("fault", pl.lit(faults)),
    )


def closed_days(bars: pl.DataFrame, spec: StoreSpec, options: ImportOptions) -> list[str]:
    """How many bars of each source lie on days the venue is closed, in words, source first.

    bars: source and session. Raises SourceError where more do than options.max_closed allows.
    """
    if spec.venue in (None, ALWAYS_OPEN) or not bars.height:
        return []
    assert spec.venue is not None
    days = bars["session"].unique().sort()
    calendar = venue_sessions(spec.venue, days[0].year, days[-1].year)
    if not len(calendar.dates_S):
        return []
    known = days.filter(
        (days >= calendar.dates_S[0].item()) & (days <= calendar.dates_S[-1].item())
    )
    closed = known.filter(~np.isin(known.to_numpy().astype("datetime64[D]"), calendar.dates_S))
    if not len(closed):
        return []
    found = (
        bars.group_by("source", maintain_order=True)
        .agg(
            n=pl.len(),
            closed=pl.col("session").filter(pl.col("session").is_in(closed.implode())),
            days=pl.col("session").n_unique(),
        )
        .filter(pl.col("closed").list.len() > 0)
    )
    said = []
    for row in found.iter_rows(named=True):
        share = len(row["closed"]) / row["n"]
        text = f"{len(row['closed']):,} of {row['n']:,} bars lie on days {spec.venue} is closed"
        if share > options.max_closed and row["days"] >= _SOME_SESSIONS:
            raise SourceError(
                f"{row['source']}: {text} ({share:.0%}, allowed {options.max_closed:.0%}), for "
                f"example {min(row['closed'])}; is it another --venue, or another --tz? "
                "--max-closed allows more"
            )
        said.append(f"{row['source']}: {text}, for example {min(row['closed'])}")
    return said


def _in_span(rows: pl.DataFrame, options: ImportOptions) -> pl.DataFrame:
    first = datetime.combine(options.earliest, time())
    last = datetime.combine(options.last_day, time()) + timedelta(days=1)
    stamp = pl.col("timestamp")
    outside = (stamp < first) | (stamp >= last)
    sentinel = stamp.dt.date().is_in(_SENTINELS)
    rule = pl.when(pl.col("fault_rule").is_null() & (outside | sentinel)).then(pl.lit(RULE_TIME))
    bad = rows.select((outside | sentinel).fill_null(False)).to_series()
    if not bad.any():
        return rows
    shown = stamp.dt.strftime("%Y-%m-%d")
    span = f"{options.earliest} to {options.last_day}"
    return rows.with_columns(
        fault=pl.when(rule.is_null())
        .then("fault")
        .when(outside)
        .then(pl.concat_str([shown, pl.lit(f" lies outside {span}")]))
        .otherwise(pl.concat_str([shown, pl.lit(" stands for no date")])),
        fault_rule=pl.coalesce("fault_rule", rule),
    )


def _placed(labels: pl.Series, spec: StoreSpec) -> list[pl.Series]:
    """session and close_utc of labels by the calendar; null where the label is."""
    distinct = labels.unique().drop_nulls().sort()
    sessions, closes = sessions_and_closes(spec, distinct.to_numpy())
    table = pl.DataFrame(
        {
            "at": distinct,
            "session": pl.Series(sessions.astype("datetime64[D]"), dtype=pl.Date),
            "close_utc": pl.Series(closes.astype("datetime64[us]"), dtype=pl.Datetime("us")),
        }
    )
    found = pl.DataFrame({"at": labels}).join(table, on="at", how="left", maintain_order="left")
    return [found["session"], found["close_utc"].dt.replace_time_zone("UTC")]


def _by_instant(
    rows: pl.DataFrame, labels: pl.Series, instants: pl.Series, spec: StoreSpec
) -> pl.DataFrame:
    """Closes from the instants a source gives, and from the order of an hour clocks show twice."""
    after = spec.step if spec.label is Label.START else np.timedelta64(0, "us")
    if instants.null_count() < len(instants):
        closes = (instants.to_physical() + int(after.astype(np.int64))).cast(
            pl.Datetime("us", "UTC")
        )
        rows = rows.with_columns(close_utc=pl.coalesce(pl.lit(closes), "close_utc"))
    twice = _ambiguous(labels.set(instants.is_not_null(), None), spec.tz)
    if twice is None:
        return rows
    marked = rows.with_columns(twice.alias("twice")).with_row_index("nth")
    fall = (rows["timestamp"].diff().dt.total_microseconds() < 0).mean()
    backwards = float(fall or 0.0) > 0.5  # type: ignore[arg-type]
    values = ("open", "high", "low", "close", "volume")
    pairs = (
        marked.filter("twice")
        .group_by("symbol", "timestamp")
        .agg(
            pl.len().alias("n"),
            pl.col("nth").first().alias("first"),
            pl.col("nth").last().alias("last"),
            pl.any_horizontal(
                pl.col(name).first().ne_missing(pl.col(name).last()) for name in values
            ).alias("differ"),
        )
        .filter((pl.col("n") == 2) & pl.col("differ"))
    )
    second = pairs["first" if backwards else "last"]
    hour = pl.when(pl.col("nth").is_in(second.implode())).then(pl.duration(hours=1))
    moved = marked.with_columns(
        close_utc=pl.col("close_utc") + hour.otherwise(pl.duration(hours=0))
    )
    return moved.drop("nth", "twice")


def _ambiguous(labels: pl.Series, tz: str) -> pl.Series | None:
    """Which labels clocks show twice; None where none is."""
    distinct = labels.unique().drop_nulls()
    early = distinct.dt.replace_time_zone(tz, ambiguous="earliest", non_existent="null")
    late = distinct.dt.replace_time_zone(tz, ambiguous="latest", non_existent="null")
    both = distinct.filter((early != late).fill_null(False))
    return labels.is_in(both.implode()).fill_null(False) if len(both) else None


def _daily_faults(rows: pl.DataFrame, labels: pl.Series, spec: StoreSpec) -> pl.Series:
    """Live quotes among daily labels: odd seconds, rare times of day, times inside the session."""
    faults = pl.Series([None], dtype=pl.String).new_from_index(0, len(labels))
    clock = labels.dt.time()
    if not (clock.drop_nulls() != time(0)).any():
        return faults
    counts = clock.drop_nulls().value_counts(sort=True, name="n")
    total, usual = int(counts["n"].sum()), counts[clock.name][0]
    share = int(counts["n"][0]) / total
    micros = clock.cast(pl.Int64) // 1000
    away = (micros - (usual.hour * 3600 + usual.minute * 60 + usual.second) * 1_000_000).abs()
    per_row = pl.DataFrame({clock.name: clock}).join(counts, on=clock.name, how="left",
                                                     maintain_order="left")["n"]  # fmt: skip
    alone = (per_row == 1) & (total >= 4)
    rare = ((per_row / total < _RARE) | alone) & (clock != usual) & (share >= 0.5)
    shifted = away.is_in([3_600_000_000, 23 * 3_600_000_000])  # the hour of a clock change
    usual_is_odd = share >= 0.5 and total >= 4 and rows["session"].n_unique() >= 3
    seconds = (micros % 60_000_000 != 0) & ~((clock == usual) & pl.Series([usual_is_odd]))
    live = (rare & ~shifted) | seconds
    if spec.venue not in (None, ALWAYS_OPEN):
        inside = _inside_session(labels, spec) & ~((clock == usual) & pl.Series([usual_is_odd]))
        live = live | inside
    return faults.set(live.fill_null(False), "a time of day inside the session: an unfinished bar")


def _inside_session(labels: pl.Series, spec: StoreSpec) -> pl.Series:
    """Whether a label lies strictly between open and close of its day."""
    days = labels.dt.date().unique().drop_nulls().sort()
    opens, closes = session_hours(spec, days.to_numpy().astype("datetime64[D]"))
    table = pl.DataFrame({"o": pl.Series(opens), "c": pl.Series(closes)}).with_columns(
        pl.col("c").dt.date().alias("day")
    )
    found = pl.DataFrame({"at": labels, "day": labels.dt.date()}).join(
        table, on="day", how="left", maintain_order="left"
    )
    inside = (pl.col("at") > pl.col("o")) & (pl.col("at") < pl.col("c"))
    return found.select(inside.fill_null(False)).to_series()


def _intraday_faults(
    rows: pl.DataFrame, labels: pl.Series, spec: StoreSpec, stored: pl.Series | None
) -> pl.Series:
    """Labels that are not a whole number of steps from the start of the day or the session."""
    faults = pl.Series([None], dtype=pl.String).new_from_index(0, len(labels))
    step = int(spec.step.astype(np.int64))
    local = labels.to_physical() % step
    utc = (rows["close_utc"].dt.replace_time_zone(None).to_physical() % step).set(
        labels.is_null(), None
    )
    base = _calendar_phases(labels, spec, step)
    fits = local.is_in(base) | utc.is_in([0])
    if stored is not None and len(stored):
        fits = fits | local.is_in(_solid(stored.to_physical() % step, 0.01))
    elif float(fits.mean() or 0.0) < 0.6:  # type: ignore[arg-type]
        fits = fits | local.is_in(_solid(local, _SOLID)) | utc.is_in(_solid(utc, _SOLID))
    off = (~fits).fill_null(False)
    faults = faults.set(off, f"not a whole number of {spec.freq} steps from the start of the day")
    skipped = _skipped(labels.set(rows["instant"].is_not_null(), None), spec.tz)
    if skipped is not None:
        faults = faults.set(skipped, f"the clocks of {spec.tz} skip this time")
    return faults


def _solid(phase: pl.Series, least: float) -> list[int]:
    counts = phase.drop_nulls().value_counts(name="n")
    total = int(counts["n"].sum())
    return counts.filter(pl.col("n") >= least * total)[phase.name].to_list()


def _calendar_phases(labels: pl.Series, spec: StoreSpec, step: int) -> list[int]:
    """Phases at which sessions open, close and pause, and that of midnight."""
    phases = {0}
    if spec.venue in (None, ALWAYS_OPEN) or not labels.drop_nulls().len():
        return sorted(phases)
    assert spec.venue is not None
    first, last = labels.min(), labels.max()
    calendar = venue_sessions(spec.venue, first.year, last.year)  # type: ignore[union-attr]
    for edges_S in (calendar.opens_S, calendar.closes_S, calendar.break_starts_S,
                    calendar.break_ends_S):  # fmt: skip
        given: npt.NDArray[np.datetime64] = edges_S[~np.isnat(edges_S)]
        if len(given):
            phases.update((to_local(given, spec.tz).astype(np.int64) % step).tolist())
    return sorted(phases)


def _skipped(labels: pl.Series, tz: str) -> pl.Series | None:
    """Which wall times the clocks of a zone skip; None where none does."""
    distinct = labels.unique().drop_nulls()
    values = distinct.to_numpy()
    missing = distinct.filter(to_local(to_utc(values, tz), tz) != values)
    return labels.is_in(missing.implode()).fill_null(False) if len(missing) else None
