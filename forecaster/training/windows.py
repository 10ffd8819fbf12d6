"""Which windows are trained on and which are measured on. Knows arrays of bars; no files, no torch.

Everything that a split decides is decided here, before any model sees a bar: training pools hold
no row after the cut-off and no held-out symbol, so nothing drawn from them can leak.

Legend: B windows, T bars of a window (lookback, then horizon), F features, N bars of a series,
M bars of a pool, R runs of a pool.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from forecaster.interface import CLOSE
from forecaster.normalize import normalise
from forecaster.training.config import DataSettings, TrainingError, WindowSettings
from market.windows import time_features

Times = npt.NDArray[np.datetime64]

_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class TrainingSeries:
    """One symbol's bars: exchange-local labels and the six features, oldest first."""

    symbol: str
    timestamps_N: Times
    values_NF: npt.NDArray[np.float64]
    simulated: bool = False

    def __len__(self) -> int:
        return len(self.timestamps_N)

    def rows(self, chosen: slice) -> TrainingSeries:
        return TrainingSeries(
            self.symbol, self.timestamps_N[chosen], self.values_NF[chosen], self.simulated
        )


@dataclass(frozen=True)
class TrainingBatch:
    """Windows ready for a model, and where they came from."""

    x_BTF: npt.NDArray[np.float32]
    """Normalised with the statistics of the first `lookback` bars, then clipped."""
    stamp_BT: npt.NDArray[np.int64]
    """Time features, shape (B, T, 5)."""
    lookback: int
    symbols: tuple[str, ...]
    first_B: Times
    last_B: Times

    def names(self, most: int = 8) -> str:
        """The windows in words, for an error message."""
        told = [
            f"{symbol} {str(first)[:16]} to {str(last)[:16]}"
            for symbol, first, last in zip(self.symbols, self.first_B, self.last_B, strict=True)
        ]
        more = f" and {len(told) - most} more" if len(told) > most else ""
        return "; ".join(told[:most]) + more


def unbroken_runs(series: TrainingSeries, settings: DataSettings) -> list[TrainingSeries]:
    """Cuts a series where a window must not cross: wild moves and long holes.

    A close-to-close return beyond `max_abs_return` is taken for an unadjusted split or a data
    error: the bar after it starts a new run. So does a bar more than `max_gap_days` after the one
    before it.
    """
    if len(series) == 0:
        return []
    close_N = series.values_NF[:, CLOSE]
    jumped = np.abs(close_N[1:] / close_N[:-1] - 1.0) > settings.max_abs_return
    late = np.diff(series.timestamps_N) > np.timedelta64(settings.max_gap_days, "D")
    edges = [0, *(np.flatnonzero(jumped | late) + 1).tolist(), len(series)]
    return [series.rows(slice(a, b)) for a, b in itertools.pairwise(edges)]


def is_held_out(symbol: str, share: float) -> bool:
    """Whether a symbol is never trained on: a hash of its name, so the answer never moves."""
    digest = hashlib.blake2b(symbol.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


@dataclass(frozen=True)
class Pool:
    """Runs of bars laid end to end, so that a batch is one gather."""

    runs: Sequence[TrainingSeries]
    first_target: np.datetime64 | None = None
    """Where given, horizons start at this label or later; lookbacks may reach before it."""
    values_MF: npt.NDArray[np.float64] = field(init=False)
    timestamps_M: Times = field(init=False)
    stamp_M: npt.NDArray[np.int64] = field(init=False)
    offset_R: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        lengths = np.array([len(run) for run in self.runs], dtype=np.int64)
        empty = not len(lengths)
        values = np.empty((0, 6)) if empty else np.concatenate([r.values_NF for r in self.runs])
        times = (
            np.empty(0, "datetime64[us]")
            if empty
            else np.concatenate([r.timestamps_N for r in self.runs])
        )
        object.__setattr__(self, "values_MF", values)
        object.__setattr__(self, "timestamps_M", times)
        object.__setattr__(self, "stamp_M", time_features(times).astype(np.int64))
        object.__setattr__(self, "offset_R", np.concatenate([[0], np.cumsum(lengths)]))

    def window_starts(self, lookback: int, horizon: int) -> npt.NDArray[np.int64]:
        """Rows at which a window may begin: inside one run, its horizon late enough."""
        starts = []
        for run, offset in zip(self.runs, self.offset_R[:-1], strict=True):
            first = 0
            if self.first_target is not None:
                target = int(np.searchsorted(run.timestamps_N, self.first_target))
                first = max(0, target - lookback)
            starts.append(offset + np.arange(first, len(run) - lookback - horizon + 1))
        return np.concatenate(starts) if starts else np.empty(0, np.int64)

    def gather(
        self, starts_B: npt.NDArray[np.int64], lookback: int, horizon: int, clip: float
    ) -> TrainingBatch:
        """The windows that begin at these rows."""
        rows_BT = starts_B[:, None] + np.arange(lookback + horizon)
        run_B = np.searchsorted(self.offset_R, starts_B, side="right") - 1
        return TrainingBatch(
            x_BTF=normalise(self.values_MF[rows_BT], clip=clip, lookback=lookback).x_BLF,
            stamp_BT=self.stamp_M[rows_BT],
            lookback=lookback,
            symbols=tuple(self.runs[i].symbol for i in run_B),
            first_B=self.timestamps_M[rows_BT[:, 0]],
            last_B=self.timestamps_M[rows_BT[:, -1]],
        )


@dataclass(frozen=True)
class Split:
    """Training bars, and two ways to be honest about them."""

    train: Pool
    simulated: Pool
    later: Pool
    """Later dates of the symbols trained on."""
    held_out: Pool
    """Later dates of symbols never trained on."""


def split_series(
    series: Iterable[TrainingSeries], data: DataSettings, windows: WindowSettings
) -> Split:
    """Splits by time and by symbol.

    Training rows end at `train_through`. Validation horizons begin more than `purge_bars` sessions
    after it; their lookbacks may reach into the training bars, as any forecast's would. Raises
    TrainingError where the training part has no window, or the purge leaves no validation date.
    """
    kept = [s for s in series if s.symbol not in data.exclude_symbols and len(s)]
    cut = np.datetime64(data.train_through + _ONE_DAY, "us")
    end = np.datetime64(data.validation_through + _ONE_DAY, "us")
    real = [s for s in kept if not s.simulated]

    def runs(of: Iterable[TrainingSeries], before: np.datetime64) -> list[TrainingSeries]:
        return [
            run
            for one in of
            for run in unbroken_runs(
                one.rows(slice(0, int(np.searchsorted(one.timestamps_N, before)))), data
            )
        ]

    seen = [s for s in real if not is_held_out(s.symbol, data.held_out_share)]
    unseen = [s for s in real if is_held_out(s.symbol, data.held_out_share)]
    train = Pool(runs(seen, cut))
    simulated = Pool(runs((s for s in kept if s.simulated), cut))
    longest = max(windows.lookbacks)
    if not len(train.window_starts(longest, windows.horizon)) and not len(
        simulated.window_starts(longest, windows.horizon)
    ):
        raise TrainingError(
            f"no unbroken run of {longest + windows.horizon} bars (lookback {longest} + horizon "
            f"{windows.horizon}) at or before {data.train_through} in {len(seen)} symbols. Import "
            "more history, or shorten windows.lookbacks or windows.horizon."
        )
    dates = [s.timestamps_N[(s.timestamps_N >= cut) & (s.timestamps_N < end)] for s in real]
    after = np.unique(np.concatenate(dates)) if dates else np.empty(0, "datetime64[us]")
    if real and len(after) <= data.purge_bars:
        raise TrainingError(
            f"{len(after)} sessions between train_through={data.train_through} and "
            f"validation_through={data.validation_through}, of which purge_bars={data.purge_bars} "
            "are left out: nothing to validate on. Move validation_through or import later bars."
        )
    first_target = after[data.purge_bars] if len(after) else end
    return Split(
        train=train,
        simulated=simulated,
        later=Pool(runs(seen, end), first_target),
        held_out=Pool(runs(unseen, end), first_target),
    )


class WindowPlan:
    """Batch number `step`, as a pure function of the seed and the step.

    No state moves between steps, so a resumed run draws what the undisturbed one would have.
    """

    def __init__(
        self, split: Split, *, seed: int, batch_size: int, simulated_share: float,
        windows: WindowSettings,
    ) -> None:  # fmt: skip
        self._seed = seed
        self._windows = windows
        n_simulated = round(batch_size * simulated_share)
        self._parts = [
            (pool, count)
            for pool, count in (
                (split.train, batch_size - n_simulated),
                (split.simulated, n_simulated),
            )
            if count
        ]
        self._starts = {
            (k, lookback): pool.window_starts(lookback, windows.horizon)
            for k, (pool, _) in enumerate(self._parts)
            for lookback in set(windows.lookbacks)
        }
        for (k, lookback), starts in self._starts.items():
            if not len(starts):
                kind = "simulated" if self._parts[k][0] is split.simulated else "real"
                raise TrainingError(
                    f"the {kind} training bars hold no window of lookback {lookback} + horizon "
                    f"{windows.horizon}; set data.simulated_share or windows.lookbacks accordingly"
                )

    def batch(self, step: int) -> TrainingBatch:
        key = hashlib.blake2b(f"windows:{self._seed}:{step}".encode(), digest_size=16).digest()
        rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
        lookback = int(rng.choice(self._windows.lookbacks))
        horizon, clip = self._windows.horizon, self._windows.clip
        drawn = []
        for k, (pool, count) in enumerate(self._parts):
            starts = self._starts[k, lookback]
            chosen = starts[rng.integers(0, len(starts), count)]
            drawn.append(pool.gather(chosen, lookback, horizon, clip))
        return join(drawn)


def validation_batches(
    pool: Pool, *, lookback: int, horizon: int, clip: float, count: int, size: int
) -> list[TrainingBatch]:
    """At most `count` windows spread evenly over the pool, always the same ones."""
    starts = pool.window_starts(lookback, horizon)
    if not len(starts):
        return []
    chosen = starts[np.unique(np.linspace(0, len(starts) - 1, count).round().astype(np.int64))]
    return [
        pool.gather(chosen[i : i + size], lookback, horizon, clip)
        for i in range(0, len(chosen), size)
    ]


def join(batches: Sequence[TrainingBatch]) -> TrainingBatch:
    """One batch of several with the same lookback."""
    return TrainingBatch(
        x_BTF=np.concatenate([b.x_BTF for b in batches]),
        stamp_BT=np.concatenate([b.stamp_BT for b in batches]),
        lookback=batches[0].lookback,
        symbols=tuple(symbol for b in batches for symbol in b.symbols),
        first_B=np.concatenate([b.first_B for b in batches]),
        last_B=np.concatenate([b.last_B for b in batches]),
    )
