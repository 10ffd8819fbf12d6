"""What a trained model does on validation windows, for people to look at. Draws nothing.

Legend: B windows, T bars, F features, V vocabulary, K bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from forecaster.interface import CLOSE
from forecaster.kronos.quantizer import ids_to_bits
from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.timellm.model import PointModel
from forecaster.timellm.rows import point_bars
from forecaster.training.data.pools import TrainingBatch
from forecaster.training.validation import entropy_of, evaluating, from_s1

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Vocabulary:
    """How evenly one set of codes is used."""

    name: str
    count_V: Ints
    """How often each code occurred."""

    @property
    def dead(self) -> int:
        """Codes that never occurred."""
        return int((self.count_V == 0).sum())

    @property
    def perplexity(self) -> float:
        """Codes that an even use of the same entropy would take."""
        return float(np.exp(entropy_of(torch.from_numpy(self.count_V))))


@dataclass(frozen=True)
class Example:
    """Closes of one window in units of its lookback's spread, and what a model makes of them."""

    title: str
    lookback: int
    close_T: npt.NDArray[np.float32]
    made: dict[str, npt.NDArray[np.float32]]
    """Each (T,): from s1 and from all bits, or the forecast, which is NaN inside the lookback."""


@dataclass(frozen=True)
class Gallery:
    """Codebook use and reconstructions."""

    tokens: int
    halves: tuple[Vocabulary, Vocabulary]
    """s1 and s2."""
    groups: tuple[Vocabulary, ...]
    """Every `group_size` bits by themselves."""
    examples: tuple[Example, ...]


@torch.no_grad()
def gallery(
    tokenizer: KronosTokenizer, batches: Sequence[TrainingBatch], n_examples: int = 4
) -> Gallery:
    """Looks at all windows; examples are taken at even distances."""
    s1_parts: list[Tensor] = []
    s2_parts: list[Tensor] = []
    with evaluating(tokenizer):
        for batch in batches:
            s1_BT, s2_BT = tokenizer.encode_pair(torch.from_numpy(batch.x_BTF))
            s1_parts.append(s1_BT.flatten())
            s2_parts.append(s2_BT.flatten())
        s1, s2 = torch.cat(s1_parts), torch.cat(s2_parts)
        chosen = _spread(batches, n_examples)
        examples = tuple(_example(tokenizer, batch, b) for batch, b in chosen)
    size = int(tokenizer.config["group_size"])
    bits_K = torch.cat((ids_to_bits(s1, tokenizer.s1_bits), ids_to_bits(s2, tokenizer.s2_bits)), -1)
    weight = 2 ** torch.arange(size)
    groups = tuple(
        _used(f"bits {k} to {k + size - 1}", ((bits_K[:, k : k + size] > 0) * weight).sum(-1), size)
        for k in range(0, tokenizer.codebook_dim, size)
    )
    halves = (_used("s1", s1, tokenizer.s1_bits), _used("s2", s2, tokenizer.s2_bits))
    return Gallery(len(s1), halves, groups, examples)


def forecast_examples(
    model: PointModel, batches: Sequence[TrainingBatch], n_examples: int = 4
) -> tuple[Example, ...]:
    """Forecast closes of windows at even distances."""
    return tuple(_forecast_example(model, batch, b) for batch, b in _spread(batches, n_examples))


def _spread(batches: Sequence[TrainingBatch], count: int) -> list[tuple[TrainingBatch, int]]:
    places = [(batch, b) for batch in batches for b in range(len(batch.symbols))]
    chosen = np.linspace(0, len(places) - 1, count).round().astype(int)
    return [places[k] for k in sorted(set(chosen.tolist()))]


def _used(name: str, ids: Tensor, bits: int) -> Vocabulary:
    return Vocabulary(name, torch.bincount(ids, minlength=2**bits).numpy())


def _example(tokenizer: KronosTokenizer, batch: TrainingBatch, b: int) -> Example:
    x_BTF = torch.from_numpy(batch.x_BTF[b : b + 1])
    s1_BT, s2_BT = tokenizer.encode_pair(x_BTF)
    whole_BTF = tokenizer.decode([s1_BT, s2_BT], half=True)
    coarse_BTF = from_s1(tokenizer, s1_BT)
    made = {
        "from s1": coarse_BTF[0, :, CLOSE].numpy(),
        "from all bits": whole_BTF[0, :, CLOSE].numpy(),
    }
    return Example(_title(batch, b), batch.lookback, x_BTF[0, :, CLOSE].numpy(), made)


def _forecast_example(model: PointModel, batch: TrainingBatch, b: int) -> Example:
    x_BTF = batch.x_BTF[b : b + 1]
    forecast_T = np.full(x_BTF.shape[1], np.nan, dtype=np.float32)
    with evaluating(model):
        forecast_T[batch.lookback :] = point_bars(model, x_BTF[:, : batch.lookback])[0, :, CLOSE]
    return Example(_title(batch, b), batch.lookback, x_BTF[0, :, CLOSE], {"forecast": forecast_T})


def _title(batch: TrainingBatch, b: int) -> str:
    return f"{batch.symbols[b]}, {str(batch.first_B[b])[:10]} to {str(batch.last_B[b])[:10]}"
