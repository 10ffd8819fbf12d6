"""What the two networks are trained to make small. Knows models and tensors; no data, no loop.

Legend: B windows, T positions, F features, V vocabulary of a half token, K bits, N bars of a
batch, H bits of a half token, C codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's customary name
from torch import Tensor

from forecaster.interface import CLOSE
from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tokenizer import KronosTokenizer

SHARPNESS = 3.0
"""How fast a latent's probability of a bit moves from 0 to 1 around zero, in `vocabulary_use`."""


class TokenizerLoss(NamedTuple):
    """`loss` is minimised; the others are its parts."""

    loss: Tensor
    mse_s1: Tensor
    """Reconstruction from the s1 bits alone."""
    mse: Tensor
    """Reconstruction from all bits."""
    quantizer: Tensor


class DecoderLoss(NamedTuple):
    """`loss` is minimised; the others are its parts."""

    loss: Tensor
    mse: Tensor
    """Reconstruction from all bits."""
    shape: Tensor
    """Error of open, high and low relative to the close."""


class PredictorLoss(NamedTuple):
    """`loss` is minimised; the others are its parts, in nats per token."""

    loss: Tensor
    ce_s1: Tensor
    ce_s2: Tensor


def tokenizer_loss(
    model: KronosTokenizer,
    x_BTF: Tensor,
    *,
    feature_weights: Sequence[float] | None = None,
    usage_weight: float = 0.0,
) -> TokenizerLoss:
    """(MSE from s1 bits + MSE from all bits + quantizer loss) / 2, as Kronos was trained.

    feature_weights: how much the squared error of each feature counts, one each; scaled to mean 1.
    usage_weight: subtracts this times `vocabulary_use`.
    """
    z_BTK, quantized_BTK = model.tokenizer.quantize(model.latent(x_BTF))
    quantizer = model.tokenizer.bsq.loss(z_BTK, quantized_BTK)
    s1_BTK = quantized_BTK[..., : model.s1_bits]
    mse_s1, mse = (
        _mse(model.reconstruct(code_BTD), x_BTF, feature_weights)
        for code_BTD in (
            model.post_quant_embed_pre(s1_BTK), model.post_quant_embed(quantized_BTK),
        )
    )  # fmt: skip
    loss = (mse_s1 + mse + quantizer) / 2
    if usage_weight:
        loss = loss - usage_weight * vocabulary_use(z_BTK, model.s1_bits)
    return TokenizerLoss(loss, mse_s1, mse, quantizer)


def decoder_loss(
    model: KronosTokenizer,
    x_BTF: Tensor,
    *,
    feature_weights: Sequence[float] | None = None,
    shape_weight: float = 0.0,
) -> DecoderLoss:
    """MSE from all bits, with tokens that are given: nothing before the bits gets a gradient.

    feature_weights: as in `tokenizer_loss`.
    shape_weight: adds this times the MSE of open, high and low relative to the close. The best
    guess of a bar keeps low <= open, close <= high; errors that move the four prices apart break
    it, errors that they share do not.
    """
    with torch.no_grad():
        _, quantized_BTK = model.tokenizer.quantize(model.latent(x_BTF))
    found_BTF = model.reconstruct(model.post_quant_embed(quantized_BTK))
    mse = _mse(found_BTF, x_BTF, feature_weights)
    error_BTF = found_BTF - x_BTF
    relative_BT3 = error_BTF[..., :CLOSE] - error_BTF[..., CLOSE : CLOSE + 1]
    shape = relative_BT3.square().mean()
    return DecoderLoss(mse + shape_weight * shape, mse, shape)


def _mse(found_BTF: Tensor, x_BTF: Tensor, feature_weights: Sequence[float] | None) -> Tensor:
    if feature_weights is None:
        return F.mse_loss(found_BTF, x_BTF)
    weight_F = x_BTF.new_tensor(feature_weights)
    return ((found_BTF - x_BTF).square() * (weight_F / weight_F.mean())).mean()


def vocabulary_use(z_BTK: Tensor, s1_bits: int) -> Tensor:
    """How evenly a batch spreads over the s1 and over the s2 vocabulary: mean entropy in nats.

    The quantizer's own diversity term adds up the entropies of single bits, so bits that repeat
    each other pass for diverse while most codes stay unused. Here the bits of a half count
    together. A latent belongs to a code by the product of its bits' probabilities,
    sigmoid(±2 · SHARPNESS · z √K), which is near 0 or 1 at a corner; the average over the batch
    needs one matrix product, because it is an outer product of two halves of the bits.

    z_BTK: latents on the unit sphere, s1 bits first. Bits near zero receive the gradient.
    """
    p_NK = torch.sigmoid(2 * SHARPNESS * z_BTK * z_BTK.shape[-1] ** 0.5).flatten(0, -2)
    entropies = []
    for p_NH in (p_NK[:, :s1_bits], p_NK[:, s1_bits:]):
        half = p_NH.shape[1] // 2
        first_NC, second_NC = _code_chances(p_NH[:, :half]), _code_chances(p_NH[:, half:])
        joint = first_NC.T @ second_NC / len(p_NH)
        entropies.append(-(joint * torch.log(joint + 1e-8)).sum())
    return torch.stack(entropies).mean()


def _code_chances(p_NK: Tensor) -> Tensor:
    """Probabilities of the 2^K codes of K independent bits, (N, 2^K)."""
    chance_NC = p_NK.new_ones(len(p_NK), 1)
    for k in range(p_NK.shape[1]):
        p_N1 = p_NK[:, k : k + 1]
        chance_NC = torch.cat((chance_NC * (1 - p_N1), chance_NC * p_N1), dim=-1)
    return chance_NC


def predictor_loss(
    model: Kronos,
    s1_BT: Tensor,
    s2_BT: Tensor,
    stamp_BT: Tensor,
    *,
    lookback: int | None = None,
    lookback_weight: float = 1.0,
    as_decoded: bool = False,
) -> PredictorLoss:
    """(CE of s1 + CE of s2 given the true s1) / 2 over next tokens.

    The model must be in training mode, also for validation: in evaluation mode the dependency
    layer of the published architecture sees the tokens it is asked to predict. Switch dropout off
    by its probabilities, not by `eval()`.

    lookback, lookback_weight: targets before position `lookback` count with this weight; 0 leaves
    only the horizon. Weights other than 1 need lookback.
    as_decoded: apply the dependency layer without rotary positions, as generation does.
    Raises ValueError outside training mode.
    """
    if not model.training:
        raise ValueError("predictor_loss needs model.train(): evaluation mode looks ahead")
    s1_logits, context = model.decode_s1(s1_BT[:, :-1], s2_BT[:, :-1], stamp_BT[:, :-1])
    s1_next, s2_next = s1_BT[:, 1:], s2_BT[:, 1:]
    s2_logits = (
        s2_logits_as_decoded(model, context, s1_next)
        if as_decoded
        else model.decode_s2(context, s1_next)
    )
    if lookback is None or lookback_weight == 1.0:
        return PredictorLoss(*model.head.compute_loss(s1_logits, s2_logits, s1_next, s2_next))
    weight_T = s1_logits.new_ones(s1_next.shape[1])
    weight_T[: lookback - 1] = lookback_weight

    def weighted(logits_BTV: Tensor, target_BT: Tensor) -> Tensor:
        each_BT = F.cross_entropy(logits_BTV.transpose(1, 2), target_BT, reduction="none")
        return (each_BT * weight_T).sum() / (weight_T.sum() * len(each_BT))

    ce_s1, ce_s2 = weighted(s1_logits, s1_next), weighted(s2_logits, s2_next)
    return PredictorLoss((ce_s1 + ce_s2) / 2, ce_s1, ce_s2)


def s2_logits_as_decoded(model: Kronos, context_BTD: Tensor, s1_BT: Tensor) -> Tensor:
    """At every position what `decode_s2` gives when that position is the last, (B, T, V).

    Generation asks with a single query, for which neither query nor keys are rotated; causal
    attention without rotation is the same for all positions at once.
    """
    layer = model.dep_layer
    attention = layer.cross_attn
    q = attention.heads(attention.q_proj(model.embedding.emb_s1(s1_BT)))
    k = attention.heads(attention.k_proj(context_BTD))
    v = attention.heads(attention.v_proj(context_BTD))
    informed = layer.norm(context_BTD + attention.merge(attention.attend(q, k, v, True, None)))
    return model.head.cond_forward(informed)
