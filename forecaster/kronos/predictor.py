"""The autoregressive network over token pairs. Knows tokens and time stamps; no prices, no cache.

Legend: B series, T positions, D model width, V vocabulary of a half token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from forecaster.kronos.checkpoint import Pretrained
from forecaster.kronos.layers import (
    DEPENDENCY_HEADS,
    DependencyLayer,
    DualHead,
    HierarchicalEmbedding,
    RMSNorm,
    TemporalEmbedding,
    TransformerBlock,
)


class Kronos(Pretrained):
    """Decoder-only transformer: s1 from the context, then s2 given s1.

    Source: Shi et al. 2025, "Kronos: A Foundation Model for the Language of Financial Markets"
    (arXiv:2508.02739).

    >>> model = Kronos.from_pretrained("NeoQuasar/Kronos-small")
    """

    def __init__(
        self,
        s1_bits: int,
        s2_bits: int,
        n_layers: int,
        d_model: int,
        n_heads: int,
        ff_dim: int,
        ffn_dropout_p: float,
        attn_dropout_p: float,
        resid_dropout_p: float,
        token_dropout_p: float,
        learn_te: bool,
    ) -> None:
        super().__init__()
        if d_model % n_heads or d_model % DEPENDENCY_HEADS:
            raise ValueError(
                f"d_model={d_model} must be a multiple of n_heads={n_heads} and of "
                f"{DEPENDENCY_HEADS}, the heads of the dependency layer (key: d_model)"
            )
        self.s1_bits = s1_bits
        self.s2_bits = s2_bits
        self.d_model = d_model
        self.token_drop = nn.Dropout(token_dropout_p)
        self.embedding = HierarchicalEmbedding(s1_bits, s2_bits, d_model)
        self.time_emb = TemporalEmbedding(d_model, learn_te)
        self.transformer = nn.ModuleList(
            TransformerBlock(
                d_model, n_heads, ff_dim, ffn_dropout_p, attn_dropout_p, resid_dropout_p
            )
            for _ in range(n_layers)
        )
        self.norm = RMSNorm(d_model)
        self.dep_layer = DependencyLayer(d_model)
        self.head = DualHead(s1_bits, s2_bits, d_model)
        self._initialise()

    def _initialise(self) -> None:
        """Xavier for matrices, 1/√D for embeddings; fixed sinusoids keep their values."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding) and module.weight.requires_grad:
                nn.init.normal_(module.weight, std=self.d_model**-0.5)

    def embed(self, s1_ids: Tensor, s2_ids: Tensor, stamp: Tensor | None) -> Tensor:
        """Input of the first block, (…, D): both tokens plus, where given, the time of the bar."""
        x: Tensor = self.embedding((s1_ids, s2_ids))
        if stamp is not None:
            x = x + self.time_emb(stamp)
        return x

    def context(
        self,
        s1_ids: Tensor,
        s2_ids: Tensor,
        stamp: Tensor | None = None,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """What the network knows at every position, (B, T, D); both heads read it."""
        x = self.token_drop(self.embed(s1_ids, s2_ids, stamp))
        for block in self.transformer:
            x = block(x, padding_mask)
        out: Tensor = self.norm(x)
        return out

    def decode_s1(
        self,
        s1_ids: Tensor,
        s2_ids: Tensor,
        stamp: Tensor | None = None,
        padding_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """s1 logits (B, T, V) and the context (B, T, D) that `decode_s2` continues from."""
        context = self.context(s1_ids, s2_ids, stamp, padding_mask)
        return self.head(context), context

    def decode_s2(
        self,
        context: Tensor,
        s1_ids: Tensor,
        padding_mask: Tensor | None = None,
        *,
        last_only: bool = False,
    ) -> Tensor:
        """s2 logits given s1, (B, T, V): s1_ids is (B, T), or (B, 1) when decoding a step.

        last_only: logits of the last position alone, (B, 1, V); the others answer nothing when
        decoding a step.
        """
        sibling = self.embedding.emb_s1(s1_ids)
        return self.head.cond_forward(self.dep_layer(context, sibling, padding_mask, last_only))

    def forward(
        self,
        s1_ids: Tensor,
        s2_ids: Tensor,
        stamp: Tensor | None = None,
        padding_mask: Tensor | None = None,
        use_teacher_forcing: bool = False,
        s1_targets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits of the next s1 and s2 at every position, each (B, T, V).

        s2 is conditioned on `s1_targets` under teacher forcing, otherwise on a sample of s1 from
        torch's generator. In evaluation mode the dependency layer sees the whole sequence, as in
        the reference: measure losses in training mode.
        """
        s1_logits, context = self.decode_s1(s1_ids, s2_ids, stamp, padding_mask)
        if use_teacher_forcing:
            if s1_targets is None:
                raise ValueError("use_teacher_forcing=True needs s1_targets of shape (B, T)")
            given = s1_targets
        else:
            probs = s1_logits.detach().softmax(-1)
            given = torch.multinomial(probs.flatten(0, -2), 1).view(s1_ids.shape)
        return s1_logits, self.decode_s2(context, given, padding_mask)
