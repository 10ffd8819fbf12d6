"""Kronos' weights laid out for generation. Knows layers and attention caches; nothing of sampling.

The published weights are rearranged once, exactly up to rounding: q/k/v and gate/up become one
product each; norm weights, the root of the width, and the log2(e)/√d that lets attention use
powers of two are folded into the matrices that follow; matrices are stored transposed, which is
faster for few rows; the pairs that rotary positions turn are made neighbours, so that a rotation
is one complex product; what depends on a token id alone becomes a table.

The residual stream is float32 in every precision; products and caches use `dtype`.

Legend: B series, S paths, L lookback, T new positions, R rows, h heads, d head width, D model
width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's customary name
from torch import Tensor, nn

from forecaster.kronos.cache import LayerCache
from forecaster.kronos.layers import CrossAttention, RMSNorm, SelfAttention, TransformerBlock

LOG2_E = math.log2(math.e)
PREFILLED_NUMBERS = 2**17
"""Positions × width of the past handled at a time: what the blocks make of them fits a core's
cache."""


class UnitNorm:
    """x / √(|x|² + D·eps): RMS-normalised but for `gain`, which the matrix that follows carries."""

    def __init__(self, norm: RMSNorm) -> None:
        self.gain_D = norm.weight.detach() * math.sqrt(norm.weight.shape[0])
        self.floor = self.gain_D.new_tensor(math.sqrt(norm.weight.shape[0] * norm.eps))

    def __call__(self, x: Tensor) -> Tensor:
        return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.floor)


@dataclass(frozen=True)
class Product:
    """x @ weight + bias, the weight stored as (in, out)."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, linears: Sequence[nn.Linear], gain: Tensor | None, dtype: torch.dtype) -> Product:
        """Linears side by side, their common input scaled by `gain`."""
        weight = torch.cat([each.weight.detach() for each in linears]).t()
        if gain is not None:
            weight = gain[:, None] * weight
        biases = [each.bias.detach() for each in linears if each.bias is not None]
        return cls(weight.contiguous().to(dtype), torch.cat(biases).to(dtype) if biases else None)

    def __call__(self, x_RD: Tensor) -> Tensor:
        x_RD = x_RD.to(self.weight.dtype)
        return x_RD @ self.weight if self.bias is None else self.bias.addmm(x_RD, self.weight)

    def add_to(self, out_RD: Tensor, x_RD: Tensor) -> Tensor:
        """out += x @ weight + bias, in place."""
        if self.bias is not None:
            out_RD.add_(self.bias)
        if out_RD.dtype == self.weight.dtype:
            return out_RD.addmm_(x_RD, self.weight)
        return out_RD.add_((x_RD.to(self.weight.dtype) @ self.weight).float())


class FusedBlock:
    """One transformer block: attention against a cache, then SwiGLU, each with its residual."""

    def __init__(self, block: TransformerBlock, dtype: torch.dtype) -> None:
        attention = block.self_attn
        self.heads, self.width = attention.n_heads, attention.head_dim
        self.norm1, self.norm2 = UnitNorm(block.norm1), UnitNorm(block.norm2)
        self.qkv = _qkv(attention, self.norm1.gain_D, dtype)
        self.out = Product.of([attention.out_proj], None, dtype)
        gate_up = [block.ffn.w1, block.ffn.w3]
        self.gate_up = Product.of(gate_up, self.norm2.gain_D, dtype)
        self.down = Product.of([block.ffn.w2], None, dtype)

    def project(self, x_RD: Tensor, turn: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Rotated queries and keys, and values, each (*shape, h, d).

        turn: e^(i·angle) of the positions, broadcasting against (*shape, 2, h, d/2).
        """
        qkv = self.qkv(self.norm1(x_RD)).view(*shape, 3, self.heads, self.width)
        pairs = qkv[..., :2, :, :].float().view(*shape, 2, self.heads, self.width // 2, 2)
        turned = torch.view_as_real(torch.view_as_complex(pairs) * turn).flatten(-2)
        return turned[..., 0, :, :], turned[..., 1, :, :], qkv[..., 2, :, :]

    def finish(self, x_RD: Tensor, attended_RD: Tensor) -> Tensor:
        """Adds the attention's output and the feed-forward to the residual stream, in place."""
        self.out.add_to(x_RD, attended_RD)
        gate, up = self.gate_up(self.norm2(x_RD)).chunk(2, dim=-1)
        return self.down.add_to(x_RD, F.silu(gate).mul_(up))


def _qkv(attention: SelfAttention, gain: Tensor, dtype: torch.dtype) -> Product:
    """Queries carry log2(e)/√d; the pairs of queries and keys (i, i + d/2) become neighbours."""
    h, d = attention.n_heads, attention.head_dim
    full = Product.of([attention.q_proj, attention.k_proj, attention.v_proj], gain, torch.float32)
    assert full.bias is not None
    paired = torch.arange(d).view(2, d // 2).t().flatten()
    order = (torch.arange(h)[:, None] * d + paired).flatten()
    columns = torch.cat((order, order + h * d, torch.arange(h * d) + 2 * h * d))
    scale = torch.ones(3 * h * d)
    scale[: h * d] = LOG2_E * d**-0.5
    columns, scale = columns.to(full.weight.device), scale.to(full.weight.device)
    weight, bias = full.weight[:, columns] * scale, full.bias[columns] * scale
    return Product(weight.contiguous().to(dtype), bias.to(dtype))


class FusedStack:
    """The blocks of one network, run over a shared past or over new positions of every path."""

    def __init__(self, blocks: nn.ModuleList, dtype: torch.dtype) -> None:
        self.blocks: list[FusedBlock] = []
        for block in blocks:
            assert isinstance(block, TransformerBlock)
            self.blocks.append(FusedBlock(block, dtype))
            self.inv_freq = block.self_attn.rotary.inv_freq
        self.dtype = dtype

    def _turn(self, start: int, length: int) -> Tensor:
        """e^(i·angle) for positions start … start + length - 1, (length, 1, 1, d/2)."""
        position = torch.arange(start, start + length, device=self.inv_freq.device)
        angle = torch.outer(position.type_as(self.inv_freq), self.inv_freq)
        return torch.polar(torch.ones_like(angle), angle)[:, None, None]

    def prefill(self, x_BLD: Tensor) -> tuple[Tensor, list[LayerCache]]:
        """Runs over the past, once per series: outputs and every block's cache."""
        b, length, width = x_BLD.shape
        caches = [
            LayerCache.empty(b, block.heads, length, block.width, x_BLD, self.dtype)
            for block in self.blocks
        ]
        out = x_BLD.clone(memory_format=torch.contiguous_format)
        turn = self._turn(0, length)
        group = min(b, max(1, PREFILLED_NUMBERS // max(1, length * width)))
        for start in range(0, b, group):
            rows = slice(start, start + group)
            x = out[rows].view(-1, width)
            for block, cache in zip(self.blocks, caches, strict=True):
                q, k, v = block.project(x, turn, (-1, length))
                cache.fill(rows, k, v)
                block.finish(x, cache.attend_within(rows, q).flatten(0, 1))
        return out, caches

    def extend(self, caches: Sequence[LayerCache], x_BSTD: Tensor) -> Tensor:
        """Runs over T further positions of every path, and appends them to the caches."""
        shape = x_BSTD.shape[:3]
        x = x_BSTD.reshape(-1, x_BSTD.shape[-1])
        turn = self._turn(caches[0].end, shape[2])
        for block, cache in zip(self.blocks, caches, strict=True):
            q, k, v = block.project(x, turn, shape)
            cache.append(k, v)
            x = block.finish(x, cache.attend(q, causal=True).flatten(0, 2))
        return x.view(x_BSTD.shape)


class FusedDependency:
    """The layer that lets s2 know s1: one unrotated query per path against all contexts so far."""

    def __init__(self, cross: CrossAttention, emb_s1: nn.Embedding, dtype: torch.dtype) -> None:
        self.heads, self.width = cross.n_heads, cross.head_dim
        self.kv = Product.of([cross.k_proj, cross.v_proj], None, dtype)
        self.out = Product.of([cross.out_proj], None, dtype)
        self.query_VD = (cross.q_proj(emb_s1.weight).detach() * LOG2_E * self.width**-0.5).to(dtype)

    def prefill(self, context_BLD: Tensor) -> LayerCache:
        """Keys and values of the past, once per series."""
        shape = context_BLD.shape[:2]
        cache = LayerCache.empty(
            shape[0], self.heads, shape[1], self.width, context_BLD, self.kv.weight.dtype
        )
        cache.fill(slice(None), *self.project(context_BLD.flatten(0, 1), shape))
        return cache

    def project(self, context_RD: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Keys and values of contexts, each (*shape, h, d)."""
        kv = self.kv(context_RD).view(*shape, 2, self.heads, self.width)
        return kv[..., 0, :, :], kv[..., 1, :, :]

    def see(self, cache: LayerCache, s1_BS: Tensor) -> Tensor:
        """What the layer adds to the context of each path, (R, D) float32."""
        query = self.query_VD[s1_BS].view(*s1_BS.shape, 1, self.heads, self.width)
        seen = cache.attend(query, causal=False).flatten(0, 2)
        return self.out(seen).float()
