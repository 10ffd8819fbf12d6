"""The building blocks both Kronos networks share. Knows tensors; nothing of tokens, time or prices.

Parameter names are those of the published checkpoints, so they must not change. Attention is split
into project → rotate → attend → merge, because generation attends differently (against a cache)
while everything else stays the same.

Legend: B batch, T positions, D model width, h heads, d width of a head, V vocabulary.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's customary name
from torch import Tensor, nn

DEPENDENCY_HEADS = 4
"""Heads of the dependency layer in every published model, whatever its width."""


class RMSNorm(nn.Module):
    """Root-mean-square normalisation (Zhang & Sennrich 2019, eq. 4), computed in float32."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, eps=self.eps).type_as(x) * self.weight


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020, eq. 6): w2(silu(w1 x) * w3 x)."""

    def __init__(self, d_model: int, ff_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.w1 = nn.Linear(d_model, ff_dim, bias=False)
        self.w3 = nn.Linear(d_model, ff_dim, bias=False)
        self.w2 = nn.Linear(ff_dim, d_model, bias=False)
        self.ffn_dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = self.ffn_dropout(self.w2(F.silu(self.w1(x)) * self.w3(x)))
        return gated


class Rotary(nn.Module):
    """Rotary position embedding (Su et al. 2021), halves convention, base 10,000."""

    inv_freq: Tensor

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        exponent = torch.arange(0, head_dim, 2).float() / head_dim
        self.register_buffer("inv_freq", 1.0 / (10000**exponent))

    def table(self, start: int, length: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines for positions start … start + length - 1, each (length, d)."""
        position = torch.arange(start, start + length, device=self.inv_freq.device)
        angle = torch.outer(position.type_as(self.inv_freq), self.inv_freq)
        angle = torch.cat((angle, angle), dim=-1)
        return angle.cos(), angle.sin()

    @staticmethod
    def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
        """Rotates the last axis of (…, T, d) by the table's angles."""
        cos, sin = table
        low, high = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-high, low), dim=-1) * sin


class Attention(nn.Module):
    """Multi-head attention whose steps generation can use one by one."""

    def __init__(
        self, d_model: int, n_heads: int, attn_dropout: float = 0.0, resid_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.head_dim = d_model // n_heads
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)
        self.rotary = Rotary(self.head_dim)
        self.attn_dropout_p = attn_dropout
        self.resid_dropout = nn.Dropout(resid_dropout)

    def heads(self, x: Tensor) -> Tensor:
        """(…, T, D) → (…, h, T, d)."""
        split = x.reshape(*x.shape[:-1], self.n_heads, self.head_dim)
        return split.transpose(-3, -2)

    def merge(self, out: Tensor) -> Tensor:
        """(…, h, T, d) → (…, T, D), through the output projection."""
        merged: Tensor = self.resid_dropout(self.out_proj(out.transpose(-3, -2).flatten(-2)))
        return merged

    def attend(self, q: Tensor, k: Tensor, v: Tensor, causal: bool, mask: Tensor | None) -> Tensor:
        """Softmax attention over (B, h, T, d); mask is True where a key may be seen."""
        return F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.attn_dropout_p if self.training else 0.0,
            is_causal=causal and mask is None,
        )


def visible(padding_mask: Tensor | None, length: int, causal: bool) -> Tensor | None:
    """Which keys each query may see, (B, 1, T, T), or None where causality alone decides.

    padding_mask: (B, T), nonzero on padding. A padded query still sees itself, so that its
    (unused) output stays finite.
    """
    if padding_mask is None:
        return None
    seen = (padding_mask == 0)[:, None, None, :].expand(-1, 1, length, -1)
    if causal:
        seen = seen & torch.ones(length, length, dtype=torch.bool, device=seen.device).tril()
    return seen | torch.eye(length, dtype=torch.bool, device=seen.device)


class SelfAttention(Attention):
    """Causal self-attention with rotary positions."""

    def project(self, x: Tensor, table: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values, each (…, h, T, d)."""
        q = self.rotary.rotate(self.heads(self.q_proj(x)), table)
        k = self.rotary.rotate(self.heads(self.k_proj(x)), table)
        return q, k, self.heads(self.v_proj(x))

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        length = x.shape[1]
        q, k, v = self.project(x, self.rotary.table(0, length))
        return self.merge(self.attend(q, k, v, True, visible(padding_mask, length, causal=True)))


class CrossAttention(Attention):
    """Attention of one sequence to another of the same length, or of a single query to it.

    A single query is the decoding case: neither it nor the keys are rotated, so keys carry no
    position. Sequences are rotated; they are causal in training mode only (in evaluation mode a
    position sees the future, as in the reference: validation losses must use training mode).
    """

    def forward(self, query: Tensor, context: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        q = self.heads(self.q_proj(query))
        k = self.heads(self.k_proj(context))
        v = self.heads(self.v_proj(context))
        t, length = query.shape[1], context.shape[1]
        if t == length and t > 1:
            table = self.rotary.table(0, length)
            q, k = self.rotary.rotate(q, table), self.rotary.rotate(k, table)
        elif t != 1:
            raise ValueError(
                f"{t} queries against a context of {length}: give one query (decoding) or as many "
                "as the context has positions"
            )
        if t == 1:
            mask = None if padding_mask is None else (padding_mask == 0)[:, None, None, :]
            return self.merge(self.attend(q, k, v, False, mask))
        mask = visible(padding_mask, length, causal=self.training)
        return self.merge(self.attend(q, k, v, self.training, mask))


class TransformerBlock(nn.Module):
    """Pre-norm block: attention, then feed-forward, each with a residual."""

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        ff_dim: int,
        ffn_dropout_p: float = 0.0,
        attn_dropout_p: float = 0.0,
        resid_dropout_p: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = RMSNorm(d_model)
        self.self_attn = SelfAttention(d_model, n_heads, attn_dropout_p, resid_dropout_p)
        self.norm2 = RMSNorm(d_model)
        self.ffn = FeedForward(d_model, ff_dim, ffn_dropout_p)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        x = x + self.self_attn(self.norm1(x), padding_mask)
        out: Tensor = x + self.ffn(self.norm2(x))
        return out


class DependencyLayer(nn.Module):
    """Lets the fine token (s2) depend on the coarse one (s1) drawn at the same position."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.cross_attn = CrossAttention(d_model, DEPENDENCY_HEADS)
        self.norm = RMSNorm(d_model)

    def forward(
        self,
        context: Tensor,
        sibling: Tensor,
        padding_mask: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """context (B, T, D) and the embedding of s1, (B, T, D) or (B, 1, D)."""
        seen = self.cross_attn(sibling, context, padding_mask)
        if last_only:
            context, seen = context[:, -1:], seen[:, -1:]
        out: Tensor = self.norm(context + seen)
        return out


class HierarchicalEmbedding(nn.Module):
    """Embeds the pair (s1, s2), or a composite id that holds s1 in its high bits.

    `KronosTokenizer.encode(half=False)` puts s1 in the *low* bits. The two conventions differ in
    the reference as well, and weights depend on them: feed pairs.
    """

    def __init__(self, s1_bits: int, s2_bits: int, d_model: int) -> None:
        super().__init__()
        self.s2_bits = s2_bits
        self.d_model = d_model
        self.emb_s1 = nn.Embedding(2**s1_bits, d_model)
        self.emb_s2 = nn.Embedding(2**s2_bits, d_model)
        self.fusion_proj = nn.Linear(2 * d_model, d_model)

    def split_token(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        ids = token_ids.long()
        return ids >> self.s2_bits, ids & ((1 << self.s2_bits) - 1)

    def forward(self, tokens: Tensor | tuple[Tensor, Tensor] | list[Tensor]) -> Tensor:
        s1, s2 = self.split_token(tokens) if isinstance(tokens, Tensor) else tokens
        both = torch.cat((self.emb_s1(s1), self.emb_s2(s2)), dim=-1) * math.sqrt(self.d_model)
        fused: Tensor = self.fusion_proj(both)
        return fused


class FixedEmbedding(nn.Module):
    """Sinusoidal table (Vaswani et al. 2017, section 3.5) that is stored but never trained."""

    def __init__(self, size: int, d_model: int) -> None:
        super().__init__()
        position = torch.arange(size).float().unsqueeze(1)
        rate = torch.exp(torch.arange(0, d_model, 2).float() * (-math.log(10000.0) / d_model))
        weight = torch.zeros(size, d_model)
        weight[:, 0::2] = torch.sin(position * rate)
        weight[:, 1::2] = torch.cos(position * rate)
        self.emb = nn.Embedding(size, d_model)
        self.emb.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.emb(x).detach()  # type: ignore[no-any-return]


class TemporalEmbedding(nn.Module):
    """Sum of embeddings of minute, hour, weekday (Monday 0), day of month and month."""

    def __init__(self, d_model: int, learned: bool) -> None:
        super().__init__()
        kind: type[nn.Module] = nn.Embedding if learned else FixedEmbedding
        self.minute_embed = kind(60, d_model)
        self.hour_embed = kind(24, d_model)
        self.weekday_embed = kind(7, d_model)
        self.day_embed = kind(32, d_model)
        self.month_embed = kind(13, d_model)

    def forward(self, stamp: Tensor) -> Tensor:
        """stamp (…, 5) in the order above → (…, D)."""
        minute, hour, weekday, day, month = stamp.long().unbind(-1)
        total: Tensor = (
            self.hour_embed(hour)
            + self.weekday_embed(weekday)
            + self.day_embed(day)
            + self.month_embed(month)
            + self.minute_embed(minute)
        )
        return total


class DualHead(nn.Module):
    """Logits of s1 from the context, and of s2 from the context that knows s1."""

    def __init__(self, s1_bits: int, s2_bits: int, d_model: int) -> None:
        super().__init__()
        self.proj_s1 = nn.Linear(d_model, 2**s1_bits)
        self.proj_s2 = nn.Linear(d_model, 2**s2_bits)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.proj_s1(x)
        return logits

    def cond_forward(self, x2: Tensor) -> Tensor:
        logits: Tensor = self.proj_s2(x2)
        return logits

    def compute_loss(
        self,
        s1_logits: Tensor,
        s2_logits: Tensor,
        s1_targets: Tensor,
        s2_targets: Tensor,
        padding_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean of both cross-entropies (nats per token), and each; padding does not count."""
        if padding_mask is not None:
            keep = padding_mask == 0
            s1_logits, s2_logits = s1_logits[keep], s2_logits[keep]
            s1_targets, s2_targets = s1_targets[keep], s2_targets[keep]
        ce_s1 = F.cross_entropy(s1_logits.flatten(0, -2), s1_targets.flatten())
        ce_s2 = F.cross_entropy(s2_logits.flatten(0, -2), s2_targets.flatten())
        return (ce_s1 + ce_s2) / 2, ce_s1, ce_s2
