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
    labels = rows.select("source", "symbol", moment.alias("at"))
    if labels["symbol"].null_count() or labels["at"].null_count():
        labels = labels.drop_nulls(["symbol", "at"])
    nth = labels["symbol"].rle_id().alias("nth")
    at = labels["at"].to_physical()
    if not _ordered(labels["symbol"], nth, at):
        labels = labels.sort("symbol", "at")
        nth, at = labels["symbol"].rle_id().alias("nth"), labels["at"].to_physical()
    runs = _runs(nth, at)
    if not runs.height:
        return []
    g, n = pl.col("gap"), pl.col("n")
    counts = runs.group_by("nth", "gap").agg(n.sum())
    usual = g.filter(n == n.max()).min()
    own = counts.group_by("nth").agg(
        usual=usual, gaps=g, n=n.sum(),
        finer=_share(g < 20 * 60 * _MINUTE), below=_share(g < (step or 0)),
        shorter=_share(g < usual), regular=_share((g >= usual * 0.8) & (g <= usual * 1.25)),
    )  # fmt: skip
    clocks = pl.DataFrame([nth, (at % _DAY).alias("clock")]).group_by("nth").agg(
        one_time=pl.col("clock").min() == pl.col("clock").max()
    )  # fmt: skip
    table = own.join(clocks, on="nth").join(_day_runs(runs, own), on="nth").sort("nth")
    firsts = labels.select("source", "symbol")[nth.search_sorted(table["nth"]).to_list()]
    table = table.with_columns(firsts).select(Step._fields)
    return [Step(*row) for row in table.iter_rows()]


def _runs(nth: pl.Series, at: pl.Series) -> pl.DataFrame:
    """nth, gap, n: how often in a row a symbol's bars lie that far apart, in their order.

    nth: the number of each label's symbol, ascending. at: microseconds, ascending in each symbol.
    """
    nth_N, at_N = nth.to_numpy(), at.to_numpy()
    gap_N = np.diff(at_N)
    steps = np.flatnonzero((nth_N[1:] == nth_N[:-1]) & (gap_N > 0))
    own_N, gap_N = nth_N[1:][steps], gap_N[steps]
    changes = np.flatnonzero((own_N[1:] != own_N[:-1]) | (gap_N[1:] != gap_N[:-1])) + 1
    first_R = np.concatenate([[0], changes]) if len(gap_N) else changes
    n_R = np.diff(first_R, append=len(gap_N))
    return pl.DataFrame({"nth": own_N[first_R], "gap": gap_N[first_R], "n": n_R})


def _share(chosen: pl.Expr) -> pl.Expr:
    """Share of steps whose length is chosen, of a table of lengths and how often each occurs."""
    n = pl.col("n")
    return n.filter(chosen).sum() / n.sum()


def _day_runs(runs: pl.DataFrame, own: pl.DataFrame) -> pl.DataFrame:
    """nth, run: most steps of exactly one day in a row, of symbols that have finer ones too."""
    found = runs.filter(pl.col("gap") == _DAY).group_by("nth").agg(run=pl.col("n").max())
    return own.select("nth", "usual").join(found, on="nth", how="left").select(
        "nth", run=pl.when(pl.col("usual") < _DAY).then("run").fill_null(0)
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


def _ordered(symbol: pl.Series, nth: pl.Series, at: pl.Series) -> bool:
    """Whether each symbol's labels lie together, oldest first. nth: symbol, as numbered runs."""
    if not len(nth):
        return True
    nth_N, at_N = nth.to_numpy(), at.to_numpy()
    fits = (nth_N[1:] != nth_N[:-1]) | (at_N[1:] >= at_N[:-1])
    return bool(fits.all()) and int(nth_N[-1]) + 1 == symbol.n_unique()
