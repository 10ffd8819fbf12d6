"""How good a tokenizer or a predictor is on given windows. Knows both networks; no loop, no files.

Measured by several processes, each takes some of the batches and the sums are added up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from forecaster.interface import CLOSE
from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.timellm.bootstrap import errors_in_units
from forecaster.timellm.model import PointModel
from forecaster.timellm.rows import forecast_bars, point_bars
from forecaster.training.data.pools import Pool, TrainingBatch
from forecaster.training.losses import predictor_loss
from forecaster.training.objectives import tokens_of
from forecaster.training.process_group import Peers

ALONE = Peers()


@torch.no_grad()
def measure_tokenizer(
    model: KronosTokenizer, batches: Sequence[TrainingBatch], peers: Peers = ALONE
) -> dict[str, float]:
    """Reconstruction errors over whole windows, in units of each window's own spread.

    `loss` is the sum of squared errors from s1 and from all bits, halved, as in training; `rmse`
    counts all six features, `rmse_close` the close. `s1_used` and `s2_used` are the shares of the
    vocabulary that occur, `s1_perplexity` and `s2_perplexity` how many tokens a uniform
    distribution of the same entropy would use.
    """
    total = torch.zeros(4, dtype=torch.double)
    counts = [torch.zeros(2**bits, dtype=torch.long) for bits in (model.s1_bits, model.s2_bits)]
    with evaluating(model):
        for batch in batches[peers.rank :: peers.world]:
            x_BTF = torch.from_numpy(batch.x_BTF).to(peers.device)
            pair = model.encode_pair(x_BTF)
            error_BTF = (model.decode(pair, half=True) - x_BTF).square().double()
            coarse = (from_s1(model, pair[0]) - x_BTF).square().double().mean(-1).sum()
            n = error_BTF.shape[0] * error_BTF.shape[1]
            total += torch.tensor(
                [
                    error_BTF.mean(-1).sum().item(),
                    error_BTF[..., CLOSE].sum().item(),
                    coarse.item(),
                    n,
                ],
                dtype=torch.double,
            )
            for count, ids in zip(counts, pair, strict=True):
                count += torch.bincount(ids.flatten().cpu(), minlength=len(count))
    squared, squared_close, coarse_sum, bars = peers.total(total).tolist()
    figures = {
        "loss": (squared + coarse_sum) / 2 / bars,
        "rmse": (squared / bars) ** 0.5,
        "rmse_close": (squared_close / bars) ** 0.5,
    }
    for name, own in zip(("s1", "s2"), counts, strict=True):
        count = peers.total(own)
        figures[f"{name}_used"] = (count > 0).double().mean().item()
        figures[f"{name}_perplexity"] = float(np.exp(entropy_of(count)))
    return figures


@torch.no_grad()
def measure_predictor(
    model: Kronos,
    tokenizer: KronosTokenizer,
    batches: Sequence[TrainingBatch],
    peers: Peers = ALONE,
) -> dict[str, float]:
    """Next-token losses on horizon positions, with the dependency layer as generation applies it.

    Causal, and only behind the lookback: inside it the window's own statistics already know the
    scale of what follows. `ce` is (s1 + s2) / 2 in nats, `unigram` the same for a model that knows
    only how often each token occurs in these very positions (the floor that ignores all context),
    `gain` = 1 - ce / unigram.
    """
    total = torch.zeros(3, dtype=torch.double)
    counts = [torch.zeros(2**bits, dtype=torch.long) for bits in (model.s1_bits, model.s2_bits)]
    with without_dropout(model):
        for batch in batches[peers.rank :: peers.world]:
            s1_BT, s2_BT = tokens_of(tokenizer, torch.from_numpy(batch.x_BTF).to(peers.device))
            loss = predictor_loss(
                model,
                s1_BT,
                s2_BT,
                torch.from_numpy(batch.stamp_BT).to(peers.device),
                lookback=batch.lookback,
                lookback_weight=0.0,
                as_decoded=True,
            )
            n = len(s1_BT)
            sums = [loss.ce_s1.item() * n, loss.ce_s2.item() * n, n]
            total += torch.tensor(sums, dtype=torch.double)
            for count, ids in zip(counts, (s1_BT, s2_BT), strict=True):
                ahead = ids[:, batch.lookback :].flatten().cpu()
                count += torch.bincount(ahead, minlength=len(count))
    ce_s1, ce_s2, windows = peers.total(total).tolist()
    figures = {"ce_s1": ce_s1 / windows, "ce_s2": ce_s2 / windows}
    figures["ce"] = (figures["ce_s1"] + figures["ce_s2"]) / 2
    figures["unigram"] = sum(entropy_of(peers.total(count)) for count in counts) / 2
    figures["gain"] = 1.0 - figures["ce"] / figures["unigram"]
    return figures


@torch.no_grad()
def measure_points(
    model: PointModel, batches: Sequence[TrainingBatch], peers: Peers = ALONE
) -> dict[str, float]:
    """Errors over the horizon, all features alike, in units of each window's own spread.

    `loss` is the mean squared error and `mae` the mean absolute one, `last_value` the mean squared
    error of forecasting the last known value, and `gain` = 1 - loss / last_value.
    """
    total = torch.zeros(4, dtype=torch.double)
    with evaluating(model):
        for batch in batches[peers.rank :: peers.world]:
            x_BLF, actual_BHF = np.split(batch.x_BTF, [batch.lookback], axis=1)
            error = actual_BHF - point_bars(model, x_BLF).astype(np.float64)
            naive = actual_BHF - x_BLF[:, -1:].astype(np.float64)
            sums = [np.square(error).sum(), np.abs(error).sum(), np.square(naive).sum(), error.size]
            total += torch.tensor(sums, dtype=torch.double)
    squared, absolute, naive_squared, n = peers.total(total).tolist()
    loss, last_value = squared / n, naive_squared / n
    return {
        "loss": loss,
        "mae": absolute / n,
        "last_value": last_value,
        "gain": 1 - loss / last_value,
    }


def validation_errors(
    model: PointModel, batches: Sequence[TrainingBatch], pool: Pool
) -> npt.NDArray[np.float32]:
    """Errors of every window in one-bar units, (N, H, F): what sample paths are drawn from.

    pool: where the batches came from.
    """
    found = []
    with evaluating(model):
        for batch in batches:
            past_BLF, actual_BHF = np.split(pool.bars_of(batch), [batch.lookback], axis=1)
            forecast_BHF = forecast_bars(model, past_BLF)
            found.append(errors_in_units(past_BLF, actual_BHF, forecast_BHF))
    return np.concatenate(found)


def from_s1(tokenizer: KronosTokenizer, s1_BT: Tensor) -> Tensor:
    """What the s1 bits alone say, (B, T, F)."""
    zeros_BT = torch.zeros_like(s1_BT)
    bits = tokenizer.indices_to_bits([s1_BT, zeros_BT], half=True)[..., : tokenizer.s1_bits]
    return tokenizer.reconstruct(tokenizer.post_quant_embed_pre(bits))


def entropy_of(count: Tensor) -> float:
    """Of the empirical distribution, in nats."""
    p = count.double() / count.sum()
    return float(-torch.xlogy(p, p).sum().item())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block."""
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
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
