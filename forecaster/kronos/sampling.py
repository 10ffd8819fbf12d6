"""The drawing of tokens. Knows logits and uniforms; nothing of models, series or caches.

Legend: V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from forecaster.interface import SamplingParams


def filtered_probs(
    logits: Tensor, sampling: SamplingParams, *, reference_rule: bool = False
) -> Tensor:
    """Probabilities (…, V) after temperature, top-k and top-p; what is cut off is exactly 0.

    Top-k keeps ties with the k-th logit. Top-p (nucleus, Holtzman et al. 2020) keeps the smallest
    set of likeliest tokens whose probability exceeds p, counted after top-k; the first always
    stays. `reference_rule` ignores top_p where top_k > 0, as the reference implementation does.
    """
    if sampling.temperature != 1.0:
        logits = logits / sampling.temperature
    if sampling.top_k > 0:
        k = min(sampling.top_k, logits.shape[-1])
        kth = logits.topk(k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    probs = logits.softmax(-1)
    if sampling.top_p < 1.0 and not (reference_rule and sampling.top_k > 0):
        probs.mul_(_nucleus(probs, sampling.top_p))
        probs.div_(probs.sum(-1, keepdim=True))
    return probs


def _nucleus(probs: Tensor, top_p: float) -> Tensor:
    """1 for tokens the nucleus holds, else 0; of equal probabilities, lower ids come first."""
    if probs.device.type == "cpu":
        # NumPy sorts rows some ten times faster than torch does.
        ordered = torch.from_numpy(np.sort(probs.detach().numpy(), axis=-1)).flip(-1)
    else:
        ordered = probs.sort(dim=-1, descending=True).values
    reached = ordered.cumsum(-1)
    # The first token beyond top_p still belongs to the nucleus.
    last = torch.searchsorted(reached, reached.new_full((*reached.shape[:-1], 1), top_p))
    last = last.clamp_(max=probs.shape[-1] - 1)
    least = ordered.gather(-1, last)
    following = ordered.gather(-1, (last + 1).clamp_(max=probs.shape[-1] - 1))
    # Comparing into numbers, not booleans: multiplying by those is several times faster.
    inside = torch.ge(probs, least, out=torch.empty_like(probs))
    if probs.device.type == "cpu" and not ((following == least) & (least > 0)).any():
        return inside  # No tie at the edge: nothing to choose. (Asking an accelerator would wait.)
    equal = probs == least
    room = last + 1 - (probs > least).sum(-1, keepdim=True)
    return inside * (~equal | (equal.cumsum(-1) <= room))


def draw(probs: Tensor, u: Tensor) -> Tensor:
    """Inverse CDF in token-id order: ids (…) for probabilities (…, V) and uniforms (…).

    u is scaled by the last cumulative sum and kept below it, so that rounding cannot fall off the
    end; a token of probability 0 is never drawn.
    """
    cdf = probs.cumsum(-1)
    total = cdf[..., -1:]
    below = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum(u.to(cdf)[..., None] * total, below)
    return torch.searchsorted(cdf, target, right=True)[..., 0]
