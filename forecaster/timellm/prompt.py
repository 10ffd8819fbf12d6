"""The prompt before the patches: what the series is, what is asked, and the input's statistics.

Knows numbers and a tokenizer; nothing of networks. The wording is Time-LLM's (arXiv 2310.01728,
figure 4), so that what was trained with it goes on working.

Legend: B rows, L lookback, T tokens.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from forecaster.timellm.backbone import Backbone
from forecaster.timellm.config import PointConfig
from market.errors import CheckpointError

TOP_LAGS = 5
CACHED_PROMPTS = 65_536
"""Prompts whose tokens are kept, the latest used: epochs of training read them again."""

Ids = tuple[int, ...]


class Statistics(NamedTuple):
    """Of normalised rows; one entry per row."""

    minimum_B: npt.NDArray[np.float32]
    maximum_B: npt.NDArray[np.float32]
    median_B: npt.NDArray[np.float32]
    """The lower of the two middle values where the lookback is even."""
    upward_B: npt.NDArray[np.bool_]
    """Whether the last value is above the first."""
    lags_BK: npt.NDArray[np.int64]


def statistics(z_BL: Tensor) -> Statistics:
    """What the prompt says of each row, all rows at once."""
    rows_BL = z_BL.detach().float().cpu()
    return Statistics(
        rows_BL.amin(dim=1).numpy(),
        rows_BL.amax(dim=1).numpy(),
        rows_BL.median(dim=1).values.numpy(),
        (rows_BL.diff(dim=1).sum(dim=1) > 0).numpy(),
        top_lags(rows_BL.numpy()),
    )


def top_lags(z_BL: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Lags of the largest circular autocorrelation, by FFT (Wiener–Khinchin), largest first.

    Lag 0 is the largest by definition, and lags k and L - k are equal: computed once for both, so
    that which comes first (the smaller) does not depend on rounding.
    """
    lookback = z_BL.shape[1]
    spectrum = np.fft.rfft(z_BL.astype(np.float64), axis=1)
    half = np.fft.irfft(np.abs(spectrum) ** 2, n=lookback, axis=1)[:, : lookback // 2 + 1]
    mirror = np.minimum(np.arange(lookback), lookback - np.arange(lookback))
    return np.argsort(-half[:, mirror], axis=1, kind="stable")[:, :TOP_LAGS]


def prompt_text(config: PointConfig, found: Statistics) -> list[str]:
    """The prompts, one per row. Numbers are written as the shortest text of their double value."""
    opening = (
        f"<|start_prompt|>Dataset description: {config.description}"
        f"Task description: forecast the next {config.horizon} steps given the previous "
        f"{config.lookback} steps information; Input statistics: "
    )
    return [
        f"{opening}min value {low}, max value {high}, median value {middle}, the trend of input is "
        f"{'upward' if up else 'downward'}, top {TOP_LAGS} lags are : {lags}<|<end_prompt>|>"
        for low, high, middle, up, lags in zip(
            found.minimum_B.tolist(),
            found.maximum_B.tolist(),
            found.median_B.tolist(),
            found.upward_B.tolist(),
            found.lags_BK.tolist(),
            strict=True,
        )
    ]


class Prompter:
    """Prompts of rows as token ids, each text tokenised once."""

    def __init__(self, config: PointConfig, backbone: Backbone) -> None:
        """Raises CheckpointError where prompt and patches exceed the backbone's positions, or the
        tokenizer is that of another vocabulary."""
        self._config, self._backbone = config, backbone
        self._kept: OrderedDict[str, Ids] = OrderedDict()
        self.shared_ids = self._shared()
        self._require_room(len(self.shared_ids))

    def ids(self, z_BL: Tensor) -> list[Ids]:
        """Token ids of each row's prompt, without padding."""
        texts = prompt_text(self._config, statistics(z_BL))
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        if new:
            for text, ids in zip(new, self._tokenise(new), strict=True):
                self._kept[text] = ids
        found = []
        for text in texts:
            self._kept.move_to_end(text)
            found.append(self._kept[text])
        while len(self._kept) > CACHED_PROMPTS:
            self._kept.popitem(last=False)
        self._require_room(max(map(len, found)))
        return found

    def _tokenise(self, texts: Sequence[str]) -> list[Ids]:
        found = [tuple(ids) for ids in self._backbone.tokenizer(list(texts))["input_ids"]]
        largest = max(max(ids, default=0) for ids in found)
        if largest >= self._backbone.vocabulary:
            raise CheckpointError(
                f"{self._config.backbone}: its tokenizer gives token {largest}, its embeddings end "
                f"at {self._backbone.vocabulary - 1}; tokenizer.json belongs to another model"
            )
        return found

    def _shared(self) -> Ids:
        """The tokens that every prompt of this config begins with.

        Found by tokenising prompts that differ as early as prompts can; the last common token is
        left out, since a tokenizer may join it with what follows.
        """
        lookback = self._config.lookback
        probes = torch.stack(
            [
                sign * torch.linspace(-size, size, lookback).roll(shift)
                for sign, size, shift in ((1, 1.0, 0), (-1, 9.5, 0), (1, 0.0, 0), (1, 5e-7, 1))
            ]
        )
        tokens = self._tokenise(prompt_text(self._config, statistics(probes)))
        n = 0
        while n < min(map(len, tokens)) and len({each[n] for each in tokens}) == 1:
            n += 1
        return tokens[0][: max(n - 1, 0)]

    def _require_room(self, tokens: int) -> None:
        positions = self._backbone.positions
        needed = tokens + self._config.n_patches
        if positions is not None and needed > positions:
            raise CheckpointError(
                f"the prompt has {tokens} tokens and the lookback {self._config.n_patches} patches "
                f"({needed} together), but the backbone {self._config.backbone} has {positions} "
                "positions. Shorten description or lookback, or raise stride."
            )
