"""Which bars are trained on, and which only measure. Knows series and dates; no torch.

Everything that a split decides is decided here, before any model sees a bar: training pools hold
no row after the cut-off and no held-out symbol, so nothing drawn from them can leak.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np

from forecaster.training.config import CoarserBars, DataSettings, TrainingError, WindowSettings
from forecaster.training.data.pools import Pool, Times, TrainingSeries, merged, unbroken_runs

_ONE_DAY = timedelta(days=1)


def is_held_out(symbol: str, share: float) -> bool:
    """Whether a symbol is never trained on: a hash of its name, so the answer never moves."""
    digest = hashlib.blake2b(symbol.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


class TargetSpan(NamedTuple):
    """Where the targets of one part lie: from `first`, before `end`."""

    name: str
    first: np.datetime64
    end: np.datetime64


def require_disjoint(spans: Sequence[TargetSpan]) -> None:
    """Raises TrainingError naming two parts whose targets overlap in time."""
    ordered = sorted(spans, key=lambda span: span.first)
    for before, after in itertools.pairwise(ordered):
        if after.first < before.end:
            raise TrainingError(
                f"targets overlap: {before.name} up to {_last_day(before)} and {after.name} from "
                f"{str(after.first)[:10]}. A model would be judged on what it was fitted to; move "
                "the dates apart."
            )


@dataclass(frozen=True)
class Split:
    """Training bars, and two ways to be honest about them."""

    train: Pool
    coarser: Pool
    """Longer bars made of the training bars."""
    simulated: Pool
    later: Pool
    """Later dates of the symbols trained on."""
    held_out: Pool
    """Later dates of symbols never trained on."""
    test: Pool
    """Dates after validation, of all symbols; empty without test_through."""
    spans: tuple[TargetSpan, ...] = ()
    """Where the targets of each part lie; they do not overlap."""


def split_series(
    series: Iterable[TrainingSeries], data: DataSettings, windows: WindowSettings
) -> Split:
    """Splits by time and by symbol.

    Training rows end at `train_through`. Validation horizons begin more than `purge_bars` +
    `embargo_bars` sessions after it, test horizons as many after `validation_through`; their
    lookbacks may reach into the bars before, as any forecast's would. Raises TrainingError where
    the training part has no window, purge and embargo leave no date, or targets would overlap.
    """
    kept = [s for s in series if s.symbol not in data.exclude_symbols and len(s)]
    cut, end = _after(data.train_through), _after(data.validation_through)
    real = [s for s in kept if not s.simulated]
    seen = [s for s in real if not is_held_out(s.symbol, data.held_out_share)]
    unseen = [s for s in real if is_held_out(s.symbol, data.held_out_share)]
    since = None if data.train_from is None else np.datetime64(data.train_from, "us")
    train = Pool(_runs(seen, cut, data, since))
    simulated = Pool(_runs((s for s in kept if s.simulated), cut, data))
    longest = max(windows.lookbacks)
    if not any(pool.n_windows(longest, windows.horizon) for pool in (train, simulated)):
        raise TrainingError(
            f"no unbroken run of {longest + windows.horizon} bars (lookback {longest} + horizon "
            f"{windows.horizon}) at or before {data.train_through} in {len(seen)} symbols. Import "
            "more history, or shorten windows.lookbacks or windows.horizon."
        )
    gap = data.purge_bars + data.embargo_bars
    first = _first_target(real, "validation", data.train_through, end, gap, data.validation_from)
    spans = [TargetSpan("training", np.datetime64("0000", "us"), cut)]
    spans.append(TargetSpan("validation", first, end))
    test = Pool([])
    if data.test_through is not None:
        test_end = _after(data.test_through)
        tested = _first_target(real, "test", data.validation_through, test_end, gap, data.test_from)
        test = Pool(_runs(real, test_end, data), tested)
        spans.append(TargetSpan("test", tested, test_end))
    require_disjoint(spans)
    return Split(
        train=train,
        coarser=Pool([] if data.coarser is None else _coarser(train.runs, data.coarser)),
        simulated=simulated,
        later=Pool(_runs(seen, end, data), first),
        held_out=Pool(_runs(unseen, end, data), first),
        test=test,
        spans=tuple(spans),
    )


def _coarser(runs: Iterable[TrainingSeries], settings: CoarserBars) -> list[TrainingSeries]:
    """Every run in longer bars, once per length, which begin at every offset into it."""
    return [
        merged(run.rows(slice(offset, len(run))), bars)
        for bars in settings.bars
        for run in runs
        for offset in range(bars)
        if len(run) - offset >= bars
    ]


def _runs(
    series: Iterable[TrainingSeries],
    before: np.datetime64,
    data: DataSettings,
    since: np.datetime64 | None = None,
) -> list[TrainingSeries]:
    found = []
    for one in series:
        first = 0 if since is None else int(np.searchsorted(one.timestamps_N, since))
        last = int(np.searchsorted(one.timestamps_N, before))
        found += unbroken_runs(one.rows(slice(first, max(first, last))), data)
    return found


def _first_target(
    real: Sequence[TrainingSeries],
    name: str,
    through: date,
    end: np.datetime64,
    gap: int,
    wanted: date | None,
) -> np.datetime64:
    """First label of a target after `through`, `gap` sessions left out."""
    after = _labels(real, _after(through), end)
    earlier = {"validation": "train_through", "test": "validation_through"}[name]
    if real and len(after) <= gap:
        raise TrainingError(
            f"{len(after)} sessions between {earlier}={through} and {name}_through="
            f"{str(end - np.timedelta64(1, 'D'))[:10]}, of which purge_bars + embargo_bars = {gap} "
            f"are left out: nothing to {'validate' if name == 'validation' else 'test'} on. Move "
            f"{name}_through or import later bars."
        )
    earliest = after[gap] if len(after) else end
    if wanted is None:
        return earliest
    asked = np.datetime64(wanted, "us")
    if asked < earliest:
        raise TrainingError(
            f"data.{name}_from={wanted}: fewer than purge_bars + embargo_bars = {gap} sessions "
            f"after {earlier}={through}. Targets may begin on {str(earliest)[:10]}."
        )
    return asked


def _labels(series: Sequence[TrainingSeries], start: np.datetime64, end: np.datetime64) -> Times:
    parts = [
        one.timestamps_N[slice(*np.searchsorted(one.timestamps_N, [start, end]))] for one in series
    ]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, "datetime64[us]")


def _after(day: date) -> np.datetime64:
    return np.datetime64(day + _ONE_DAY, "us")


def _last_day(span: TargetSpan) -> str:
    return str(span.end - np.timedelta64(1, "us"))[:10]
