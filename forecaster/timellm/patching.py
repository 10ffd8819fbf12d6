"""Series to embedded patches. Knows tensors; nothing of prompts, language models or prices.

Every feature of every series is a row of its own: the model is channel-independent.

Legend: B rows, L lookback, P patches, W values of a patch, D width of an embedded patch.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch.nn.functional as F  # noqa: N812 - torch's customary name
from torch import Tensor, nn

EPSILON = 1e-5
"""Added to the variance (Kim et al. 2022, "Reversible instance normalization", section 3)."""


class Instance(NamedTuple):
    """z = (x - loc) / scale; loc and scale are (B, 1)."""

    z_BL: Tensor
    loc_B1: Tensor
    scale_B1: Tensor


def normalise_instances(x_BL: Tensor, level: Literal["mean", "last"] = "mean") -> Instance:
    """Subtracts each row's mean, or its last value, and divides by its standard deviation, without
    learned factors.

    The standard deviation is that of the population, with EPSILON under the root. Only the
    lookback is looked at.
    """
    loc_B1 = x_BL.mean(dim=1, keepdim=True) if level == "mean" else x_BL[:, -1:]
    scale_B1 = (x_BL.var(dim=1, keepdim=True, unbiased=False) + EPSILON).sqrt()
    return Instance((x_BL - loc_B1) / scale_B1, loc_B1, scale_B1)


class PatchEmbedding(nn.Module):
    """Overlapping patches (Nie et al. 2023, section 3.1), mixed with their neighbours.

    The convolution runs over patches, three at a time, and is circular: the first and the last
    patch are neighbours.
    """

    def __init__(self, patch_length: int, stride: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.patch_length, self.stride = patch_length, stride
        self.convolution = nn.Conv1d(
            patch_length, d_model, kernel_size=3, padding=1, padding_mode="circular", bias=False
        )
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.dropout = nn.Dropout(dropout)

    def patches(self, z_BL: Tensor) -> Tensor:
        """The row, its last value repeated `stride` times, cut into patches: (B, P, W)."""
        longer = F.pad(z_BL, (0, self.stride), mode="replicate")
        return longer.unfold(1, self.patch_length, self.stride)

    def forward(self, z_BL: Tensor) -> Tensor:
        """Embedded patches, (B, P, D)."""
        mixed_BDP = self.convolution(self.patches(z_BL).transpose(1, 2))
        embedded: Tensor = self.dropout(mixed_BDP.transpose(1, 2))
        return embedded


class FlattenHead(nn.Module):
    """All patches' features, side by side, to the horizon by one matrix."""

    def __init__(self, width: int, n_patches: int, horizon: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(width * n_patches, horizon)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h_BPD: Tensor) -> Tensor:
        """(B, horizon); the matrix reads feature by feature, patches within a feature."""
        forecast: Tensor = self.dropout(self.linear(h_BPD.transpose(1, 2).flatten(1)))
        return forecast
