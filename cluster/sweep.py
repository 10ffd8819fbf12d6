"""A sweep from plan to result, piece by piece, in this process or on Ray. Prints nothing.

A point's figures depend on nothing but itself, so both ways give the same bits, whatever was
evaluated before an interruption and whatever after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np

from backtest.fills.stats import STATS
from backtest.sweep import SweepPlan, evaluate, plan_sweep
from backtest.sweep_grid import expand
from backtest.sweep_result import SweepResult, collect
from cluster.sweep_pieces import Pieces, identity_of
from cluster.sweep_settings import SweepRequest
from market.errors import ConfigError
from market.leases import hold

Piece = tuple[np.ndarray, np.ndarray]
MOST_POINTS, MOST_PIECES = 2_000, 64
"""A piece has at most so many points; a sweep of fewer than MOST_POINTS × MOST_PIECES, so many
pieces."""
LEAST_POINTS = 20
AHEAD = 2
"""Pieces handed to Ray per CPU, so that none waits and few are in memory."""
SOURCES = (
    "forecasts", "scores", "path_stats", "paths", "groups", "terms", "actions", "sessions_per_year",
    "rates",
)  # fmt: skip


def run_sweep(
    request: SweepRequest,
    loaded: dict[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[SweepPlan, SweepResult]:
    """Evaluate every combination. loaded: bars, and the scores of one source. progress: is told how
    many points are done, of how many.

    Finished pieces are kept in `request.pieces` until the sweep is: the same command goes on where
    an interrupted one stopped. Raises ConfigError for a grid that cannot be, BacktestInputError for
    scores that cannot.
    """
    if request.compat != "none":
        raise ConfigError("compat: a sweep runs by our own rules; leave compat at none")
    for name in ("weights", "orders", "signals"):
        if loaded.get(name) is not None:
            raise ConfigError(f"{name}: a sweep needs scores, forecasts or momentum to vary")
    points = expand(request.grid, request.samples, request.seed)
    sources = {key: loaded.get(key) for key in SOURCES}
    plan = plan_sweep(loaded["settings"], points, loaded["bars"], blocks=request.blocks, **sources)
    size = piece_size(len(points))
    kept = Pieces(request.pieces or request.table.with_suffix(".pieces"))
    width = (len(STATS), len(plan.edges) - 1)
    with hold(kept.folder, "sweep") if len(points) > size else nullcontext():
        if len(points) > size:
            kept = kept.of(identity_of(request, loaded, size))
        there = {i: kept.read(i, width) for i in range(0, len(points), size)}
        done = sum(len(piece[0]) for piece in there.values() if piece is not None)
        progress(done, len(points))
        missing = [i for i, piece in there.items() if piece is None]
        alone = request.address is None and len(points) <= request.in_process
        made = (
            in_turn(plan, missing, size) if alone else on_ray(plan, missing, size, request.address)
        )
        for i, piece in made:
            there[i] = piece
            if len(points) > size:
                kept.write(i, piece)
            done += len(piece[0])
            progress(done, len(points))
        pieces = [piece for piece in there.values() if piece is not None]
        stats, blocks = (np.concatenate([piece[k] for piece in pieces]) for k in (0, 1))
        result = collect(plan, stats, blocks, earlier_trials=request.trials - 1)
    kept.remove()
    return plan, result


def piece_size(points: int) -> int:
    """Points of a piece."""
    return min(MOST_POINTS, max(LEAST_POINTS, -(-points // MOST_PIECES)))


def in_turn(plan: SweepPlan, begins: list[int], size: int) -> Iterator[tuple[int, Piece]]:
    """The pieces that begin there, one after another, each on all threads."""
    for i in begins:
        yield i, evaluate(plan, slice(i, i + size))


def on_ray(
    plan: SweepPlan, begins: list[int], size: int, address: str | None = None
) -> Iterator[tuple[int, Piece]]:
    """The pieces that begin there, by Ray tasks of one thread each, as they are finished."""
    from cluster.session import ray_session

    with ray_session("auto", len(begins), address):
        import ray

        task = ray.remote(num_cpus=1)(_evaluate_alone)
        shared = ray.put(plan)
        cpus = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
        room = max(int(cpus), 1) * AHEAD
        waiting: dict[Any, int] = {}
        left = iter(begins)
        while True:
            while len(waiting) < room and (i := next(left, None)) is not None:
                waiting[task.remote(shared, slice(i, i + size))] = i
            if not waiting:
                return
            ready, _ = ray.wait(list(waiting), num_returns=1)
            for reference in ready:
                yield waiting.pop(reference), ray.get(reference)


def _evaluate_alone(plan: SweepPlan, chosen: slice) -> Piece:
    import numba

    numba.set_num_threads(1)
    return evaluate(plan, chosen)
