"""Patches said in words: attention from patches to prototypes of the vocabulary. Knows tensors.

Jin et al. 2024, "Time-LLM" (arXiv 2310.01728), section 3.1, eq. 1: queries come from patches, keys
and values from a small set of prototypes, each a learned mixture of the word embeddings.

Legend: B rows, P patches, D width of a patch, V vocabulary, E width of the backbone, K prototypes,
h heads, d width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's customary name
from torch import Tensor, nn


class Reprogramming(nn.Module):
    """The prototype mapping and the cross-attention, with what is fixed between updates kept.

    Without gradients, prototypes and their keys and values are computed once per version of the
    weights: for GPT-2 they cost 77 GFLOP, and no series has a say in them.
    """

    def __init__(
        self, vocabulary: int, prototypes: int, d_model: int, n_heads: int, d_head: int,
        d_backbone: int, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n_heads = n_heads
        inner = n_heads * d_head
        self.mapping = nn.Linear(vocabulary, prototypes)
        self.query = nn.Linear(d_model, inner)
        self.key = nn.Linear(d_backbone, inner)
        self.value = nn.Linear(d_backbone, inner)
        self.out = nn.Linear(inner, d_backbone)
        self.dropout = dropout
        self._kept: tuple[tuple[object, ...], tuple[Tensor, Tensor]] | None = None

    def prototypes(self, words_VE: Tensor) -> Tensor:
        """(K, E): every prototype is a weighted sum of all word embeddings, plus its bias."""
        weight_KV, bias_K = self.mapping.weight, self.mapping.bias
        return torch.addmm(bias_K[:, None], weight_KV, words_VE.to(weight_KV.dtype))

    def forward(self, patches_BPD: Tensor, words_VE: Tensor) -> Tensor:
        """Reprogrammed patches, (B, P, E)."""
        key_1hKd, value_1hKd = self._keys_values(words_VE)
        rows = len(patches_BPD)
        attended_BhPd = F.scaled_dot_product_attention(
            self._heads(self.query(patches_BPD)),
            key_1hKd.expand(rows, -1, -1, -1),
            value_1hKd.expand(rows, -1, -1, -1),
            dropout_p=self.dropout if self.training else 0.0,
        )
        reprogrammed: Tensor = self.out(attended_BhPd.transpose(1, 2).flatten(2))
        return reprogrammed

    def _keys_values(self, words_VE: Tensor) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled():
            self._kept = None
            return self._compute(words_VE)
        version = tuple(
            (p._version, p.data_ptr(), p.device)
            for part in (self.mapping, self.key, self.value)
            for p in part.parameters()
        )
        if self._kept is None or self._kept[0] != version:
            self._kept = version, self._compute(words_VE)
        return self._kept[1]

    def _compute(self, words_VE: Tensor) -> tuple[Tensor, Tensor]:
        prototypes_1KE = self.prototypes(words_VE)[None]
        return self._heads(self.key(prototypes_1KE)), self._heads(self.value(prototypes_1KE))

    def _heads(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.view(*x_BTD.shape[:2], self.n_heads, -1).transpose(1, 2)
