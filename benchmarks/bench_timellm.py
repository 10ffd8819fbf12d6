"""Forecasting with Time-LLM: what keeping prototypes, prompts and the opening is worth.

    python benchmarks/bench_timellm.py

64 rows of 512 values, 96 steps ahead, a backbone with random weights of GPT-2's width and six
layers. `plain` computes what a straightforward program does at every call: the prototype mapping,
every prompt's text and tokens by itself, prompts padded to the longest, attention maps and hidden
states of all layers returned. `kept` is `forecast_rows`. Windows differ from call to call, so no
prompt is met twice. Each way runs in a process of its own, one after the other, a few times in
turn. Seconds are those of the processor (wall time in brackets), since the machine is shared;
memory is the process's peak above what loading the model took.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from forecaster.timellm.config import PointConfig
from forecaster.timellm.model import TimeLLM, build_model
from forecaster.timellm.offline import write_random_backbone
from forecaster.timellm.patching import normalise_instances
from forecaster.timellm.prompt import prompt_text
from forecaster.timellm.prompt import statistics as prompt_statistics
from forecaster.timellm.rows import forecast_rows

ROWS, LOOKBACK, HORIZON, CALLS = 64, 512, 96, 2


def plain(model: TimeLLM, x_BL: Tensor) -> Tensor:
    """Everything anew, and everything returned; one padded batch."""
    instance = normalise_instances(x_BL)
    backbone = model.backbone
    ids = []
    for row in instance.z_BL:
        text = prompt_text(model.config, prompt_statistics(row[None]))
        ids.append(backbone.tokenizer(text)["input_ids"][0])
    longest = max(map(len, ids))
    padded = torch.tensor([[0] * (longest - len(one)) + one for one in ids])
    layer = model.reprogramming
    prototypes = layer.prototypes(backbone.words)[None]
    key, value = layer._heads(layer.key(prototypes)), layer._heads(layer.value(prototypes))
    query = layer._heads(layer.query(model.patch_embedding(instance.z_BL)))
    weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
    patches = layer.out((weights @ value).transpose(1, 2).flatten(2))
    out = backbone.network(
        inputs_embeds=torch.cat((backbone.embedding(padded), patches), dim=1),
        output_attentions=True,
        output_hidden_states=True,
    )
    states = out.last_hidden_state[:, -model.config.n_patches :, : model.config.d_ff]
    return model.head(states) * instance.scale_B1 + instance.loc_B1


def one(way: str, folder: str, precision: str, threads: int) -> None:
    """Runs one way in this process and prints a line of JSON."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = build_model(
        PointConfig(
            backbone=folder, lookback=LOOKBACK, horizon=HORIZON, d_model=32, d_ff=128,
            backbone_precision=precision,
        )
    ).eval()  # fmt: skip
    assert isinstance(model, TimeLLM)
    if way == "plain":
        model.backbone.network.set_attn_implementation("eager")
    batches = [torch.randn(ROWS, LOOKBACK).cumsum(1) for _ in range(CALLS + 1)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, wall = [], []
    with torch.inference_mode():
        for x_BL in batches:
            began, began_wall = time.process_time(), time.perf_counter()
            forecast = plain(model, x_BL) if way == "plain" else forecast_rows(model, x_BL)
            seconds.append(time.process_time() - began)
            wall.append(time.perf_counter() - began_wall)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(
        json.dumps(
            {
                "seconds": statistics.median(seconds[1:]),
                "wall": statistics.median(wall[1:]),
                "peak_mb": peak / 1024,
                "check": float(forecast.double().abs().mean()),
            }
        )
    )


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    parse.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parse.add_argument("--threads", type=int, default=1)
    parse.add_argument("--repeats", type=int, default=3)
    args = parse.parse_args()
    if args.one is not None:
        one(*args.one, args.precision, args.threads)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_random_backbone(
            Path(scratch) / "gpt2", width=768, layers=6, heads=12, vocabulary=50257
        )
        ways = (("plain", "float32"), ("kept", "float32"), ("kept", "bfloat16"))
        found: dict[tuple[str, str], list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(args.repeats):
            for way, precision in ways:
                done = subprocess.run(
                    [sys.executable, __file__, "--one", way, str(folder), "--precision", precision,
                     "--threads", str(args.threads)],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                found[way, precision].append(json.loads(done.stdout.splitlines()[-1]))
    base = found[ways[0]]
    for (way, precision), runs in found.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        wall = statistics.median(run["wall"] for run in runs)
        peak = statistics.median(run["peak_mb"] for run in runs)
        speed = statistics.median(run["seconds"] for run in base) / seconds
        memory = peak / statistics.median(run["peak_mb"] for run in base)
        print(
            f"{way} {precision}: {seconds:.2f} s ({wall:.2f} s), {speed:.2f} x; "
            f"peak {peak:.0f} MB, {memory:.2f} x; mean forecast {runs[0]['check']:.5f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
