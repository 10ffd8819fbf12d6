"""Keys and values that generation keeps: one prefix per series, one suffix per path.

Knows attention; nothing of tokens, sampling or which network it serves.

Legend: B series, S paths, L prefix, U suffix so far, T new positions, H horizon, h heads, d head
width, N = B·h·S.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

QUERIES = 64
"""Queries of the prefix handled at a time; what lies in a block's future is left out."""


class LayerCache:
    """Keys and values of one attention layer: a prefix shared by the paths, and their suffixes.

    The suffix is preallocated for the whole horizon; `length` says how much of it is filled.
    Queries come scaled by log2(e)/√d, so that scores are plain products and weights powers of two:
    on CPUs, exp takes up to thirty times longer where it underflows, exp2 does not.
    """

    def __init__(self, k_BhdL: Tensor, v_BhLd: Tensor) -> None:
        self.k_prefix, self.v_prefix = k_BhdL, v_BhLd
        self.k_suffix = self.v_suffix = v_BhLd[:, :, None, :0]
        self.length = 0

    @classmethod
    def empty(
        cls, series: int, heads: int, length: int, width: int, like: Tensor, dtype: torch.dtype
    ) -> LayerCache:
        """Room for a prefix, laid out as every step's products read it; `fill` it."""
        if dtype == torch.bfloat16 and like.device.type == "cpu":
            shape = (series, heads, length, width)
            return FlashCache(*(like.new_empty(shape, dtype=dtype) for _ in range(2)))
        return cls(
            like.new_empty(series, heads, width, length, dtype=dtype),
            like.new_empty(series, heads, length, width, dtype=dtype),
        )

    def fill(self, rows: slice, k_BLhd: Tensor, v_BLhd: Tensor) -> None:
        """The prefix of some of the series."""
        self.k_prefix[rows] = k_BLhd.permute(0, 2, 3, 1)
        self.v_prefix[rows] = v_BLhd.transpose(1, 2)

    def attend_within(self, rows: slice, q_BLhd: Tensor) -> Tensor:
        """Causal attention inside the prefix of some of the series, (B, L, h·d)."""
        dtype = self.v_prefix.dtype
        q = q_BLhd.transpose(1, 2).to(dtype)
        k, v = (x[rows].flatten(0, 1) for x in (self.k_prefix, self.v_prefix))
        b, h, length, _ = q.shape
        seen = torch.empty(q_BLhd.shape, dtype=torch.float32, device=q.device)
        for start in range(0, length, QUERIES):
            end = min(start + QUERIES, length)
            scores = torch.bmm(q[:, :, start:end].flatten(0, 1), k[:, :, :end]).float()
            future = torch.ones(end - start, end - start, dtype=torch.bool, device=q.device)
            scores[..., start:].masked_fill_(future.triu(1), -torch.inf)
            weights, total = _weights(scores, scores.amax(-1, keepdim=True))
            out = torch.bmm(weights.to(dtype), v[:, :end]).float().div_(total)
            seen[:, start:end] = out.view(b, h, end - start, -1).transpose(1, 2)
        return seen.flatten(-2)

    @property
    def end(self) -> int:
        """Positions held: where the next one goes."""
        return self.v_prefix.shape[-2] + self.length

    def for_paths(self, paths: int, horizon: int) -> LayerCache:
        """An empty suffix for `paths` paths on the same prefix, which is not copied."""
        cache = type(self)(self.k_prefix, self.v_prefix)
        b, h, _, d = self.v_prefix.shape
        cache.k_suffix = self.v_prefix.new_empty(b, h, paths, horizon, d)
        cache.v_suffix = self.v_prefix.new_empty(b, h, paths, horizon, d)
        return cache

    def append(self, k_BSThd: Tensor, v_BSThd: Tensor) -> None:
        end = self.length + k_BSThd.shape[2]
        self.k_suffix[:, :, :, self.length : end] = k_BSThd.permute(0, 3, 1, 2, 4)
        self.v_suffix[:, :, :, self.length : end] = v_BSThd.permute(0, 3, 1, 2, 4)
        self.length = end

    def attend(self, q_BSThd: Tensor, *, causal: bool) -> Tensor:
        """Attention of each path's queries to the series' prefix and the path's own suffix,
        (B, S, T, h·d).

        The prefix is one matrix product per series and head for all paths; both parts share one
        softmax by their common maximum (log-sum-exp merging). With `causal`, the T queries are
        the last T suffix positions; otherwise all of the suffix is seen.
        """
        b, s, t, h, d = q_BSThd.shape
        dtype = self.v_prefix.dtype
        q = q_BSThd.permute(0, 3, 1, 2, 4).to(dtype).contiguous()
        rows = (b * h, s * t)
        far = torch.bmm(q.view(*rows, d), self.k_prefix.flatten(0, 1)).float()
        if self.length == 0:
            weight, total = _weights(far, far.amax(-1, keepdim=True))
            out = torch.bmm(weight.to(dtype), self.v_prefix.flatten(0, 1)).float()
        else:
            k, v = (x.flatten(0, 2)[:, : self.length] for x in (self.k_suffix, self.v_suffix))
            near = torch.bmm(q.view(-1, t, d), k.transpose(1, 2)).float()
            if causal and t > 1:
                future = torch.ones(t, self.length, dtype=torch.bool, device=near.device)
                near.masked_fill_(future.triu(self.length - t + 1), -torch.inf)
            peak = near.amax(-1, keepdim=True).view(*rows, 1)
            if far.shape[-1]:
                peak = torch.maximum(peak, far.amax(-1, keepdim=True))
            far, far_total = _weights(far, peak)
            near, near_total = _weights(near, peak.view(-1, t, 1))
            total = far_total + near_total.view(*rows, 1)
            out = torch.bmm(far.to(dtype), self.v_prefix.flatten(0, 1)).float()
            if dtype == torch.float32:
                out.view(-1, t, d).baddbmm_(near, v)
            else:
                out.view(-1, t, d).add_(torch.bmm(near.to(dtype), v))
        merged = out.new_empty(b, s, t, h, d)
        by_path = (b, h, s, t, -1)
        torch.div(out.view(by_path), total.view(by_path), out=merged.permute(0, 3, 1, 2, 4))
        return merged.flatten(-2)


class FlashCache(LayerCache):
    """The same in bfloat16 on a CPU, where torch's fused kernel is several times faster.

    Both parts are computed apart and merged by their log-sum-exp. Keys of the prefix are stored
    as (B, h, L, d).
    """

    def fill(self, rows: slice, k_BLhd: Tensor, v_BLhd: Tensor) -> None:
        self.k_prefix[rows] = k_BLhd.transpose(1, 2)
        self.v_prefix[rows] = v_BLhd.transpose(1, 2)

    def attend_within(self, rows: slice, q_BLhd: Tensor) -> Tensor:
        q = q_BLhd.transpose(1, 2).to(self.v_prefix.dtype)
        out, _ = _flash(q, self.k_prefix[rows], self.v_prefix[rows], causal=True)
        return out.transpose(1, 2).flatten(-2)

    def attend(self, q_BSThd: Tensor, *, causal: bool) -> Tensor:
        b, s, t, h, d = q_BSThd.shape
        q = q_BSThd.permute(0, 3, 1, 2, 4).to(self.v_prefix.dtype).contiguous()
        parts = []
        if self.v_prefix.shape[2]:
            parts.append(_flash(q.view(b, h, s * t, d), self.k_prefix, self.v_prefix))
        if self.length:
            k, v = (x.flatten(0, 1)[:, :, : self.length] for x in (self.k_suffix, self.v_suffix))
            # One query sees everything; several are the whole suffix, from its beginning.
            parts.append(_flash(q.view(b * h, s, t, d), k, v, causal=causal and t > 1))
        outs = [out.view(b, h, s, t, d).permute(0, 2, 3, 1, 4) for out, _ in parts]
        if len(parts) == 1:
            return outs[0].flatten(-2)
        sizes = [size.view(b, h, s, t, 1).permute(0, 2, 3, 1, 4) for _, size in parts]
        share = torch.sigmoid(sizes[0] - sizes[1])
        return torch.lerp(outs[1].float(), outs[0].float(), share).flatten(-2)


def _flash(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> tuple[Tensor, Tensor]:
    """torch's fused CPU attention on (…, queries, d): outputs, and log-sum-exp of the scores."""
    out, size = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, is_causal=causal, scale=math.log(2)
    )
    return out, size


def _weights(scores: Tensor, peak: Tensor) -> tuple[Tensor, Tensor]:
    """2^(scores - peak) in the place of the scores, and its sum over the last axis."""
    weights = scores.sub_(peak).exp2_()
    return weights, weights.sum(-1, keepdim=True)
