"""Path-steps per second of the plain generation and of the engine, on random weights.

    python benchmarks/bench_generate.py [--model mini|small] [--threads 2]

A path-step is one sampled bar of one path. Both run in this process on the same inputs; encoding,
decoding and denormalising are included. The reference is measured on one series, with one path and
with eight: its cost is linear in series and paths beyond a few.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from forecaster import Kronos, KronosForecaster, KronosTokenizer, SamplingParams, WindowBatch
from forecaster.kronos import reference
from forecaster.kronos.sampling import uniforms
from forecaster.normalize import normalise
from market.windows import time_features

SIZES = {"mini": (4, 256, 4, 512), "small": (8, 512, 8, 1024)}


def networks(size: str) -> tuple[KronosTokenizer, Kronos]:
    """Random weights in the published sizes, 10 + 10 bits."""
    torch.manual_seed(0)
    layers, width, heads, ff = SIZES[size]
    rates = {"ffn_dropout_p": 0.0, "attn_dropout_p": 0.0, "resid_dropout_p": 0.0}
    tokenizer = KronosTokenizer(
        6, 256, 4, 512, 4, 4, s1_bits=10, s2_bits=10, beta=0.05, gamma0=1.0, gamma=1.1,
        zeta=0.05, group_size=4, **rates,
    )  # fmt: skip
    predictor = Kronos(
        10, 10, layers, width, heads, ff, token_dropout_p=0.0, learn_te=True, **rates
    )
    return tokenizer.eval(), predictor.eval()


def windows(series: int, lookback: int, horizon: int) -> WindowBatch:
    """Random-walk bars."""
    rng = np.random.default_rng(0)
    close = 100 * np.exp(rng.normal(0, 0.02, (series, lookback, 1)).cumsum(axis=1))
    values = close * np.array([1.0, 1.01, 0.99, 1.0, 1e4, 1e6])
    start = np.datetime64("2020-01-01", "us")
    times = start + np.arange(lookback + horizon) * np.timedelta64(1, "D")
    times = np.broadcast_to(times, (series, lookback + horizon))
    return WindowBatch(
        tuple(f"S{i}" for i in range(series)),
        times[:, lookback - 1],
        values,
        times[:, :lookback],
        times[:, lookback:],
    )


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median wall time, after three runs that let allocator and caches settle."""
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SIZES, default="mini")
    parser.add_argument("--series", type=int, default=16)
    parser.add_argument("--paths", type=int, default=32)
    parser.add_argument("--lookback", type=int, default=400)
    parser.add_argument("--horizon", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer, predictor = networks(args.model)
    sampling = SamplingParams(temperature=1.0, top_k=0, top_p=0.9)

    one = windows(1, args.lookback, args.horizon)
    x, _, _ = normalise(one.values_BLF)
    stamp = time_features(np.concatenate((one.timestamps_BL, one.future_BH), axis=1))

    def plain(paths: int) -> float:
        u = uniforms(0, one.symbols, one.as_of_B, paths, args.horizon)
        inputs = (torch.from_numpy(part) for part in (x, stamp, u))
        run = partial(reference.generate, tokenizer, predictor, *inputs, sampling, 512)
        return paths * args.horizon / seconds(run, args.repeats)

    plain_1, plain_8 = plain(1), plain(8)
    small = KronosForecaster(tokenizer, predictor, max_context=2048, device="cpu", tile_series=1)
    single = args.horizon / seconds(
        lambda: small.sample_paths(one, n_paths=1, sampling=sampling, seed=0), args.repeats
    )
    forecaster = KronosForecaster(tokenizer, predictor, max_context=2048, device="cpu")
    batch = windows(args.series, args.lookback, args.horizon)
    steps = args.series * args.paths * args.horizon
    fast = steps / seconds(
        lambda: forecaster.sample_paths(batch, n_paths=args.paths, sampling=sampling, seed=0),
        args.repeats,
    )
    print(
        f"{args.model}, {args.series} series x {args.paths} paths, {args.lookback} -> "
        f"{args.horizon}, {args.threads} threads, float32, torch {torch.__version__}"
    )
    print(f"reference {plain_1:10,.1f} path-steps/s (1 series, 1 path)")
    print(f"reference {plain_8:10,.1f} path-steps/s (1 series, 8 paths)")
    print(f"engine    {single:10,.1f} path-steps/s (1 series, 1 path), {single / plain_1:,.1f} x")
    print(f"engine    {fast:10,.1f} path-steps/s, {fast / plain_8:,.1f} x")


if __name__ == "__main__":
    main()
