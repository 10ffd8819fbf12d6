"""Which windows make up which batch. Knows pools and random keys; no torch, no processes.

A batch is a pure function of (seed, step, rank, world): no state moves between steps, so a resumed
run draws what the undisturbed one would have. Steps count on through epochs, so (epoch, step) has
one number. What is drawn for a step is the whole batch; a rank takes its slice of it, so however
many ranks there are, the batch is the same.

Legend: B windows, R runs of a pool, C symbols of a pool.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forecaster.features import FeatureSpace
from forecaster.training.config import TrainingError, WindowSettings
from forecaster.training.data.pools import Pool, TrainingBatch, Variation, View, join
from forecaster.training.data.splits import Split

MOST_WEEKS = 28 * 52
"""How far time stamps are moved at most: the calendar repeats itself after 28 years."""


@dataclass(frozen=True)
class _Draw:
    """How windows of one lookback are drawn from one pool."""

    pool: Pool
    lookback: int
    count: int
    """Windows of each batch."""
    windows_R: npt.NDArray[np.int64]
    chance_R: npt.NDArray[np.float64] | None
    """Probability of each run; None: every window alike."""


class WindowPlan:
    """Batches by number.

    Raises TrainingError where a pool that batches draw from holds fewer windows than one batch
    takes of it, or the batch cannot be shared out evenly.
    """

    def __init__(
        self, split: Split, *, seed: int, batch_size: int, simulated_share: float,
        windows: WindowSettings, world: int = 1, accumulate: int = 1,
        features: FeatureSpace = "levels", coarser_share: float = 0.0,
    ) -> None:  # fmt: skip
        if batch_size % (world * accumulate):
            raise TrainingError(
                f"optimiser.batch_size={batch_size} cannot be shared evenly by {world} worker(s) "
                f"with accumulate={accumulate}; choose a multiple of {world * accumulate}"
            )
        self._seed = seed
        self._windows = windows
        self._batch_size = batch_size
        self._view = View(features, windows.clip)
        n_simulated = round(batch_size * simulated_share)
        n_coarser = round(batch_size * coarser_share)
        self._draws = {}
        for lookback in sorted(set(windows.lookbacks)):
            fit = split.coarser.n_windows(lookback, windows.horizon) >= n_coarser
            n_real = batch_size - n_simulated - n_coarser * fit
            parts = (
                ("real", split.train, n_real),
                ("coarser", split.coarser, n_coarser * fit),
                ("simulated", split.simulated, n_simulated),
            )
            self._draws[lookback] = [
                _draw(kind, pool, lookback, count, windows, _weights(pool, windows))
                for kind, pool, count in parts
                if count
            ]

    @property
    def windows(self) -> int:
        """Different windows there are at the longest lookback."""
        return sum(int(draw.windows_R.sum()) for draw in self._draws[max(self._windows.lookbacks)])

    @property
    def steps_per_epoch(self) -> int:
        """Steps that draw as many windows as there are."""
        return -(-self.windows // self._batch_size)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> TrainingBatch:
        """The rank's slice of batch number `step`."""
        key = hashlib.blake2b(f"windows:{self._seed}:{step}".encode(), digest_size=16).digest()
        rng = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
        lookback = int(rng.choice(self._windows.lookbacks))
        size = self._batch_size // world
        first, last = rank * size, (rank + 1) * size
        taken, parts = 0, []
        for draw in self._draws[lookback]:
            mine = slice(max(first - taken, 0), max(min(last - taken, draw.count), 0))
            part = self._part(draw, rng, mine)
            if part is not None:
                parts.append(part)
            taken += draw.count
        return join(parts)

    def _part(self, draw: _Draw, rng: np.random.Generator, mine: slice) -> TrainingBatch | None:
        """Draws for the whole batch, whoever asks, and builds the slice."""
        horizon, view = self._windows.horizon, self._view
        if draw.chance_R is None:
            number_B = rng.integers(0, int(draw.windows_R.sum()), draw.count)[mine]
            varied = self._varied(rng, draw.count, mine)
            if not len(number_B):
                return None
            return draw.pool.gather(number_B, draw.lookback, horizon, view, varied)
        run_B = rng.choice(len(draw.chance_R), draw.count, p=draw.chance_R)
        within_B = rng.integers(0, draw.windows_R[run_B])
        varied = self._varied(rng, draw.count, mine)
        if not len(run_B[mine]):
            return None
        return draw.pool.take(run_B[mine], within_B[mine], draw.lookback, horizon, view, varied)

    def _varied(self, rng: np.random.Generator, count: int, mine: slice) -> Variation | None:
        """Drawn for the whole batch as well; without a wish nothing is drawn."""
        windows = self._windows
        if not windows.mirrored_share and not windows.shift_calendar:
            return None
        mirrored_B = rng.random(count) < windows.mirrored_share
        weeks_B = rng.integers(0, MOST_WEEKS if windows.shift_calendar else 1, count)
        return Variation(mirrored_B[mine], weeks_B[mine])


def _weights(pool: Pool, windows: WindowSettings) -> dict[str, float] | None:
    """Weight of each symbol; None where each counts by its windows."""
    if windows.symbol_weights == "length":
        return None
    if windows.symbol_weights == "equal":
        return dict.fromkeys(pool.symbols(), 1.0)
    return {symbol: amount**0.5 for symbol, amount in pool.liquidity().items()}


def _draw(
    kind: str,
    pool: Pool,
    lookback: int,
    count: int,
    windows: WindowSettings,
    weight: dict[str, float] | None,
) -> _Draw:
    windows_R = pool.windows_per_run(lookback, windows.horizon)
    total = int(windows_R.sum())
    if total < count:
        raise TrainingError(
            f"the {kind} training bars hold {total} windows of lookback {lookback} + horizon "
            f"{windows.horizon}, but a batch takes {count} of them. Lower optimiser.batch_size, "
            "windows.lookbacks or data.simulated_share, or import more history."
        )
    if weight is None:
        return _Draw(pool, lookback, count, windows_R, None)
    symbol_R = [run.symbol for run in pool.runs]
    per_symbol: dict[str, int] = {}
    for symbol, n in zip(symbol_R, windows_R.tolist(), strict=True):
        per_symbol[symbol] = per_symbol.get(symbol, 0) + n
    share_R = np.array(
        [
            weight[symbol] * n / per_symbol[symbol] if n else 0.0
            for symbol, n in zip(symbol_R, windows_R.tolist(), strict=True)
        ]
    )
    if not share_R.sum() > 0:
        raise TrainingError(
            f"no {kind} symbol with a window of lookback {lookback} traded any amount; set "
            "windows.symbol_weights to length or equal"
        )
    return _Draw(pool, lookback, count, windows_R, share_R / share_R.sum())
