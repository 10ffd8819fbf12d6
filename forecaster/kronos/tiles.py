"""How many series and paths are computed together. Knows shapes, threads and memory; no networks'
insides.

Products of other shapes, or split over other threads, differ in their last bits. So a tile has a
fixed shape, its last one padded, and one thread: a forecast is then the same in any batch, and
memory and cores only decide how many tiles are in flight.

Legend: B series, S paths, L lookback, H horizon, T = L + H, C time features, F features.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from forecaster.interface import SamplingParams
from forecaster.kronos.engine import Engine, Past, Tokens
from market.errors import ConfigError


@dataclass(frozen=True)
class Tile:
    """Series × paths of one unit of work."""

    series: int
    paths: int


def tile_for(n_paths: int, width: int, device_type: str = "cpu") -> Tile:
    """The tile of a run, fixed by its number of paths, the model's width and the class of device.

    Paths are shared out evenly over tiles of at most 32 (CPU) or 64; then as many series, a power
    of two, as keep the rows of a product within 128 for widths below 512, else 64 (CPU), or 4,096.
    More rows share each weight read; fewer leave work for every core and keep the paths' keys and
    values near it. Rows are a multiple of 16.
    """
    most, rows = (32, 128 if width < 512 else 64) if device_type == "cpu" else (64, 4096)
    paths = -(-n_paths // -(-n_paths // most))
    series = 1
    while 2 * series * paths <= rows:
        series *= 2
    step = max(1, 16 // series)
    return Tile(series, step * -(-paths // step))


class Generated(NamedTuple):
    """Some series' paths, in the order asked for."""

    rows: slice
    bars: Tensor
    """(B, S, H, F) normalised units."""
    tokens: Tokens
    last: Tensor
    """(B, F) what the decoder makes of the last known bar, normalised units; NaN where no known bar
    is left in its context."""


_Part = tuple[Tensor, Tokens, Tensor]
"""Bars, tokens and the decoded last bar of one tile."""

Noise = Callable[[slice], Tensor]
"""Uniforms (B, S, H, 2) of some series; asked for as late as possible, they take most memory."""


def tiles_in_flight(
    engine: Engine, tile: Tile, lookback: int, horizon: int, threads: int, memory: int | None
) -> int:
    """One per thread, or as many as fit into `memory` bytes.

    Raises ConfigError where not even one fits.
    """
    if memory is None:
        return threads
    per_series = engine.bytes_per_series(min(lookback, engine.max_context))
    need = tile.series * (per_series + tile.paths * engine.bytes_per_path(horizon))
    if memory < need:
        raise ConfigError(
            f"memory: {memory / 2**20:,.0f} MiB do not hold one tile of {tile.series} series x "
            f"{tile.paths} paths, which takes {need / 2**20:,.0f} MiB; allow more, or ask for "
            "fewer paths, a shorter lookback or a shorter horizon"
        )
    return min(threads, memory // need)


def generate(
    engine: Engine,
    tile: Tile,
    x_BLF: Tensor,
    stamp_BTC: Tensor,
    noise: Noise,
    n_paths: int,
    sampling: SamplingParams,
    *,
    in_flight: int = 1,
    reference_rule: bool = False,
) -> Iterator[Generated]:
    """Paths of every series, a tile of series at a time, in order.

    1. Cut the series into rows of tiles, and the paths into columns; each cell is a job.
    2. The first job of a row computes the past that all cells of the row share.
    3. Each job samples and decodes its paths; the last tile is padded to the fixed shape and the
       padding cut off again.
    4. Jobs run on `in_flight` threads, only a few rows ahead of the one to be taken next, so memory
       does not grow with the number of series.
    5. Rows are put together and yielded in order.

    Results depend on nothing but the series' own rows, the tile and the settings.
    """
    horizon = stamp_BTC.shape[1] - x_BLF.shape[1]
    starts = range(0, len(x_BLF), tile.series)
    columns = range(0, n_paths, tile.paths)

    def work(start: int) -> list[Callable[[], _Part]]:
        """One job per tile of paths; the first to run computes the past that all share."""
        rows = slice(start, min(start + tile.series, len(x_BLF)))
        shared = _Shared(lambda: _start(engine, tile, x_BLF, stamp_BTC, noise, rows, horizon))

        def job(first: int) -> _Part:
            past, u = shared.get()
            chosen = torch.arange(first, first + tile.paths).clamp_(max=n_paths - 1)
            tokens = past.sample(u[:, chosen.to(u.device)], sampling, reference_rule=reference_rule)
            bars = past.decode(tokens)
            keep = (slice(rows.stop - rows.start), slice(n_paths - first))
            last = past.last_BF[: rows.stop - rows.start]
            return bars[keep], Tokens(tokens.s1[keep], tokens.s2[keep]), last

        return [lambda first=first: job(first) for first in columns]  # type: ignore[misc]

    with _workers(in_flight) as pool:
        waiting: deque[tuple[int, list[Future[_Part]]]] = deque()
        ahead = 1 + -(-in_flight // len(columns))
        for start in starts:
            waiting.append((start, [pool.submit(job) for job in work(start)]))
            if len(waiting) > ahead:
                yield _taken(*waiting.popleft())
        while waiting:
            yield _taken(*waiting.popleft())


def _start(
    engine: Engine,
    tile: Tile,
    x_BLF: Tensor,
    stamp_BTC: Tensor,
    noise: Noise,
    rows: slice,
    horizon: int,
) -> tuple[Past, Tensor]:
    """The past and the uniforms of one tile of series; the last series pads it."""
    padded = torch.arange(rows.start, rows.start + tile.series, device=x_BLF.device)
    padded.clamp_(max=rows.stop - 1)
    past = engine.past(x_BLF[padded], stamp_BTC[padded], horizon)
    return past, noise(rows).to(x_BLF)[padded - rows.start]


def _taken(start: int, jobs: list[Future[_Part]]) -> Generated:
    bars, tokens, last = zip(*(job.result() for job in jobs), strict=True)
    s1, s2 = (torch.cat(half, dim=1) for half in zip(*tokens, strict=True))
    whole = torch.cat(bars, dim=1)
    return Generated(slice(start, start + len(whole)), whole, Tokens(s1, s2), last[0])


class _Shared:
    """A value that the first thread to ask for it computes, and the others wait for."""

    def __init__(self, make: Callable[[], tuple[Past, Tensor]]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._value: tuple[Past, Tensor] | None = None

    def get(self) -> tuple[Past, Tensor]:
        with self._lock:
            if self._value is None:
                self._value = self._make()
            return self._value


@contextmanager
def _workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that each compute with one thread of torch; the caller's setting is kept."""
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            count, "tile", initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            yield pool
    finally:
        # A worker's call set the default of threads that are still to come.
        torch.set_num_threads(before)


__all__ = ["Generated", "Tile", "generate", "tile_for", "tiles_in_flight"]
