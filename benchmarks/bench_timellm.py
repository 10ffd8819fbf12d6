"""Forecasting with Time-LLM: what keeping prototypes, prompts and the opening is worth.

    python benchmarks/bench_timellm.py

64 rows of 512 values, 96 steps ahead, a backbone with random weights of GPT-2's width and six
layers. `plain` computes what a straightforward program does at every call: the prototype mapping,
every prompt's text and tokens by itself, prompts padded to the longest, attention maps and hidden
states of all layers returned, by the network as transformers loads it. `fused` is the same with
GPT-2's activation in one piece, which `kept` has too. `kept` is `forecast_rows`. All in both number
formats, and with two descriptions: the one this project gives for bars, and one of 111 tokens, as
long as the one that Time-LLM's authors give for ETT (111 pieces by GPT-2's splitting rule). Windows
differ from call to call, so no prompt is met twice. Each way runs in a process of its own, one
after the other, a few times in turn. Seconds are those of the processor (wall time in brackets),
since the machine is shared; memory is the process's peak above what loading the model took.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from forecaster.timellm.config import MARKET_DESCRIPTION, PointConfig
from forecaster.timellm.model import TimeLLM, build_model
from forecaster.timellm.offline import write_random_backbone
from forecaster.timellm.patching import normalise_instances
from forecaster.timellm.prompt import prompt_text
from forecaster.timellm.prompt import statistics as prompt_statistics
from forecaster.timellm.rows import forecast_rows

ROWS, LOOKBACK, HORIZON, CALLS = 64, 512, 96, 1
ETT_TOKENS = 111
WAYS = tuple(
    (way, precision) for precision in ("float32", "bfloat16") for way in ("plain", "fused", "kept")
)


def plain(model: TimeLLM, network: nn.Module, x_BL: Tensor) -> Tensor:
    """Everything anew, and everything returned; one padded batch.

    network: the backbone as transformers loads it for attention maps.
    """
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
    words = backbone.embedding(padded)
    out = network(
        inputs_embeds=torch.cat((words, patches.to(words.dtype)), dim=1),
        output_attentions=True,
        output_hidden_states=True,
    )
    states = out.last_hidden_state[:, -model.config.n_patches :, : model.config.d_ff].float()
    return model.head(states) * instance.scale_B1 + instance.loc_B1


def eager_network(folder: str, precision: str, fused: bool) -> nn.Module:
    from transformers import AutoConfig, AutoModel

    settings = AutoConfig.from_pretrained(folder)
    if fused:
        settings.activation_function = "gelu_pytorch_tanh"
    network: nn.Module = AutoModel.from_pretrained(
        folder, config=settings, dtype=getattr(torch, precision), attn_implementation="eager"
    )
    return network.eval()


def described(tokens: int | None, folder: str) -> str:
    """The project's own description, or its words again and again to so many tokens."""
    if tokens is None:
        return MARKET_DESCRIPTION
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    words, n = MARKET_DESCRIPTION.split(), 1
    while len(tokenizer(text := " ".join((words * 9)[:n]))["input_ids"]) < tokens:
        n += 1
    return text


def one(way: str, folder: str, precision: str, tokens: int | None, threads: int) -> None:
    """Runs one way in this process and prints a line of JSON."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = build_model(
        PointConfig(
            backbone=folder, lookback=LOOKBACK, horizon=HORIZON, d_model=32, d_ff=128,
            backbone_precision=precision, description=described(tokens, folder),
        )
    ).eval()  # fmt: skip
    assert isinstance(model, TimeLLM)
    anew = way != "kept"
    network = model.backbone.network
    if anew:
        network = eager_network(folder, precision, way == "fused")
    model.backbone.network = network
    gc.collect()
    torch.manual_seed(2)
    batches = [torch.randn(ROWS, LOOKBACK).cumsum(1) for _ in range(CALLS + 1)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, wall = [], []
    with torch.inference_mode():
        for x_BL in batches:
            began, began_wall = time.process_time(), time.perf_counter()
            forecast = plain(model, network, x_BL) if anew else forecast_rows(model, x_BL)
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
    parse.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    parse.add_argument("--description-tokens", type=int, help=argparse.SUPPRESS)
    parse.add_argument("--threads", type=int, default=1)
    parse.add_argument("--repeats", type=int, default=3)
    parse.add_argument("--descriptions", nargs="+", choices=("own", "ett"), default=("own", "ett"))
    parse.add_argument("--precisions", nargs="+", default=("float32", "bfloat16"))
    args = parse.parse_args()
    if args.one is not None:
        one(*args.one, args.precision, args.description_tokens, args.threads)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_random_backbone(
            Path(scratch) / "gpt2", width=768, layers=6, heads=12, vocabulary=50257
        )
        for description in args.descriptions:
            tokens = None if description == "own" else ETT_TOKENS
            print(f"description: {tokens or 'its own'} tokens", flush=True)
            ways = [way for way in WAYS if way[1] in args.precisions]
            compare(folder, tokens, args.threads, args.repeats, ways)


def compare(
    folder: Path, tokens: int | None, threads: int, repeats: int, ways: list[tuple[str, str]]
) -> None:
    found: dict[tuple[str, str], list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, precision in ways:
            command = [sys.executable, __file__, "--one", way, str(folder)]
            command += ["--precision", precision, "--threads", str(threads)]
            command += [] if tokens is None else ["--description-tokens", str(tokens)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[way, precision].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"  {way} {precision}: {done.stdout.splitlines()[-1]}", flush=True)

    def typical(way: str, precision: str, what: str) -> float:
        return statistics.median(run[what] for run in found[way, precision])

    for way, precision in ways:
        ratios = ", ".join(
            f"{typical('plain', base, 'seconds') / typical(way, precision, 'seconds'):.2f} x speed "
            f"and {typical(way, precision, 'peak_mb') / typical('plain', base, 'peak_mb'):.2f} x "
            f"memory of plain {base}"
            for base in sorted({each for _, each in ways}, reverse=True)
        )
        print(
            f"{way} {precision}: {typical(way, precision, 'seconds'):.2f} s "
            f"({typical(way, precision, 'wall'):.2f} s), "
            f"{typical(way, precision, 'peak_mb'):.0f} MB; {ratios}; "
            f"mean forecast {found[way, precision][0]['check']:.5f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
