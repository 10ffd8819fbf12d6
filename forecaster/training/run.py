"""A whole training run of a tokenizer or a predictor: data in, a published-format folder out.

Knows the two networks and how they are measured; nothing of where bars come from.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from forecaster.interface import CLOSE
from forecaster.kronos.checkpoint import TRAINING_RECORD, content_hash
from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.training.config import (
    PredictorTraining,
    RunSettings,
    TokenizerTraining,
    TrainingError,
    WindowSettings,
)
from forecaster.training.loop import Task, fit
from forecaster.training.losses import decoder_loss, predictor_loss, tokenizer_loss
from forecaster.training.windows import (
    Split,
    TrainingBatch,
    TrainingSeries,
    WindowPlan,
    split_series,
    validation_batches,
)

Report = Callable[[str], None]


def train_tokenizer(
    settings: TokenizerTraining,
    series: Sequence[TrainingSeries],
    out: Path,
    *,
    start_from: Path | None = None,
    resume: bool = False,
    report: Report = lambda line: None,
) -> dict[str, float]:
    """Trains a tokenizer and writes it, with its record, to `out`. Returns the last figures."""
    split, plan = _prepare(settings, series, report)
    torch.manual_seed(settings.seed)
    if start_from is None:
        model = KronosTokenizer(**settings.model.model_dump())
    else:
        model = KronosTokenizer.from_pretrained(start_from)
        _same_shape(model.config, settings.model.model_dump(), start_from)
    report(f"tokenizer of {_size(model)} parameters")

    if settings.decoder_only:
        if start_from is None:
            raise TrainingError("decoder_only: true needs --from: the tokenizer whose tokens stay")
        for part in (model.embed, model.encoder, model.quant_embed):
            part.requires_grad_(False)

    def losses(batch: TrainingBatch) -> Mapping[str, Tensor]:
        x_BTF, weights = torch.from_numpy(batch.x_BTF), settings.feature_weights
        if settings.decoder_only:
            return decoder_loss(
                model, x_BTF, feature_weights=weights, shape_weight=settings.shape_weight
            )._asdict()
        return tokenizer_loss(
            model, x_BTF, feature_weights=weights, usage_weight=settings.usage_weight
        )._asdict()

    checked = _validation(split, settings.windows, settings.run)

    def validate() -> dict[str, float]:
        return {
            f"{name}_{figure}": value
            for name, batches in checked.items()
            for figure, value in measure_tokenizer(model, batches).items()
        }

    figures = fit(
        model,
        Task(losses, validate),
        plan,
        settings.optimiser,
        settings.run,
        out,
        identity=_identity(settings.model_dump(mode="json"), series, start_from),
        resume=resume,
        report=report,
    )
    _publish(model, settings, split, figures, out)
    return figures


def train_predictor(
    settings: PredictorTraining,
    tokenizer: KronosTokenizer,
    series: Sequence[TrainingSeries],
    out: Path,
    *,
    start_from: Path | None = None,
    resume: bool = False,
    report: Report = lambda line: None,
) -> dict[str, float]:
    """Trains a predictor on the tokens of a frozen tokenizer. Returns the last figures."""
    bits = (tokenizer.s1_bits, tokenizer.s2_bits)
    if bits != (settings.model.s1_bits, settings.model.s2_bits):
        raise TrainingError(
            f"model.s1_bits={settings.model.s1_bits} and model.s2_bits={settings.model.s2_bits}, "
            f"but the tokenizer has {bits[0]} and {bits[1]}: they must agree"
        )
    split, plan = _prepare(settings, series, report)
    torch.manual_seed(settings.seed)
    if start_from is None:
        model = Kronos(**settings.model.model_dump())
    else:
        model = Kronos.from_pretrained(start_from)
        _same_shape(model.config, settings.model.model_dump(), start_from)
    report(f"predictor of {_size(model)} parameters")
    tokenizer.eval()

    def losses(batch: TrainingBatch) -> Mapping[str, Tensor]:
        s1_BT, s2_BT = tokens_of(tokenizer, batch)
        return predictor_loss(
            model,
            s1_BT,
            s2_BT,
            torch.from_numpy(batch.stamp_BT),
            lookback=batch.lookback,
            lookback_weight=settings.windows.lookback_weight,
            as_decoded=settings.dependency_as_decoded,
        )._asdict()

    checked = _validation(split, settings.windows, settings.run)

    def validate() -> dict[str, float]:
        return {
            f"{name}_{figure}": value
            for name, batches in checked.items()
            for figure, value in measure_predictor(model, tokenizer, batches).items()
        }

    figures = fit(
        model,
        Task(losses, validate),
        plan,
        settings.optimiser,
        settings.run,
        out,
        identity=_identity(
            settings.model_dump(mode="json"), series, start_from, content_hash(tokenizer)
        ),
        resume=resume,
        report=report,
    )
    _publish(model, settings, split, figures, out)
    return figures


@torch.no_grad()
def tokens_of(tokenizer: KronosTokenizer, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
    """s1 and s2 of a batch, each (B, T)."""
    return tokenizer.encode_pair(torch.from_numpy(batch.x_BTF))


@torch.no_grad()
def measure_tokenizer(model: KronosTokenizer, batches: Sequence[TrainingBatch]) -> dict[str, float]:
    """Reconstruction errors over whole windows, in units of each window's own spread.

    `rmse` counts all six features, `rmse_close` the close. `s1_used` and `s2_used` are the shares
    of the vocabulary that occur, `s1_perplexity` and `s2_perplexity` how many tokens a uniform
    distribution of the same entropy would use.
    """
    squared, squared_close, bars = 0.0, 0.0, 0
    counts = [torch.zeros(2**bits, dtype=torch.long) for bits in (model.s1_bits, model.s2_bits)]
    with _evaluating(model):
        for batch in batches:
            x_BTF = torch.from_numpy(batch.x_BTF)
            pair = model.encode_pair(x_BTF)
            error_BTF = (model.decode(pair, half=True) - x_BTF).square().double()
            squared += error_BTF.mean(-1).sum().item()
            squared_close += error_BTF[..., CLOSE].sum().item()
            bars += error_BTF.shape[0] * error_BTF.shape[1]
            for count, ids in zip(counts, pair, strict=True):
                count += torch.bincount(ids.flatten(), minlength=len(count))
    figures = {"rmse": (squared / bars) ** 0.5, "rmse_close": (squared_close / bars) ** 0.5}
    for name, count in zip(("s1", "s2"), counts, strict=True):
        figures[f"{name}_used"] = (count > 0).double().mean().item()
        figures[f"{name}_perplexity"] = float(np.exp(_entropy(count)))
    return figures


@torch.no_grad()
def measure_predictor(
    model: Kronos, tokenizer: KronosTokenizer, batches: Sequence[TrainingBatch]
) -> dict[str, float]:
    """Next-token losses on horizon positions, with the dependency layer as generation applies it.

    `ce` is (s1 + s2) / 2 in nats, `unigram` the same for a model that knows only how often each
    token occurs in these very positions (the floor that ignores all context), `gain` = 1 - ce /
    unigram.
    """
    total = {"ce_s1": 0.0, "ce_s2": 0.0}
    counts = [torch.zeros(2**bits, dtype=torch.long) for bits in (model.s1_bits, model.s2_bits)]
    windows = 0
    with _without_dropout(model):
        for batch in batches:
            s1_BT, s2_BT = tokens_of(tokenizer, batch)
            loss = predictor_loss(
                model,
                s1_BT,
                s2_BT,
                torch.from_numpy(batch.stamp_BT),
                lookback=batch.lookback,
                lookback_weight=0.0,
                as_decoded=True,
            )
            n = len(s1_BT)
            windows += n
            total["ce_s1"] += loss.ce_s1.item() * n
            total["ce_s2"] += loss.ce_s2.item() * n
            for count, ids in zip(counts, (s1_BT, s2_BT), strict=True):
                count += torch.bincount(ids[:, batch.lookback :].flatten(), minlength=len(count))
    figures = {name: value / windows for name, value in total.items()}
    figures["ce"] = (figures["ce_s1"] + figures["ce_s2"]) / 2
    figures["unigram"] = (_entropy(counts[0]) + _entropy(counts[1])) / 2
    figures["gain"] = 1.0 - figures["ce"] / figures["unigram"]
    return figures


def _entropy(count: Tensor) -> float:
    """Of the empirical distribution, in nats."""
    p = count.double() / count.sum()
    return float(-torch.xlogy(p, p).sum().item())


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    """Training mode with every dropout silenced: what a causal validation loss needs."""
    was = model.training
    model.train()
    silenced: list[tuple[Any, str, float]] = []
    for module in model.modules():
        for name in ("p", "attn_dropout_p"):
            value = getattr(module, name, None)
            if isinstance(value, float) and value > 0:
                silenced.append((module, name, value))
                setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, value in silenced:
            setattr(module, name, value)
        model.train(was)


def _prepare(
    settings: TokenizerTraining | PredictorTraining,
    series: Sequence[TrainingSeries],
    report: Report,
) -> tuple[Split, WindowPlan]:
    split = split_series(series, settings.data, settings.windows)
    plan = WindowPlan(
        split,
        seed=settings.seed,
        batch_size=settings.optimiser.batch_size,
        simulated_share=settings.data.simulated_share,
        windows=settings.windows,
    )
    for name, value in _counts(split).items():
        report(f"{name}: {value['symbols']} symbols, {value['bars']} bars in {value['runs']} runs")
    return split, plan


def _counts(split: Split) -> dict[str, dict[str, int]]:
    pools = {"training": split.train, "simulated": split.simulated}
    return {
        name: {"runs": len(pool.runs), "bars": len(pool.values_MF)}
        | {"symbols": len({run.symbol for run in pool.runs})}
        for name, pool in pools.items()
    }


def _validation(
    split: Split, windows: WindowSettings, run: RunSettings
) -> dict[str, list[TrainingBatch]]:
    """Fixed windows at the longest lookback, by kind; kinds without a window are left out."""
    kinds = {"later": split.later, "held_out": split.held_out}
    drawn = {
        name: validation_batches(
            pool,
            lookback=max(windows.lookbacks),
            horizon=windows.validation_horizon,
            clip=windows.clip,
            count=run.validation_windows,
            size=64,
        )
        for name, pool in kinds.items()
    }
    return {name: batches for name, batches in drawn.items() if batches}


def _same_shape(found: Mapping[str, Any], asked: Mapping[str, Any], folder: Path) -> None:
    differing = sorted(k for k in asked if found.get(k) != asked[k])
    if differing:
        told = ", ".join(f"{k}={found.get(k)} (asked: {asked[k]})" for k in differing)
        raise TrainingError(f"{folder}: its config.json has {told}; --from needs the same model")


def _size(model: nn.Module) -> str:
    return f"{sum(p.numel() for p in model.parameters()):,}"


def _identity(
    settings: Mapping[str, Any],
    series: Sequence[TrainingSeries],
    start_from: Path | None,
    tokenizer: str = "",
) -> dict[str, Any]:
    """What must be the same for a run to be gone on with."""
    bars = hashlib.blake2b(digest_size=8)
    for one in series:
        bars.update(f"{one.symbol}:{one.simulated}".encode())
        bars.update(one.timestamps_N.astype("datetime64[us]").tobytes())
        bars.update(np.ascontiguousarray(one.values_NF).tobytes())
    return {
        "settings": settings,
        "bars": bars.hexdigest(),
        "start weights": str(start_from or ""),
        "tokenizer": tokenizer,
    }


def _publish(
    model: KronosTokenizer | Kronos,
    settings: TokenizerTraining | PredictorTraining,
    split: Split,
    figures: Mapping[str, float],
    out: Path,
) -> None:
    """Writes config.json, model.safetensors and the record of the run, each in one move."""
    record = {
        "trained_through": settings.data.train_through.isoformat(),
        "settings": settings.model_dump(mode="json"),
        "data": _counts(split),
        "figures": dict(figures),
    }
    with tempfile.TemporaryDirectory(dir=out) as unfinished:
        folder = Path(unfinished)
        model.save_pretrained(folder, half=settings.run.storage == "float16")
        (folder / TRAINING_RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
        for file in sorted(folder.iterdir()):
            os.replace(file, out / file.name)
