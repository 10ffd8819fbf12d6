"""Normalised bars to tokens and back. Knows nothing of prices, dates or what the tokens are for;
it carries the name of the features it was trained on.

Legend: B series, T positions, F features, D model width, K bits (s1 then s2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from forecaster.features import FeatureSpace, require_known
from forecaster.kronos.checkpoint import Pretrained
from forecaster.kronos.layers import TransformerBlock
from forecaster.kronos.quantizer import BSQuantizer, ids_to_bits
from market.errors import CheckpointError


class KronosTokenizer(Pretrained):
    """Causal transformer autoencoder around a binary spherical quantizer.

    `n_enc_layers` and `n_dec_layers` count one more than the blocks that are built, as in the
    published configs.

    >>> tokenizer = KronosTokenizer.from_pretrained("NeoQuasar/Kronos-Tokenizer-base")
    """

    starts_at_last_close = False
    """Bars are decoded as levels, with an error that is already there at the last known bar. A
    tokenizer of returns states True: its paths start at the last close and need no anchor."""

    def __init__(
        self,
        d_in: int,
        d_model: int,
        n_heads: int,
        ff_dim: int,
        n_enc_layers: int,
        n_dec_layers: int,
        ffn_dropout_p: float,
        attn_dropout_p: float,
        resid_dropout_p: float,
        s1_bits: int,
        s2_bits: int,
        beta: float,
        gamma0: float,
        gamma: float,
        zeta: float,
        group_size: int,
        features: FeatureSpace = "levels",
    ) -> None:
        """features: what the bars are to it, `levels` or `returns` (see `forecaster.features`);
        the published tokenizers see levels, and their configs do not say so."""
        super().__init__()
        require_known(features)
        self.features: FeatureSpace = features
        if features == "returns":
            self.starts_at_last_close = True
        self.d_in = d_in
        self.d_model = d_model
        self.s1_bits = s1_bits
        self.s2_bits = s2_bits
        self.codebook_dim = s1_bits + s2_bits

        def blocks(count: int) -> nn.ModuleList:
            return nn.ModuleList(
                TransformerBlock(
                    d_model, n_heads, ff_dim, ffn_dropout_p, attn_dropout_p, resid_dropout_p
                )
                for _ in range(count)
            )

        self.embed = nn.Linear(d_in, d_model)
        self.head = nn.Linear(d_model, d_in)
        self.encoder = blocks(n_enc_layers - 1)
        self.decoder = blocks(n_dec_layers - 1)
        self.quant_embed = nn.Linear(d_model, self.codebook_dim)
        self.post_quant_embed_pre = nn.Linear(s1_bits, d_model)
        self.post_quant_embed = nn.Linear(self.codebook_dim, d_model)
        self.tokenizer = BSQuantizer(s1_bits, s2_bits, beta, gamma0, gamma, zeta, group_size)

    def latent(self, x_BTF: Tensor) -> Tensor:
        """What the quantizer sees, before normalisation, (B, T, K)."""
        z = self.embed(x_BTF)
        for block in self.encoder:
            z = block(z)
        out: Tensor = self.quant_embed(z)
        return out

    def reconstruct(self, z_BTD: Tensor) -> Tensor:
        """Decoder blocks and output projection, (B, T, D) → (B, T, F)."""
        for block in self.decoder:
            z_BTD = block(z_BTD)
        out: Tensor = self.head(z_BTD)
        return out

    def forward(
        self, x_BTF: Tensor
    ) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor, Tensor | list[Tensor]]:
        """((from s1 bits, from all bits), quantizer loss, codes, composite ids)."""
        bsq_loss, quantized, ids = self.tokenizer(self.latent(x_BTF))
        from_s1 = self.reconstruct(self.post_quant_embed_pre(quantized[..., : self.s1_bits]))
        from_all = self.reconstruct(self.post_quant_embed(quantized))
        return (from_s1, from_all), bsq_loss, quantized, ids

    def encode(self, x: Tensor, half: bool = False) -> Tensor | list[Tensor]:
        """Ids of normalised bars (B, T, F): composite (s1 in the low bits), or [s1, s2]."""
        _, quantized = self.tokenizer.quantize(self.latent(x))
        return self.tokenizer.ids(quantized, half)

    def encode_pair(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """s1 and s2 ids, each (B, T)."""
        s1, s2 = self.encode(x, half=True)
        return s1, s2

    def indices_to_bits(self, x: Tensor | Sequence[Tensor], half: bool = False) -> Tensor:
        """Codes ±1/√K of ids, (…, K).

        Raises CheckpointError where half mode is asked of a tokenizer with s1_bits ≠ s2_bits: the
        published format has no place for the odd bits.
        """
        if half:
            if self.s1_bits != self.s2_bits:
                raise CheckpointError(
                    f"config.json: s1_bits={self.s1_bits} and s2_bits={self.s2_bits} differ; pairs "
                    "of tokens (half mode) need equal bits. Train or load a tokenizer with "
                    "s1_bits = s2_bits."
                )
            s1, s2 = x
            bits = torch.cat((ids_to_bits(s1, self.s1_bits), ids_to_bits(s2, self.s2_bits)), dim=-1)
        else:
            if not isinstance(x, Tensor):
                raise TypeError("composite ids must be one tensor; pass half=True for a pair")
            bits = ids_to_bits(x, self.codebook_dim)
        scaled: Tensor = (bits / self.codebook_dim**0.5).to(self.head.weight.dtype)
        return scaled

    def decode(self, x: Tensor | Sequence[Tensor], half: bool = False) -> Tensor:
        """Normalised bars (B, T, F) of composite ids, or of the pair [s1, s2] where half."""
        return self.reconstruct(self.post_quant_embed(self.indices_to_bits(x, half)))
