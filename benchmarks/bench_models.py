"""What a forecast of one model costs against another's, in turn in one process.

    python benchmarks/bench_models.py --models nano-levels nano [--series 16 --paths 64 --repeats 5]

Processor seconds of `sample_paths` on made-up bars, one thread, everything included. The ratio is
the median over the rounds; each runs every model once, so other work beside it counts for all.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from forecaster import SamplingParams, WindowBatch, load_forecaster
from market.processes import DAILY, simulate_processes


def windows(series: int, lookback: int, horizon: int) -> WindowBatch:
    made = simulate_processes(1, series, lookback + horizon, DAILY)
    labels = np.stack([one.timestamps_T for one in made])
    return WindowBatch(
        symbols=tuple(f"S{i}" for i in range(series)),
        as_of_B=labels[:, lookback - 1],
        values_BLF=np.stack([one.values_TF[:lookback] for one in made]),
        timestamps_BL=labels[:, :lookback],
        future_BH=labels[:, lookback:],
    )


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--models", nargs="+", default=["nano-levels", "nano"])
    parse.add_argument("--series", type=int, default=16)
    parse.add_argument("--lookback", type=int, default=256)
    parse.add_argument("--horizon", type=int, default=20)
    parse.add_argument("--paths", type=int, default=64)
    parse.add_argument("--repeats", type=int, default=5)
    args = parse.parse_args()
    torch.set_num_threads(1)
    batch = windows(args.series, args.lookback, args.horizon)
    forecasters = {name: load_forecaster(name, threads=1).forecaster for name in args.models}

    def seconds(name: str) -> float:
        start = time.process_time()
        forecasters[name].sample_paths(
            batch, n_paths=args.paths, sampling=SamplingParams(top_p=1.0), seed=1
        )
        return time.process_time() - start

    for name in args.models:
        seconds(name)
    rounds = [{name: seconds(name) for name in args.models} for _ in range(args.repeats)]
    first = args.models[0]
    for name in args.models:
        middle = statistics.median(r[name] for r in rounds)
        ratio = statistics.median(r[name] / r[first] for r in rounds)
        print(f"{name:<14} {middle:.3f} s of processor time, {ratio:.2f} x {first}")


if __name__ == "__main__":
    main()
