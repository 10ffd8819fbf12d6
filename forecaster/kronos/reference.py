"""Generation in its plainest form: the oracle that the engine is tested against. Never used to
forecast; knows no cache, no tiles, no shortcuts.

Every path of every series recomputes its whole window at every step.

Legend: B series, S paths, L lookback, H horizon, T window, C time features, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forecaster.interface import SamplingParams
from forecaster.kronos.predictor import Kronos
from forecaster.kronos.sampling import draw, filtered_probs
from forecaster.kronos.tokenizer import KronosTokenizer


@torch.no_grad()
def generate(
    tokenizer: KronosTokenizer,
    predictor: Kronos,
    x_BLF: Tensor,
    stamp_BTC: Tensor,
    u_BSH2: Tensor,
    sampling: SamplingParams,
    max_context: int,
    *,
    reference_rule: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sampled bars (B, S, H, F) in normalised units, and their s1 and s2 ids, each (B, S, H).

    x_BLF: normalised, clipped lookback. stamp_BTC: time features of lookback and horizon,
    T = L + H. u_BSH2: uniforms of s1 and s2. Beyond max_context the oldest tokens fall out of the
    window and positions start again at 0; the decoder sees the last max_context tokens.
    """
    _, paths, horizon, _ = u_BSH2.shape
    x = x_BLF.repeat_interleave(paths, 0)
    stamp = stamp_BTC.repeat_interleave(paths, 0)
    u = u_BSH2.flatten(0, 1).to(x)
    s1, s2 = tokenizer.encode_pair(x)
    for step in range(horizon):
        end = s1.shape[1]
        start = max(0, end - max_context)
        context = predictor.context(s1[:, start:], s2[:, start:], stamp[:, start:end])
        s1_logits = predictor.head(context[:, -1])
        probs = filtered_probs(s1_logits, sampling, reference_rule=reference_rule)
        next_s1 = draw(probs, u[:, step, 0])[:, None]
        s2_logits = predictor.decode_s2(context, next_s1, last_only=True)
        probs = filtered_probs(s2_logits[:, -1], sampling, reference_rule=reference_rule)
        next_s2 = draw(probs, u[:, step, 1])[:, None]
        s1, s2 = torch.cat((s1, next_s1), 1), torch.cat((s2, next_s2), 1)
    bars = tokenizer.decode([s1[:, -max_context:], s2[:, -max_context:]], half=True)
    shape = (len(x_BLF), paths, horizon)
    return (
        bars[:, -horizon:].reshape(*shape, -1),
        s1[:, -horizon:].reshape(shape),
        s2[:, -horizon:].reshape(shape),
    )
