"""Keys and values that generation keeps: one prefix per series, one suffix per path.

Knows attention; nothing of tokens, sampling or which network it serves.

Legend: B series, S paths, L prefix, U suffix so far, T new positions, h heads, d head width,
D model width.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from forecaster.kronos.layers import TransformerBlock


class LayerCache:
    """Keys and values of one attention layer: a prefix shared by the paths, and their suffixes.

    The suffix is preallocated for the whole horizon; `length` says how much of it is filled.
    """

    def __init__(self, k_BhdL: Tensor, v_BhLd: Tensor) -> None:
        self.k_prefix, self.v_prefix = k_BhdL, v_BhLd
        self.k_suffix: Tensor | None = None
        self.v_suffix: Tensor | None = None
        self.length = 0

    @classmethod
    def of(cls, k_BhLd: Tensor, v_BhLd: Tensor) -> LayerCache:
        """A prefix laid out once as every step's products read it."""
        return cls(k_BhLd.transpose(-1, -2).contiguous(), v_BhLd.contiguous())

    def for_paths(self, paths: int, horizon: int) -> LayerCache:
        """An empty suffix for `paths` paths on the same prefix, which is not copied."""
        cache = LayerCache(self.k_prefix, self.v_prefix)
        b, h, _, d = self.v_prefix.shape
        cache.k_suffix = self.v_prefix.new_empty(b, paths, h, horizon, d)
        cache.v_suffix = self.v_prefix.new_empty(b, paths, h, horizon, d)
        return cache

    def append(self, k_BShTd: Tensor, v_BShTd: Tensor) -> None:
        assert self.k_suffix is not None
        assert self.v_suffix is not None
        end = self.length + k_BShTd.shape[-2]
        self.k_suffix[..., self.length : end, :] = k_BShTd
        self.v_suffix[..., self.length : end, :] = v_BShTd
        self.length = end

    def attend(self, q_BShTd: Tensor, *, causal: bool) -> Tensor:
        """Attention of each path's queries to the series' prefix and the path's own suffix.

        The prefix is one matrix product per series and head for all paths; both parts share one
        softmax by their common maximum (log-sum-exp merging). With `causal`, the T queries are
        the last T suffix positions; otherwise all of the suffix is seen.
        """
        b, s, h, t, d = q_BShTd.shape

        def by_path(x_BhX: Tensor) -> Tensor:
            """(B, h, S·T, …) → (B, S, h, T, …)."""
            return x_BhX.reshape(b, h, s, t, *x_BhX.shape[3:]).transpose(1, 2)

        q = q_BShTd * d**-0.5
        q_BhXd = q.transpose(1, 2).reshape(b, h, s * t, d)
        far = q_BhXd @ self.k_prefix
        peak = far.amax(-1) if far.shape[-1] else far.new_full((b, h, s * t), -torch.inf)
        if self.k_suffix is None or self.v_suffix is None or self.length == 0:
            weight = far.sub_(peak[..., None]).exp_()
            return by_path((weight @ self.v_prefix) / weight.sum(-1, keepdim=True))
        near = q @ self.k_suffix[..., : self.length, :].transpose(-1, -2)
        if causal and t > 1:
            future = torch.ones(t, self.length, dtype=torch.bool, device=q.device)
            near = near.masked_fill(future.triu(self.length - t + 1), -torch.inf)
        peak_BShT = torch.maximum(by_path(peak), near.amax(-1))
        far = far.sub_(peak_BShT.transpose(1, 2).reshape(b, h, s * t, 1)).exp_()
        near = near.sub_(peak_BShT[..., None]).exp_()
        weighted = by_path(far @ self.v_prefix) + near @ self.v_suffix[..., : self.length, :]
        total = by_path(far.sum(-1)) + near.sum(-1)
        merged: Tensor = weighted / total[..., None]
        return merged


def prefill(blocks: nn.ModuleList, x_BLD: Tensor) -> tuple[Tensor, list[LayerCache]]:
    """Runs the blocks over the prefix, once per series; returns outputs and every layer's cache."""
    caches: list[LayerCache] = []
    for block in _blocks(blocks):
        attention = block.self_attn
        table = attention.rotary.table(0, x_BLD.shape[1])
        q, k, v = attention.project(block.norm1(x_BLD), table)
        caches.append(LayerCache.of(k, v))
        x_BLD = x_BLD + attention.merge(attention.attend(q, k, v, True, None))
        x_BLD = x_BLD + block.ffn(block.norm2(x_BLD))
    return x_BLD, caches


def extend(blocks: nn.ModuleList, caches: list[LayerCache], x_BSTD: Tensor) -> Tensor:
    """Runs the blocks over T further positions of every path, and appends to the caches."""
    for block, cache in zip(_blocks(blocks), caches, strict=True):
        attention = block.self_attn
        start = cache.v_prefix.shape[-2] + cache.length
        table = attention.rotary.table(start, x_BSTD.shape[-2])
        q, k, v = attention.project(block.norm1(x_BSTD), table)
        cache.append(k, v)
        x_BSTD = x_BSTD + attention.merge(cache.attend(q, causal=True))
        x_BSTD = x_BSTD + block.ffn(block.norm2(x_BSTD))
    return x_BSTD


def _blocks(blocks: nn.ModuleList) -> Iterator[TransformerBlock]:
    for block in blocks:
        assert isinstance(block, TransformerBlock)
        yield block
