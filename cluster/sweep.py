"""A sweep from plan to result, in this process or on Ray. Knows the order; prints nothing.

A configuration's figures depend on nothing but itself, so both ways give the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from backtest.sweep import SweepPlan, SweepResult, collect, evaluate, expand, plan_sweep
from cluster.sweep_settings import SweepRequest
from market.errors import ConfigError

CHUNK = 2_000
"""Configurations per Ray task: seconds of work, so that starting it does not matter."""


def run_sweep(request: SweepRequest, loaded: dict[str, Any]) -> tuple[SweepPlan, SweepResult]:
    """Evaluate every combination. loaded: bars, and the scores of one source.

    Raises ConfigError for a grid that cannot be, BacktestInputError for scores that cannot.
    """
    if request.compat != "none":
        raise ConfigError("compat: a sweep runs by our own rules; leave compat at none")
    points = expand(request.grid, request.samples, request.seed)
    sources = {
        key: loaded.get(key)
        for key in (
            "forecasts",
            "scores",
            "path_stats",
            "groups",
            "terms",
            "actions",
            "sessions_per_year",
            "rates",
        )
    }
    base = loaded["settings"]
    plan = plan_sweep(base, points, loaded["bars"], blocks=request.blocks, **sources)
    if request.address is None and len(points) <= request.in_process:
        evaluated = [evaluate(plan, part) for part in plan.parts]
    else:
        evaluated = on_ray(plan, request.address)
    return plan, collect(plan, evaluated, earlier_trials=request.trials - 1)


def on_ray(
    plan: SweepPlan, address: str | None = None, chunk: int = CHUNK
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The parts of a plan, evaluated in chunks by Ray tasks of one thread each."""
    from cluster.session import ray_session

    spans = [
        [slice(i, i + chunk) for i in range(0, len(part.configs), chunk)] for part in plan.parts
    ]
    with ray_session("auto", sum(map(len, spans)), address):
        import ray

        task = ray.remote(num_cpus=1)(_evaluate_alone)
        waiting = []
        for part, pieces in zip(plan.parts, spans, strict=True):
            shared = ray.put((plan, part))
            waiting.append([task.remote(shared, piece) for piece in pieces])
        found = [ray.get(refs) for refs in waiting]
    return [
        (np.concatenate([s for s, _ in pieces]), np.concatenate([b for _, b in pieces]))
        for pieces in found
    ]


def _evaluate_alone(shared: tuple[SweepPlan, Any], chosen: slice) -> Any:
    import numba

    numba.set_num_threads(1)
    return evaluate(*shared, chosen)
