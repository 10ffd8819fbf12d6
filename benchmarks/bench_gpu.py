"""One command that checks the engine on a GPU against the CPU, then measures it.

    python benchmarks/bench_gpu.py --out gpu.md [--device cpu --quick]

Needs torch, numpy and safetensors alone. Checks first: logits against the CPU's, forecasts of
other batches bit for bit, bfloat16's distance. Then path-steps/s of the published sizes on random
weights, and a universe of nano forecasts, each with its share of the matmul peak and of the memory
bandwidth, both measured here on the same device. Exits with 1 where a check fails. `--quick` makes
every size small: what can be tried on a machine without a GPU; its figures say nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from bench_generate import (
    SAMPLING,
    SIZES,
    Case,
    distance,
    flops,
    matmul_peak,
    networks,
    products,
    seconds,
    windows,
)

from forecaster import KronosForecaster, SamplingParams, WindowBatch
from forecaster.kronos.engine import Engine, Tokens
from forecaster.noise import uniforms
from forecaster.normalize import normalise
from forecaster.registry import load_forecaster
from forecaster.summary import summarise
from market.windows import time_features

CASES = (Case("small", 128, 32, 384, 128), Case("base", 64, 32, 384, 128))
UNIVERSE = Case("nano", 10_000, 64, 256, 20)
LOGITS = 5e-4
"""Largest difference of float32 logits from the CPU's, relative to max(1, |logit|)."""
ROUGH = 0.02
"""Mean total variation of next-token distributions that bfloat16 may be away from float32."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    found: str
    good: bool = True


def take(batch: WindowBatch, order: list[int]) -> WindowBatch:
    return replace(
        batch,
        symbols=tuple(batch.symbols[i] for i in order),
        as_of_B=batch.as_of_B[order],
        values_BLF=batch.values_BLF[order],
        timestamps_BL=batch.timestamps_BL[order],
        future_BH=batch.future_BH[order],
    )


def inputs(batch: WindowBatch, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised bars (B, L, F), and time features of lookback and horizon (B, L + H, C)."""
    x, _, _ = normalise(batch.values_BLF)
    stamp = time_features(np.concatenate((batch.timestamps_BL, batch.future_BH), axis=1))
    return torch.from_numpy(x).to(device), torch.from_numpy(stamp.astype(np.int64)).to(device)


def against_the_cpu(device: str) -> Row:
    """Logits that both devices see before the same sampled tokens."""
    batch, steps = windows(3, 96, 24), 24
    u = torch.from_numpy(uniforms(0, batch.symbols, batch.as_of_B, 8, steps))
    nets = networks("mini")
    past = Engine(*nets, 2048).past(*inputs(batch, "cpu"), steps)
    tokens = past.sample(u, SAMPLING)
    expected = past.replay(tokens)
    moved = Engine(*(net.to(device) for net in nets), 2048).past(*inputs(batch, device), steps)
    found = moved.replay(Tokens(*(ids.to(device) for ids in tokens)))
    worst = max(
        float(((ours.cpu() - theirs).abs() / theirs.abs().clamp_min(1)).max())
        for ours, theirs in zip(found, expected, strict=True)
    )
    return Row("float32 logits, largest difference from the CPU's", f"{worst:.1e}", worst <= LOGITS)


def in_any_batch(device: str, precision: str) -> Row:
    """Twelve series together, shuffled, and in parts: equal bit for bit."""
    batch = windows(12, 96, 24)
    forecaster = KronosForecaster(
        *networks("mini"), max_context=2048, device=device, precision=precision
    )

    def closes(part: WindowBatch) -> dict[str, np.ndarray]:
        made = forecaster.sample_paths(part, n_paths=10, sampling=SAMPLING, seed=1)
        return dict(zip(part.symbols, made.values_BSHF, strict=True))

    whole = closes(batch)
    order = [7, 2, 11, 0, 5, 9, 1, 10, 4, 8, 3, 6]
    cuts = [order, *([i] for i in range(3)), list(range(5)), list(range(5, 12))]
    same = all(
        np.array_equal(paths, whole[name])
        for cut in cuts
        for name, paths in closes(take(batch, cut)).items()
    )
    return Row(f"{precision}: other batches give the same bits", "yes" if same else "no", same)


def roughness(device: str) -> Row:
    mean, largest = distance(CASES[0], *networks("small"), device=device)
    found = f"mean {mean:.4f}, largest {largest:.4f}"
    return Row("bfloat16, total variation of next-token distributions", found, mean < ROUGH)


def bandwidth(device: str) -> float:
    """Bytes/s of a copy, read and written."""
    numbers = torch.empty(2**27 if device != "cpu" else 2**24, device=device)
    other = torch.empty_like(numbers)

    def run() -> None:
        for _ in range(10):
            other.copy_(numbers)
        settle(device)

    return 10 * 2 * numbers.numel() * 4 / seconds(run, 5)


def settle(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def bytes_moved(case: Case, engine: Engine) -> float:
    """What every step must at least read: weights once per tile row of products, the paths' own
    keys and values, and the lookback's once per tile."""
    width = 2 if engine.stack.dtype == torch.bfloat16 else 4
    d, layers = engine.predictor.d_model, len(engine.stack.blocks)
    weights = sum(p.numel() for p in engine.predictor.parameters()) * width
    own = case.series * case.paths * (case.horizon / 2) * 2 * d * layers * width
    past = case.series * case.lookback * 2 * d * layers * width
    return case.horizon * (weights + own + past)


def rate(device: str, case: Case, precision: str, peak: float, copy: float) -> Row:
    """Path-steps/s end to end: encoding, sampling, decoding, repair and summaries."""
    if case.model == "nano":
        forecaster = load_forecaster("nano", device=device, precision=precision).forecaster
        context, sampling = 512, SamplingParams()
    else:
        context, sampling = SIZES[case.model][-1], SAMPLING
        forecaster = KronosForecaster(
            *networks(case.model), max_context=context, device=device, precision=precision
        )
    assert isinstance(forecaster, KronosForecaster)
    batch = windows(case.series, case.lookback, case.horizon)

    def run() -> None:
        summarise(forecaster.stream_paths(batch, n_paths=case.paths, sampling=sampling, seed=0))
        settle(device)

    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    taken = seconds(run, 2 if case.model == "nano" else 3)
    engine, tile = forecaster.engine, forecaster.tile(case.paths)
    work = flops(products(case, engine, tile.series * tile.paths))
    memory = torch.cuda.max_memory_allocated() / 2**30 if device != "cpu" else float("nan")
    shape = f"{case.series} x {case.paths}, {case.lookback} -> {case.horizon}"
    return Row(
        f"{case.model} {shape}, {precision}",
        f"{case.steps / taken:,.0f} path-steps/s, {taken:.2f} s, {work / taken / peak:.1%} of the "
        f"matmul peak, {bytes_moved(case, engine) / taken / copy:.1%} of the bandwidth, "
        f"{memory:.1f} GiB",
    )


def training_step(device: str, batch: int) -> Row:
    """Forward and backward of the small predictor on windows of 512 tokens, bfloat16."""
    _, predictor = networks("small")
    predictor = predictor.to(device).train()
    ids = [torch.randint(0, 1024, (batch, 512), device=device) for _ in range(2)]
    stamp = torch.zeros(batch, 512, 5, dtype=torch.long, device=device)

    def run() -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            s1, s2 = predictor(*ids, stamp)
            loss = s1.float().logsumexp(-1).mean() + s2.float().logsumexp(-1).mean()
        loss.backward()
        predictor.zero_grad()
        settle(device)

    taken = seconds(run, 3)
    what = f"training step, small, {batch} x 512, bfloat16"
    return Row(what, f"{batch * 512 / taken:,.0f} tokens/s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.device != "cpu" and not torch.cuda.is_available():
        print("no CUDA device here; --device cpu --quick tries the script", file=sys.stderr)
        return 2
    torch.backends.cuda.matmul.allow_tf32 = False
    cases, universe = CASES, UNIVERSE
    if args.quick:
        cases = tuple(replace(case, model="mini", series=2, horizon=8) for case in cases)
        universe = replace(universe, series=16)
    name = "CPU" if args.device == "cpu" else torch.cuda.get_device_name(args.device)
    peaks = {
        precision: matmul_peak(args.device, dtype, torch.get_num_threads(), 512)
        for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    }
    copy = bandwidth(args.device)
    steps: list[Callable[[], Row]] = [
        lambda: against_the_cpu(args.device),
        lambda: in_any_batch(args.device, "float32"),
        lambda: in_any_batch(args.device, "bfloat16"),
        lambda: roughness(args.device),
        *(
            lambda case=case, kind=kind: rate(args.device, case, kind, peaks[kind], copy)  # type: ignore[misc]
            for case in (*cases, universe)
            for kind in ("bfloat16", "float32")
        ),
        lambda: training_step(args.device, 2 if args.quick else 32),
    ]
    heading = (
        f"{name}, torch {torch.__version__}: matmul {peaks['bfloat16'] / 1e12:,.1f} TFLOP/s "
        f"bfloat16, {peaks['float32'] / 1e12:,.1f} float32; copies {copy / 1e9:,.0f} GB/s"
    )
    lines = [heading, "", "| what | found |", "|---|---|"]
    print("\n".join(lines), flush=True)
    good, begun = True, time.perf_counter()
    for step in steps:
        row = step()
        good = good and row.good
        lines.append(f"| {row.what} | {row.found}{'' if row.good else ' **FAILED**'} |")
        print(lines[-1], f"({time.perf_counter() - begun:.0f} s)", flush=True)
    if args.out is not None:
        args.out.write_text("\n".join(lines) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
