"""Bars of many symbols and the windows in them. Knows arrays; no files, no torch, no splits.

Windows are index ranges until a batch is built, and a batch copies its own rows alone: series may
be memory-mapped and larger than memory.

Legend: B windows, T bars of a window (lookback, then horizon), F features, N bars of a series,
R runs of a pool.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from forecaster.features import FeatureSpace, code_windows
from forecaster.interface import CLOSE
from forecaster.returns import AMOUNT, HIGH, LOW, OPEN, VOLUME, mirrored
from forecaster.training.config import DataSettings
from market.windows import time_features

Times = npt.NDArray[np.datetime64]
Ints = npt.NDArray[np.int64]

N_FEATURES = 6
N_STAMPS = 5


@dataclass(frozen=True)
class TrainingSeries:
    """One symbol's bars: exchange-local labels and the six features, oldest first."""

    symbol: str
    timestamps_N: Times
    values_NF: npt.NDArray[np.float64]
    simulated: bool = False
    stamps_N5: npt.NDArray[np.int8] | None = None
    """Time features of the labels, where somebody computed them already."""

    def __len__(self) -> int:
        return len(self.timestamps_N)

    def rows(self, chosen: slice) -> TrainingSeries:
        """Some of the bars, sharing memory."""
        return TrainingSeries(
            self.symbol,
            self.timestamps_N[chosen],
            self.values_NF[chosen],
            self.simulated,
            None if self.stamps_N5 is None else self.stamps_N5[chosen],
        )

    def stamped(self) -> TrainingSeries:
        """The same with time features."""
        if self.stamps_N5 is not None:
            return self
        stamps = time_features(self.timestamps_N).astype(np.int8)
        return TrainingSeries(
            self.symbol, self.timestamps_N, self.values_NF, self.simulated, stamps
        )


@dataclass(frozen=True)
class View:
    """How windows are shown to a model."""

    features: FeatureSpace = "levels"
    clip: float = 5.0
    """Of levels."""


@dataclass(frozen=True)
class Variation:
    """What is changed about the windows of a training batch, one entry per window."""

    mirrored_B: npt.NDArray[np.bool_]
    weeks_B: Ints
    """How far their time stamps are moved."""


@dataclass(frozen=True)
class TrainingBatch:
    """Windows ready for a model, and where they came from."""

    x_BTF: npt.NDArray[np.float32]
    """Coded with what the first `lookback` bars tell, see `forecaster.features`."""
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


def merged(series: TrainingSeries, bars: int) -> TrainingSeries:
    """Every `bars` neighbours as one bar under the label of the last; a rest at the end is left."""
    n = len(series) // bars
    parts_NKF = series.values_NF[: n * bars].reshape(n, bars, N_FEATURES)
    values_NF = np.empty((n, N_FEATURES))
    values_NF[:, OPEN], values_NF[:, CLOSE] = parts_NKF[:, 0, OPEN], parts_NKF[:, -1, CLOSE]
    values_NF[:, HIGH] = parts_NKF[..., HIGH].max(axis=1)
    values_NF[:, LOW] = parts_NKF[..., LOW].min(axis=1)
    values_NF[:, VOLUME:] = parts_NKF[..., VOLUME:].sum(axis=1)
    labels_N = series.timestamps_N[bars - 1 :: bars][:n]
    return TrainingSeries(series.symbol, labels_N, values_NF, series.simulated)


@dataclass(frozen=True, eq=False)
class Pool:
    """Runs of bars, and the windows that fit into them, numbered through without being listed."""

    runs: Sequence[TrainingSeries]
    first_target: np.datetime64 | None = None
    """Where given, horizons start at this label or later; lookbacks may reach before it."""
    _first_row: dict[int, Ints] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", [run.stamped() for run in self.runs])

    @property
    def n_bars(self) -> int:
        return sum(map(len, self.runs))

    def symbols(self) -> set[str]:
        return {run.symbol for run in self.runs}

    def windows_per_run(self, lookback: int, horizon: int) -> Ints:
        """How many windows begin in each run, shape (R,)."""
        lengths_R = np.array([len(run) for run in self.runs], dtype=np.int64)
        usable_R = lengths_R - self._first(lookback) - lookback - horizon + 1
        usable_R[usable_R < 0] = 0
        return usable_R

    def n_windows(self, lookback: int, horizon: int) -> int:
        return int(self.windows_per_run(lookback, horizon).sum())

    def _first(self, lookback: int) -> Ints:
        """First row of each run that a window may begin at."""
        if lookback not in self._first_row:
            first_R = np.zeros(len(self.runs), np.int64)
            if self.first_target is not None:
                for r, run in enumerate(self.runs):
                    target = int(np.searchsorted(run.timestamps_N, self.first_target))
                    first_R[r] = max(0, target - lookback)
            self._first_row[lookback] = first_R
        return self._first_row[lookback]

    def gather(
        self,
        number_B: Ints,
        lookback: int,
        horizon: int,
        view: View,
        variation: Variation | None = None,
    ) -> TrainingBatch:
        """The windows of these numbers, 0 … n_windows - 1, in run and then in time order."""
        ends_R = np.cumsum(self.windows_per_run(lookback, horizon))
        run_B = np.searchsorted(ends_R, number_B, side="right")
        before_B = np.where(run_B > 0, ends_R[run_B - 1], 0)
        return self.take(run_B, number_B - before_B, lookback, horizon, view, variation)

    def take(
        self,
        run_B: Ints,
        number_B: Ints,
        lookback: int,
        horizon: int,
        view: View,
        variation: Variation | None = None,
    ) -> TrainingBatch:
        """Of each run given, its window of that number, counted within the run."""
        length = lookback + horizon
        start_B = self._first(lookback)[run_B] + number_B
        values_BTF = np.empty((len(run_B), length, N_FEATURES))
        stamp_BT = np.empty((len(run_B), length, N_STAMPS), np.int64)
        runs = [self.runs[r] for r in run_B.tolist()]
        for b, (run, start) in enumerate(zip(runs, start_B.tolist(), strict=True)):
            values_BTF[b] = run.values_NF[start : start + length]
            assert run.stamps_N5 is not None  # every run of a pool is stamped
            stamp_BT[b] = run.stamps_N5[start : start + length]
        times = [
            (run.timestamps_N[start], run.timestamps_N[start + length - 1])
            for run, start in zip(runs, start_B.tolist(), strict=True)
        ]
        if variation is not None:
            flipped = np.flatnonzero(variation.mirrored_B)
            values_BTF[flipped] = mirrored(values_BTF[flipped])
            if variation.weeks_B.any():
                stamp_BT = _moved(runs, start_B, length, variation.weeks_B)
        coded = code_windows(view.features, values_BTF, clip=view.clip, lookback=lookback)
        return TrainingBatch(
            x_BTF=coded.x_BLF,
            stamp_BT=stamp_BT,
            lookback=lookback,
            symbols=tuple(run.symbol for run in runs),
            first_B=np.array([first for first, _ in times], "datetime64[us]"),
            last_B=np.array([last for _, last in times], "datetime64[us]"),
        )

    def bars_of(self, batch: TrainingBatch) -> npt.NDArray[np.float64]:
        """The bars of a batch that was taken from here, in the units of the data, (B, T, F)."""
        length = batch.x_BTF.shape[1]
        found = []
        for symbol, first in zip(batch.symbols, batch.first_B, strict=True):
            for run in self.runs:
                at = int(np.searchsorted(run.timestamps_N, first))
                if run.symbol == symbol and at < len(run) and run.timestamps_N[at] == first:
                    found.append(run.values_NF[at : at + length])
                    break
        return np.stack(found)

    def liquidity(self) -> dict[str, float]:
        """Median traded amount per symbol over its bars in this pool."""
        amounts: dict[str, list[npt.NDArray[np.float64]]] = {}
        for run in self.runs:
            amounts.setdefault(run.symbol, []).append(run.values_NF[:, AMOUNT])
        return {symbol: float(np.median(np.concatenate(a))) for symbol, a in amounts.items()}


def _moved(
    runs: Sequence[TrainingSeries], start_B: Ints, length: int, weeks_B: Ints
) -> npt.NDArray[np.int64]:
    """Time features (B, T, 5) of labels moved by so many weeks."""
    times_BT = np.stack(
        [
            run.timestamps_N[start : start + length]
            for run, start in zip(runs, start_B.tolist(), strict=True)
        ]
    )
    return time_features(times_BT + (7 * weeks_B[:, None]).astype("timedelta64[D]")).astype(
        np.int64
    )


def validation_batches(
    pool: Pool, *, lookback: int, horizon: int, view: View, count: int, size: int
) -> list[TrainingBatch]:
    """At most `count` windows spread evenly over the pool, always the same ones."""
    total = pool.n_windows(lookback, horizon)
    if not total:
        return []
    chosen = np.unique(np.linspace(0, total - 1, count).round().astype(np.int64))
    return [
        pool.gather(chosen[i : i + size], lookback, horizon, view)
        for i in range(0, len(chosen), size)
    ]


def join(batches: Sequence[TrainingBatch]) -> TrainingBatch:
    """One batch of several with the same lookback."""
    if len(batches) == 1:
        return batches[0]
    return TrainingBatch(
        x_BTF=np.concatenate([b.x_BTF for b in batches]),
        stamp_BT=np.concatenate([b.stamp_BT for b in batches]),
        lookback=batches[0].lookback,
        symbols=tuple(symbol for b in batches for symbol in b.symbols),
        first_B=np.concatenate([b.first_B for b in batches]),
        last_B=np.concatenate([b.last_B for b in batches]),
    )


def hash_of(series: Sequence[TrainingSeries]) -> str:
    """Of all bars, in order: what names them where nobody else does."""
    bars = hashlib.blake2b(digest_size=8)
    for one in series:
        bars.update(f"{one.symbol}:{one.simulated}".encode())
        bars.update(one.timestamps_N.astype("datetime64[us]").tobytes())
        bars.update(np.ascontiguousarray(one.values_NF).tobytes())
    return bars.hexdigest()
