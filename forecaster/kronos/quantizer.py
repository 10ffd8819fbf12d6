"""Binary spherical quantization: a latent becomes a string of bits. Knows nothing of time series.

Source: Zhao, Xiong & Krähenbühl 2024, "Image and Video Tokenization with Binary Spherical
Quantization" (arXiv:2406.07548): a latent on the unit sphere is rounded to the nearest corner of
the inscribed hypercube, whose entropy factorises over bits.

Legend: B batch, T positions, K bits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's customary name
from torch import Tensor, nn


def entropy(p: Tensor) -> Tensor:
    """Shannon entropy in nats over the last axis; 1e-8 keeps log finite at 0."""
    return -(p * torch.log(p + 1e-8)).sum(-1)


class BinarySphericalQuantizer(nn.Module):
    """Signs of a unit vector, with straight-through gradients, and the loss that spreads them.

    loss = beta · |q - z|² + zeta · (gamma0 · H[q | z] - gamma · H[q]): commitment, plus confident
    bits per sample, minus diversity over the batch (the paper's eq. 9 to 12). As in the reference,
    diversity is the sum of the entropies of the single bits' mean probabilities, so correlated
    bits count as diverse and `group_size` has no influence on the loss.
    """

    basis: Tensor
    group_basis: Tensor

    def __init__(
        self, bits: int, beta: float, gamma0: float, gamma: float, zeta: float, group_size: int
    ) -> None:
        super().__init__()
        if bits % group_size:
            raise ValueError(
                f"group_size={group_size} must divide s1_bits + s2_bits = {bits} (key: group_size)"
            )
        self.bits = bits
        self.beta, self.gamma0, self.gamma, self.zeta = beta, gamma0, gamma, zeta
        # Buffers of the published checkpoints; nothing here needs them.
        self.register_buffer("basis", 2 ** torch.arange(bits - 1, -1, -1))
        self.register_buffer("group_basis", 2 ** torch.arange(group_size - 1, -1, -1))

    def forward(self, z_BTK: Tensor) -> Tensor:
        """Corners of the hypercube on the unit sphere, ±1/√K; gradients pass straight through."""
        corner = torch.where(z_BTK > 0, 1.0, -1.0).to(z_BTK.dtype)
        through: Tensor = (corner + (z_BTK - z_BTK.detach())) / self.bits**0.5
        return through

    def loss(
        self,
        z_BTK: Tensor,
        quantized_BTK: Tensor,
        group_mean: Callable[[Tensor], Tensor] = lambda value: value,
    ) -> Tensor:
        """group_mean: averages the bits' mean probabilities with those of other processes that
        hold other parts of the batch; diversity is that of the whole batch."""
        commitment = (quantized_BTK.detach() - z_BTK).square().sum(-1).mean()
        p = torch.sigmoid(-4 * z_BTK / self.bits**0.5)
        p_BTK2 = torch.stack((p, 1 - p), dim=-1)
        confident = entropy(p_BTK2).sum(-1).mean()
        diverse = entropy(group_mean(p_BTK2.flatten(0, -3).mean(0))).sum()
        return self.beta * commitment + self.zeta * (self.gamma0 * confident - self.gamma * diverse)


def bits_to_ids(bits_BTK: Tensor) -> Tensor:
    """Bit k counts 2^k; a bit is set where the value is not negative."""
    weight = 2 ** torch.arange(bits_BTK.shape[-1], device=bits_BTK.device)
    return ((bits_BTK >= 0).long() * weight).sum(-1)


def ids_to_bits(ids: Tensor, bits: int) -> Tensor:
    """The inverse: (…) → (…, bits), values ±1 as float32."""
    weight = 2 ** torch.arange(bits, device=ids.device)
    return ((ids.unsqueeze(-1) & weight) != 0).float() * 2 - 1


class BSQuantizer(nn.Module):
    """The quantizer of Kronos: normalise, take signs, split the bits into s1 (coarse) and s2."""

    def __init__(
        self,
        s1_bits: int,
        s2_bits: int,
        beta: float,
        gamma0: float,
        gamma: float,
        zeta: float,
        group_size: int,
    ) -> None:
        super().__init__()
        self.s1_bits = s1_bits
        self.bsq = BinarySphericalQuantizer(
            s1_bits + s2_bits, beta, gamma0, gamma, zeta, group_size
        )

    def quantize(self, latent_BTK: Tensor) -> tuple[Tensor, Tensor]:
        """The L2-normalised latent and its corner."""
        z = F.normalize(latent_BTK, dim=-1)
        return z, self.bsq(z)

    def forward(
        self, latent_BTK: Tensor, half: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | list[Tensor]]:
        """(loss, codes, ids): ids are composite, or the pair [s1, s2] where half is true."""
        z, quantized = self.quantize(latent_BTK)
        return self.bsq.loss(z, quantized), quantized, self.ids(quantized, half)

    def ids(self, quantized_BTK: Tensor, half: bool) -> Tensor | list[Tensor]:
        """Ids of the codes; a composite id has s1 in its low bits."""
        if not half:
            return bits_to_ids(quantized_BTK)
        s1, s2 = quantized_BTK[..., : self.s1_bits], quantized_BTK[..., self.s1_bits :]
        return [bits_to_ids(s1), bits_to_ids(s2)]
