"""How far apart the bars of each symbol lie, and whether that is the store's step.

Knows labels of sources without a symbol in common. Bars of another length are refused rather than
stored: a daily bar taken for an hourly one would be known 23 hours early.
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


_SAME = pl.col("symbol") == pl.col("symbol").shift()


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
    """The step of each symbol of some sources; none for symbols with one bar.

    rows: source, symbol, timestamp, instant; each symbol of one source alone. step: the store's, in
    microseconds, where known.
    """
    moment = pl.col("timestamp")
    if rows["instant"].null_count() < rows.height:
        moment = pl.coalesce("instant", "timestamp")
    labels = rows.select("source", "symbol", moment.alias("at")).drop_nulls(["symbol", "at"])
    if not _ordered(labels):
        labels = labels.sort("symbol", "at")
    gap = (pl.col("at").to_physical() - pl.col("at").to_physical().shift()).alias("gap")
    gaps = labels.select("symbol", pl.when(_SAME).then(gap)).filter(pl.col("gap") > 0)
    if not gaps.height:
        return []
    g, n = pl.col("gap"), pl.col("n")
    counts = gaps.group_by("symbol", "gap").agg(n=pl.len())
    usual = g.filter(n == n.max()).min()
    own = counts.group_by("symbol").agg(
        usual=usual, gaps=g, total=n.sum(),
        finer=_share(g < 20 * 60 * _MINUTE), below=_share(g < (step or 0)),
        shorter=_share(g < usual), regular=_share((g >= usual * 0.8) & (g <= usual * 1.25)),
    )  # fmt: skip
    clock = pl.col("at").dt.time()
    about = labels.group_by("symbol", maintain_order=True).agg(
        pl.col("source").first(), one_time=clock.min() == clock.max()
    )
    table = about.join(own, on="symbol", maintain_order="left").join(
        _day_runs(gaps, own), on="symbol", how="left", maintain_order="left"
    )
    table = table.select("source", "symbol", pl.col("total").alias("n"), *Step._fields[3:])
    return [Step(**row) for row in table.iter_rows(named=True)]


def _share(chosen: pl.Expr) -> pl.Expr:
    """Share of steps whose length is chosen, of a table of lengths and how often each occurs."""
    n = pl.col("n")
    return n.filter(chosen).sum() / n.sum()


def _day_runs(gaps: pl.DataFrame, own: pl.DataFrame) -> pl.DataFrame:
    """symbol, run: most steps of exactly one day in a row, of symbols that have finer ones too."""
    mixed = own.filter((pl.col("usual") < _DAY) & pl.col("gaps").list.contains(_DAY))["symbol"]
    day = pl.when(pl.col("gap") == _DAY).then(1).otherwise(0).rle()
    runs = (
        gaps.filter(pl.col("symbol").is_in(mixed.implode()))
        .group_by("symbol")
        .agg(run=day.struct.field("len").filter(day.struct.field("value") == 1).max())
    )
    return own.select("symbol").join(runs, on="symbol", how="left").with_columns(
        pl.col("run").cast(pl.Int64).fill_null(0)
    )  # fmt: skip


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


def require_step(steps: Sequence[Step], spec: StoreSpec, whose: str, rows: pl.DataFrame) -> None:
    """Raise SourceError naming source, symbol and both steps where bars have another length.

    steps: of rows, as steps_of gives them with or without the store's step. whose: who says the
    frequency, such as "the store holds" or "--freq says".
    """
    want = int(spec.step.astype(np.int64))
    if not spec.daily and any(each.usual != want for each in steps):
        steps = steps_of(rows, want)
    for each in steps:
        known = each if each.usual != want else each._replace(below=each.shorter)
        found = _other(known, want, spec.daily)
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
    fits = ~_SAME | (pl.col("at") >= pl.col("at").shift())
    runs = labels["symbol"].rle_id().max()
    several = int(runs or 0) + 1 == labels["symbol"].n_unique()  # type: ignore[arg-type]
    return several and bool(labels.select(fits.fill_null(True).all()).item())
