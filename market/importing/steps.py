"""How far apart the bars of each symbol lie, and whether that is the store's step.

Knows labels of one source at a time. Bars of another length are refused rather than stored: a daily
bar taken for an hourly one would be known 23 hours early.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from market.errors import SourceError
from market.spec import DAILY, StoreSpec, parse_freq

_MINUTE = 60_000_000
_DAY = 1440 * _MINUTE
_FEW = 3
"""With fewer steps a series does not show its own."""
_ODD = 0.3
"""Share of a symbol's steps that may be shorter than the store's before it counts as finer."""
_RUN = 10
"""So many whole days in a row between intraday bars are daily bars among them."""


class Step(NamedTuple):
    """The usual distance between two bars of one symbol of one source."""

    source: str
    symbol: str
    n: int
    """Steps seen."""
    usual: int
    """Commonest one, in microseconds."""
    shorter: float
    """Share of steps shorter than that."""
    regular: float
    """Share of steps near it (a month has 28 to 31 days)."""
    finer: float
    """Share of steps shorter than 20 hours."""
    below: float
    """Share of steps shorter than the store's, where its step is known."""
    run: int
    """Most steps of exactly one day in a row."""
    one_time: bool
    """All labels name one time of day."""


def words(step: int) -> str:
    """A step in words: 1d, 5min, 2.5s."""
    if step % _DAY == 0:
        return f"{step // _DAY}d"
    if step % (60 * _MINUTE) == 0:
        return f"{step // (60 * _MINUTE)}h"
    return f"{step // _MINUTE}min" if step % _MINUTE == 0 else f"{step / 1e6:g}s"


def steps_of(rows: pl.DataFrame, step: int | None = None) -> list[Step]:
    """The step of each symbol of one source; none for symbols with one bar.

    rows: source, symbol, timestamp, instant. step: the store's, in microseconds, where known.
    """
    moment = pl.col("timestamp")
    if rows["instant"].null_count() < rows.height:
        moment = pl.coalesce("instant", "timestamp")
    labels = rows.select("symbol", moment.alias("at")).drop_nulls()
    if not _ordered(labels):
        labels = labels.sort("symbol", "at")
    gap = pl.col("at").diff().dt.total_microseconds()
    same = pl.col("symbol") == pl.col("symbol").shift()
    gaps = labels.with_columns(gap=pl.when(same).then(gap)).filter(pl.col("gap") > 0)
    if not gaps.height:
        return []
    g = pl.col("gap")
    usual = g.mode().min()
    times = labels.group_by("symbol").agg(one_time=pl.col("at").dt.time().n_unique() == 1)
    table = (
        gaps.group_by("symbol", maintain_order=True)
        .agg(
            n=pl.len(),
            usual=usual,
            shorter=(g < usual).mean(),
            regular=((g >= usual * 0.8) & (g <= usual * 1.25)).mean(),
            finer=(g < 20 * 60 * _MINUTE).mean(),
            below=(g < (step or 0)).mean(),
            run=pl.when(g == _DAY).then(1).otherwise(0).rle().struct.field("len")
            .filter(pl.when(g == _DAY).then(1).otherwise(0).rle().struct.field("value") == 1).max()
            .fill_null(0),
        )
        .join(times, on="symbol", how="left", maintain_order="left")
    )  # fmt: skip
    source = str(rows["source"][0])
    return [Step(source=source, **row) for row in table.iter_rows(named=True)]


def common_freq(steps: Sequence[Step]) -> str | None:
    """The frequency of most bars, daily where labels are about a day apart; None without a step.

    Raises SourceError for steps of a week and more, and such as divide no day.
    """
    votes: dict[int, int] = {}
    for each in steps:
        kind = _DAY if _is_daily(each.usual) else each.usual
        votes[kind] = votes.get(kind, 0) + each.n
    if not votes:
        return None
    best = max(votes, key=lambda kind: (votes[kind], -kind))
    if best == _DAY:
        return DAILY
    example = next(each for each in steps if each.usual == best)
    if best > _DAY:
        raise SourceError(
            f"{example.source}: bars of {example.symbol} are {words(best)} apart; bars longer than "
            "a day are not supported, import daily ones"
        )
    if best % _MINUTE or _DAY % best:
        raise SourceError(
            f"{example.source}: bars of {example.symbol} are {words(best)} apart; a bar must be "
            "one day, or minutes or hours that divide a day. Say --freq where gaps hide the step"
        )
    return parse_freq(f"{best // _MINUTE}min")


def require_step(steps: Sequence[Step], spec: StoreSpec, whose: str) -> None:
    """Raise SourceError naming source, symbol and both steps where bars have another length.

    whose: who says the frequency, such as "the store holds" or "--freq says".
    """
    want = int(spec.step.astype(np.int64))
    for each in steps:
        found = _other(each, want, spec.daily)
        if found is not None:
            raise SourceError(
                f"{each.source}: bars of {each.symbol} are {found} apart, {whose} {spec.freq}; one "
                "store holds one frequency: choose another --store, or resample them"
            )


def _other(each: Step, want: int, daily: bool) -> str | None:
    """The step of bars that are not the store's; None where they may be."""
    enough = each.n >= _FEW
    if daily:
        if enough and each.finer > _ODD:
            return words(each.usual if not _is_daily(each.usual) else _DAY // 24)
        if enough and each.usual >= 5 * _DAY and each.regular >= 0.8:
            return words(each.usual)
        return None
    if enough and each.below > _ODD:
        return words(each.usual)
    whole_days = each.usual % _DAY == 0 and each.one_time
    if each.usual > want and each.shorter <= 0.2 and (enough or whole_days):
        return words(each.usual)
    if each.run >= _RUN:
        return f"{words(each.usual)} and, {each.run} times in a row, 1d"
    return None


def _is_daily(step: int) -> bool:
    return 0.8 * _DAY <= step <= 4 * _DAY + 2 * 60 * _MINUTE


def _ordered(labels: pl.DataFrame) -> bool:
    same = pl.col("symbol") == pl.col("symbol").shift()
    fits = ~same | (pl.col("at") >= pl.col("at").shift())
    runs = labels["symbol"].rle_id().max()
    several = int(runs or 0) + 1 == labels["symbol"].n_unique()  # type: ignore[arg-type]
    return several and bool(labels.select(fits.fill_null(True).all()).item())
