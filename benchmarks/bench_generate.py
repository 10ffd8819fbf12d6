"""Path-steps per second of the plain generation and of the engine, on random weights.

    python benchmarks/bench_generate.py [--threads 2] [--repeats 5] [--only mini-32,small-32]

A path-step is one sampled bar of one path. Both run in this process on the same inputs; encoding,
decoding, denormalising, repair and summaries are included. The reference is measured on one
series with eight paths and few steps: its cost is linear in series and paths (see
`reference_rate`). FLOPs are those of the matrix products the engine executes;
their peak is measured here, with the same shapes and threads, one product after another.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from forecaster import Kronos, KronosForecaster, KronosTokenizer, SamplingParams, WindowBatch
from forecaster.interface import Precision
from forecaster.kronos import reference
from forecaster.kronos.engine import Engine
from forecaster.noise import uniforms
from forecaster.normalize import normalise
from forecaster.summary import summarise
from market.windows import time_features

SIZES = {
    "mini": (4, 256, 4, 512, 2048),
    "small": (8, 512, 8, 1024, 512),
    "base": (12, 832, 16, 2048, 512),
}
SAMPLING = SamplingParams(temperature=1.0, top_k=0, top_p=0.9)
REFERENCE_STEPS = (4, 16)


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    model: str
    series: int
    paths: int
    lookback: int
    horizon: int

    @property
    def steps(self) -> int:
        return self.series * self.paths * self.horizon


CASES = {
    "mini-32": Case("mini", 16, 32, 384, 128),
    "small-32": Case("small", 4, 32, 384, 128),
    "mini-10": Case("mini", 16, 10, 400, 24),
}
GPU_CASES = {
    "small-gpu": Case("small", 256, 32, 384, 128),
    "base-gpu": Case("base", 128, 32, 384, 128),
}
GROWTH = {
    "B": [Case("mini", b, 16, 256, 32) for b in (16, 32, 64)],
    "S": [Case("mini", 16, s, 256, 32) for s in (16, 32, 64)],
    "H": [Case("mini", 16, 16, 256, h) for h in (32, 64, 128)],
}


def networks(size: str) -> tuple[KronosTokenizer, Kronos]:
    """Random weights in the published sizes, 10 + 10 bits."""
    torch.manual_seed(0)
    layers, width, heads, ff, _ = SIZES[size]
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
    """Median wall time, after one run that lets allocator and caches settle."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def reference_rate(
    case: Case, tokenizer: KronosTokenizer, predictor: Kronos, device: str, repeats: int
) -> float:
    """Path-steps/s of the plain generation on eight paths of one series.

    Two short horizons around the case's mean window give the cost of a step and what encoding and
    decoding cost once; the case's horizon then shares that cost.
    """
    context, paths = SIZES[case.model][-1], 8

    def taken(steps: int) -> float:
        one = windows(1, case.lookback + (case.horizon - steps) // 2, steps)
        x, _, _ = normalise(one.values_BLF)
        stamp = time_features(np.concatenate((one.timestamps_BL, one.future_BH), axis=1))
        u = uniforms(0, one.symbols, one.as_of_B, paths, steps)
        inputs = [torch.from_numpy(part).to(device) for part in (x, stamp, u)]
        run = partial(reference.generate, tokenizer, predictor, *inputs, SAMPLING, context)
        return seconds(run, repeats)

    few, many = (taken(steps) for steps in REFERENCE_STEPS)
    per_step = (many - few) / (REFERENCE_STEPS[1] - REFERENCE_STEPS[0])
    once = max(0.0, few - REFERENCE_STEPS[0] * per_step)
    return paths * case.horizon / (once + case.horizon * per_step)


def products(case: Case, engine: Engine, rows: int) -> list[tuple[tuple[int, ...], float]]:
    """((batch, m, k, n), how many times) of every matrix product the engine executes per case.

    Tables, norms, softmax and sampling are not counted; nor is what a padded tile computes twice.
    """
    d, ff = engine.predictor.d_model, engine.stack.blocks[0].down.weight.shape[0]
    heads, layers = engine.stack.blocks[0].heads, len(engine.stack.blocks)
    e, eff = engine.tokenizer.d_model, engine.decoder.blocks[0].down.weight.shape[0]
    e_heads, coders = engine.decoder.blocks[0].heads, len(engine.decoder.blocks)
    vocabulary = engine.head_s1.weight.shape[1] + engine.head_s2.weight.shape[1]
    past, new = case.series * case.lookback, case.steps
    s, length, horizon = case.paths, case.lookback, case.horizon
    found: list[tuple[tuple[int, ...], float]] = []

    def dense(count: float, k: int, n: int) -> None:
        found.append(((1, rows, k, n), count / rows))

    def block(count: float, width: int, inner: int, times: float) -> None:
        for k, n in ((width, 3 * width), (width, width), (width, 2 * inner), (inner, width)):
            dense(count * times, k, n)

    def attention(width: int, n_heads: int, times: float) -> None:
        """The paths' queries to the past and to their own suffix; causal inside the past."""
        each = width // n_heads
        series = times * case.series * horizon
        found.append(((n_heads, s, each, length), series))
        found.append(((n_heads, s, length, each), series))
        near = max(1, horizon // 2)
        found.append(((n_heads * s, 1, each, near), series))
        found.append(((n_heads * s, 1, near, each), series))

    def causal(width: int, n_heads: int, times: float) -> None:
        each = width // n_heads
        half = length // 2
        found.append(((n_heads, length, each, half), times * case.series))
        found.append(((n_heads, length, half, each), times * case.series))

    block(past + new, d, ff, layers)
    block(2 * past + new, e, eff, coders)
    dense(past + new, d, 2 * d)
    dense(new, d, d)
    dense(new, d, vocabulary)
    attention(d, heads, layers)
    attention(d, 4, 1)
    attention(e, e_heads, coders)
    causal(d, heads, layers)
    causal(e, e_heads, 2 * coders)
    return found


def flops(found: list[tuple[tuple[int, ...], float]]) -> float:
    return sum(2.0 * b * m * k * n * times for (b, m, k, n), times in found)


def matmul_peak(device: str, dtype: torch.dtype, threads: int, width: int) -> float:
    """FLOP/s of this machine's best product of the model's width: rows × D · D × 4D, D = width.

    The best of 256 to 4,096 rows, and of one product on all threads against one per thread.
    """
    best = 0.0
    for rows in (256, 1024, 4096):
        x = torch.randn(rows, width, device=device).to(dtype)
        w = torch.randn(width, 4 * width, device=device).to(dtype)
        work = 2.0 * rows * width * 4 * width

        def run(times: int, x: torch.Tensor = x, w: torch.Tensor = w) -> None:
            for _ in range(times):
                x @ w
            if device != "cpu":
                torch.cuda.synchronize()

        times = max(8, int(4e9 // work))
        best = max(best, times * work / seconds(partial(run, times), 5))
        if device == "cpu":
            with ThreadPoolExecutor(
                threads, initializer=torch.set_num_threads, initargs=(1,)
            ) as pool:
                each = partial(pool.map, run, [times] * threads)
                best = max(best, threads * times * work / seconds(lambda: list(each()), 5))  # noqa: B023 - called at once
    return best


def distance(
    case: Case, tokenizer: KronosTokenizer, predictor: Kronos, device: str = "cpu"
) -> tuple[float, float]:
    """Mean and largest total variation of next-token distributions, bfloat16 to float32."""
    few = windows(2, case.lookback, 16)
    x, _, _ = normalise(few.values_BLF)
    stamp = time_features(np.concatenate((few.timestamps_BL, few.future_BH), axis=1))
    given = x, stamp.astype(np.int64), uniforms(0, few.symbols, few.as_of_B, 8, 16)
    *inputs, u = (torch.from_numpy(part).to(device) for part in given)
    tokenizer, predictor = tokenizer.to(device), predictor.to(device)
    context = SIZES[case.model][-1]
    exact, rough = (
        Engine(tokenizer, predictor, context, kind).past(*inputs, 16)
        for kind in ("float32", "bfloat16")
    )
    tokens = exact.sample(u, SAMPLING)
    apart = torch.stack(
        [
            (ours.softmax(-1) - theirs.softmax(-1)).abs().sum(-1) / 2
            for ours, theirs in zip(rough.replay(tokens), exact.replay(tokens), strict=True)
        ]
    )
    return float(apart.mean()), float(apart.max())


def engine_rate(forecaster: KronosForecaster, case: Case, repeats: int) -> float:
    """Path-steps/s, summaries included, paths let go as they are summarised."""
    batch = windows(case.series, case.lookback, case.horizon)

    def run() -> None:
        summarise(forecaster.stream_paths(batch, n_paths=case.paths, sampling=SAMPLING, seed=0))

    return case.steps / seconds(run, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="names of cases, separated by commas")
    parser.add_argument("--precision", choices=["float32", "bfloat16", "both"], default="both")
    parser.add_argument("--growth", action="store_true", help="show the cost against B, S and H")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cases = CASES if device == "cpu" else GPU_CASES
    chosen = args.only.split(",") if args.only else list(cases)
    kinds: list[Precision] = ["float32", "bfloat16"]
    if args.precision != "both":
        kinds = [args.precision]
    print(f"{device}, {args.threads} threads, torch {torch.__version__}, median of {args.repeats}")
    print(
        f"{'case':<28}{'precision':<10}{'reference':>10}{'engine':>12}{'ratio':>9}{'GFLOP/s':>10}"
        f"{'peak':>9}{'share':>8}{'peak MiB':>10}"
    )
    for name in chosen:
        case = cases[name]
        tokenizer, predictor = (network.to(device) for network in networks(case.model))
        plain = reference_rate(case, tokenizer, predictor, device, args.repeats)
        for kind in kinds:
            forecaster = KronosForecaster(
                tokenizer,
                predictor,
                max_context=SIZES[case.model][-1],
                device=device,
                precision=kind,
                threads=args.threads,
            )
            fast = engine_rate(forecaster, case, args.repeats)
            engine, tile = forecaster.engine, forecaster.tile(case.paths)
            work = flops(products(case, engine, tile.series * tile.paths)) / case.steps
            peak = matmul_peak(device, engine.stack.dtype, args.threads, predictor.d_model)
            if device == "cpu":
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            else:
                memory = torch.cuda.max_memory_allocated() / 2**20
            label = f"{case.model} {case.series}x{case.paths} {case.lookback}->{case.horizon}"
            print(
                f"{label:<28}{kind:<10}{plain:>10,.1f}{fast:>12,.0f}{fast / plain:>8,.0f}x"
                f"{fast * work / 1e9:>10,.0f}{peak / 1e9:>9,.0f}{fast * work / peak:>8.0%}"
                f"{memory:>10,.0f}",
                flush=True,
            )
        if "bfloat16" in kinds and device == "cpu":
            mean, largest = distance(case, tokenizer, predictor)
            print(f"  total variation bfloat16 to float32: mean {mean:.5f}, largest {largest:.5f}")
    if args.growth:
        for letter, row in GROWTH.items():
            forecaster = KronosForecaster(
                *networks("mini"), max_context=2048, device=device, threads=args.threads
            )
            taken = [case.steps / engine_rate(forecaster, case, 3) for case in row]
            sizes = {"B": "series", "S": "paths", "H": "horizon"}[letter]
            shown = ", ".join(
                f"{getattr(case, sizes)}: {value:.2f} s"
                for case, value in zip(row, taken, strict=True)
            )
            print(f"growth in {letter}: {shown}")


if __name__ == "__main__":
    main()
