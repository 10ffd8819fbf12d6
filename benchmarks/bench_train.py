"""How fast training reads bars, computes steps, and scales over workers.

    python benchmarks/bench_train.py loader  [--lookback 256 --horizon 32 --batch 64]
    python benchmarks/bench_train.py step    [--size nano|mini|small --batch 16 --steps 30]
    python benchmarks/bench_train.py workers [--size nano --batch 16 --steps 60]

All on a simulated market of 60 symbols × 2,500 sessions, stored as the memory-mapped series that
workers read.
loader: windows per second of the batches training draws (drawn, cut, normalised, stamped), beside a
loop that slices one pandas DataFrame per sample, which is how the reference's dataset does it.
step: one process and one thread; milliseconds per step of the real loop, the share of it spent
waiting for data, and the matrix products' rate (FLOPs that torch counts in forward and backward
passes, the frozen tokenizer's included) as a share of the best rate of a product of the model's
width on one thread, measured here.
workers: the job as `candlecast train predictor` runs it, with one and with two workers of one
thread each, the same batch in all; bars per second are medians over the logged steps. Ray runs its
workers at low priority, so anything else at work on the machine shows.
Prints one JSON line per measurement.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from cluster.training.job import run_training
from cluster.training.request import TrainingRequest
from forecaster.training import PredictorTraining, Surroundings, TrainingRun, TrainingSeries
from forecaster.training.data.series_file import open_series, store_series
from forecaster.training.data.sources import simulated_series
from forecaster.training.objectives import PredictorObjective
from forecaster.training.run_log import read_metrics
from forecaster.training.simulations import SimulatedMarkets
from market.fields import FEATURES

MARKET = SimulatedMarkets(seeds=(1900,), n_symbols=60, n_sessions=2500)
SIZES = {
    "nano": {"n_layers": 3, "d_model": 128, "n_heads": 4, "ff_dim": 256},
    "mini": {"n_layers": 4, "d_model": 256, "n_heads": 4, "ff_dim": 512},
    "small": {"n_layers": 8, "d_model": 512, "n_heads": 8, "ff_dim": 1024},
}
STAMPS = ("minute", "hour", "weekday", "day", "month")
WARM_UP = 3


def settings_of(args: argparse.Namespace, steps: int) -> PredictorTraining:
    """A predictor on nano's tokens."""
    return PredictorTraining.model_validate(
        {
            "seed": 1,
            "model": {"s1_bits": 8, "s2_bits": 8, **SIZES[args.size]},
            "data": {
                "train_through": "2013-12-31",
                "validation_through": "2015-12-31",
                "purge_bars": args.horizon,
            },
            "windows": {
                "lookbacks": [args.lookback],
                "horizon": args.horizon,
                "validation_horizon": args.horizon,
            },
            "optimiser": {
                "steps": steps,
                "batch_size": args.batch,
                "max_lr": 1e-3,
                "clip_norm": 3.0,
            },
            "run": {
                "log_every": 10,
                "validate_every": steps,
                "checkpoint_every": steps,
                "validation_windows": 8,
            },
        }
    )


def mapped(root: Path) -> list[TrainingSeries]:
    """The market through files, as real bars."""
    root.mkdir()
    series = [
        TrainingSeries(s.symbol, s.timestamps_N, s.values_NF) for s in simulated_series(MARKET)
    ]
    store_series(root, series, "bench")
    return open_series(root)


def nano_tokenizer() -> str:
    from forecaster.registry import KNOWN

    return KNOWN["nano"].tokenizer


def per_second(work: Callable[[], int], seconds: float = 4.0) -> float:
    """What the work returns, summed, per second."""
    work()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        done += work()
    return done / (time.perf_counter() - began)


def loader(args: argparse.Namespace, root: Path) -> dict[str, Any]:
    run = TrainingRun(settings_of(args, 10), mapped(root / "series"), tokenizer=nano_tokenizer())
    step = iter(range(10**9))
    ours = per_second(lambda: len(run.plan.batch(next(step)).symbols))

    length = args.lookback + args.horizon
    frames = [_frame(one) for one in run.split.train.runs if len(one) >= length]
    rng = np.random.default_rng(1)

    def sample() -> int:
        frame = frames[rng.integers(len(frames))]
        first = int(rng.integers(0, len(frame) - length + 1))
        window = frame.iloc[first : first + length]
        x = window[list(FEATURES)].values.astype(np.float32)
        window[list(STAMPS)].values.astype(np.float32)
        past = x[: args.lookback]
        np.clip((x - past.mean(axis=0)) / (past.std(axis=0) + 1e-5), -5, 5)
        return 1

    sliced = per_second(sample)
    return {
        "windows_per_second": round(ours),
        "pandas_per_second": round(sliced),
        "ratio": round(ours / sliced, 1),
    }


def _frame(series: TrainingSeries) -> pd.DataFrame:
    frame = pd.DataFrame(series.values_NF, columns=list(FEATURES))
    assert series.stamps_N5 is not None
    for k, name in enumerate(STAMPS):
        frame[name] = series.stamps_N5[:, k]
    return frame


def step(args: argparse.Namespace, root: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    settings = settings_of(args, WARM_UP * 10 + args.steps)
    run = TrainingRun(settings, mapped(root / "series"), tokenizer=nano_tokenizer())
    assert run.tokenizer is not None
    batch = run.plan.batch(0)
    objective = PredictorObjective(run.model, run.tokenizer, settings)  # type: ignore[arg-type]
    objective.train()
    with FlopCounterMode(display=False) as counter:
        losses = objective(
            torch.from_numpy(batch.x_BTF), torch.from_numpy(batch.stamp_BT), batch.lookback
        )
        losses["loss"].backward()
    flops = counter.get_total_flops()
    run.model.zero_grad(set_to_none=True)
    run.train(root / "run", Surroundings())
    lines = read_metrics(root / "run")[WARM_UP:]
    seconds = statistics.median(line["step_ms"] for line in lines) / 1000
    rate, peak = flops / seconds, _peak(SIZES[args.size]["d_model"], batch.x_BTF.shape)
    return {
        "step_ms": round(1000 * seconds, 1),
        "bars_per_second": round(statistics.median(line["bars_per_second"] for line in lines)),
        "wait_share": round(statistics.mean(line["wait_share"] for line in lines), 4),
        "gflops": round(rate / 1e9, 1),
        "peak_gflops": round(peak / 1e9, 1),
        "share_of_peak": round(rate / peak, 3),
    }


def _peak(width: int, shape: tuple[int, ...]) -> float:
    """FLOP/s of the product (B·T, D) × (D, 4·D)."""
    rows = shape[0] * shape[1]
    a, b = torch.randn(rows, width), torch.randn(width, 4 * width)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - began)
    return 2 * rows * width * 4 * width / min(times)


def workers(args: argparse.Namespace, root: Path) -> dict[str, Any]:
    rates = {}
    for n in (1, 2):
        settings = settings_of(args, args.steps)
        data = settings.data.model_copy(update={"simulated": MARKET, "simulated_share": 1.0})
        request = TrainingRequest(
            settings=settings.model_copy(update={"data": data}),
            out=root / f"workers-{n}",
            tokenizer="nano",
            workers=n,
        )
        run_training(request)
        lines = read_metrics(request.out)[1:]
        rates[n] = statistics.median(line["bars_per_second"] for line in lines)
    return {
        "bars_per_second_1": round(rates[1]),
        "bars_per_second_2": round(rates[2]),
        "ratio": round(rates[2] / rates[1], 2),
    }


def main() -> None:
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse.add_argument("what", choices=("loader", "step", "workers"))
    parse.add_argument("--size", choices=SIZES, default="nano")
    parse.add_argument("--lookback", type=int, default=256)
    parse.add_argument("--horizon", type=int, default=32)
    parse.add_argument("--batch", type=int, default=None)
    parse.add_argument("--steps", type=int, default=None)
    args = parse.parse_args()
    defaults = {"loader": (64, 10), "step": (16, 30), "workers": (16, 60)}[args.what]
    args.batch, args.steps = args.batch or defaults[0], args.steps or defaults[1]
    measure = {"loader": loader, "step": step, "workers": workers}[args.what]
    with tempfile.TemporaryDirectory(prefix="candlecast-bench-") as folder:
        found = measure(args, Path(folder))
    given = {name: value for name, value in vars(args).items() if name != "what"}
    print(json.dumps({"measured": args.what, **given, **found}), flush=True)


if __name__ == "__main__":
    main()
