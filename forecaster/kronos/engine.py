"""Generation as the product runs it: the past once per series, then only what is new per path.

Knows both networks, the cache and sampling; nothing of prices, dates or files. Equal to
`reference.generate` up to rounding, at a small fraction of its arithmetic.

Legend: B series, S paths, L lookback, H horizon, T = L + H, C time features, F features,
D model width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from forecaster.interface import SamplingParams
from forecaster.kronos.cache import LayerCache, extend, prefill
from forecaster.kronos.predictor import Kronos
from forecaster.kronos.sampling import draw, filtered_probs
from forecaster.kronos.tokenizer import KronosTokenizer
from market.errors import ForecastInputError

TILE_SERIES = 16
TILE_PATHS = 16
"""Every matrix product runs on tiles of this many series × paths, the last one padded: products of
other shapes differ in the last bits, so a fixed shape is what makes a forecast independent of the
batch it was computed in."""
NUMERICS_VERSION = 1
"""Counts changes of this code that change the last bits of forecasts; part of a run's identity."""


class Paths:
    """Where the paths of one tile stand: their caches and the context of their last position."""

    def __init__(self, predictor: Kronos, s1_BL: Tensor, s2_BL: Tensor, stamp_BLC: Tensor) -> None:
        """Runs the predictor over the lookback, once per series."""
        self.predictor = predictor
        x, self.prefix = prefill(predictor.transformer, predictor.embed(s1_BL, s2_BL, stamp_BLC))
        context = predictor.norm(x)
        cross = predictor.dep_layer.cross_attn
        self.dependency = LayerCache.of(
            cross.heads(cross.k_proj(context)), cross.heads(cross.v_proj(context))
        )
        self.last_context = context[:, -1]

    def start(self, paths: int, horizon: int) -> None:
        """Begins `paths` new paths at the end of the lookback."""
        self.caches = [layer.for_paths(paths, horizon) for layer in self.prefix]
        self.dep_cache = self.dependency.for_paths(paths, horizon)
        self.context_BSD = self.last_context[:, None].expand(-1, paths, -1)

    def advance(self, s1_BSN: Tensor, s2_BSN: Tensor, stamp_BNC: Tensor) -> None:
        """Appends N tokens to every path."""
        predictor = self.predictor
        paths = s1_BSN.shape[1]
        stamp = stamp_BNC[:, None].expand(-1, paths, -1, -1)
        x = extend(predictor.transformer, self.caches, predictor.embed(s1_BSN, s2_BSN, stamp))
        context = predictor.norm(x)
        cross = predictor.dep_layer.cross_attn
        self.dep_cache.append(
            cross.heads(cross.k_proj(context)), cross.heads(cross.v_proj(context))
        )
        self.context_BSD = context[..., -1, :]

    def s1_logits(self) -> Tensor:
        logits: Tensor = self.predictor.head(self.context_BSD)
        return logits

    def s2_logits(self, s1_BS: Tensor) -> Tensor:
        """A single query sees the whole context, and no position: keys and query stay unrotated."""
        predictor = self.predictor
        cross = predictor.dep_layer.cross_attn
        query = cross.heads(cross.q_proj(predictor.embedding.emb_s1(s1_BS))[..., None, :])
        seen = cross.merge(self.dep_cache.attend(query, causal=False))[..., 0, :]
        return predictor.head.cond_forward(predictor.dep_layer.norm(self.context_BSD + seen))


@torch.inference_mode()
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
    tile_series: int = TILE_SERIES,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sampled bars (B, S, H, F) in normalised units, and their s1 and s2 ids, each (B, S, H).

    Arguments as in `reference.generate`. Series and paths are padded to whole tiles, so a series'
    result depends on nothing but its own row; a caller must keep to one `tile_series`. Raises
    ForecastInputError where H > max_context.
    """
    b, s, horizon, _ = u_BSH2.shape
    if horizon > max_context:
        raise ForecastInputError(
            f"horizon {horizon} is longer than the model's context of {max_context} tokens; ask "
            "for fewer steps or use a model with a longer context"
        )
    u_BSH2 = u_BSH2.to(x_BLF)
    bars = x_BLF.new_empty(b, s, horizon, x_BLF.shape[-1])
    ids = torch.empty(2, b, s, horizon, dtype=torch.long, device=x_BLF.device)
    for rows in _tiles(b, tile_series, x_BLF.device):
        lookback = _Lookback(
            tokenizer, predictor, x_BLF[rows], stamp_BTC[rows], max_context, horizon
        )
        for columns in _tiles(s, TILE_PATHS, x_BLF.device):
            u = u_BSH2[rows[:, None], columns]
            s1, s2 = lookback.sample(u, sampling, reference_rule)
            tile = lookback.decode(s1, s2)
            # Padding repeats the last row and path, so it rewrites equal values.
            where = (rows[:, None], columns)
            bars[where], ids[0][where], ids[1][where] = tile, s1, s2
    return bars, ids[0], ids[1]


class _Lookback:
    """One tile of series, encoded once; paths are sampled from it and decoded after it."""

    def __init__(
        self,
        tokenizer: KronosTokenizer,
        predictor: Kronos,
        x_BLF: Tensor,
        stamp_BTC: Tensor,
        max_context: int,
        horizon: int,
    ) -> None:
        self.tokenizer, self.predictor = tokenizer, predictor
        self.stamp_BTC, self.max_context = stamp_BTC, max_context
        self.s1_BL, self.s2_BL = tokenizer.encode_pair(x_BLF)
        self.length = x_BLF.shape[1]
        self.paths = self._prefilled(max(0, self.length - max_context))
        kept = max(0, self.length + horizon - max_context)
        past = tokenizer.indices_to_bits([self.s1_BL[:, kept:], self.s2_BL[:, kept:]], half=True)
        _, self.decoder_prefix = prefill(tokenizer.decoder, tokenizer.post_quant_embed(past))

    def _prefilled(self, start: int) -> Paths:
        s1, s2 = self.s1_BL[:, start:], self.s2_BL[:, start:]
        return Paths(self.predictor, s1, s2, self.stamp_BTC[:, start : self.length])

    def sample(
        self, u_BSH2: Tensor, sampling: SamplingParams, reference_rule: bool
    ) -> tuple[Tensor, Tensor]:
        """Tokens (B, S, H) of the paths.

        Once the window is full, the oldest token falls out at every further step and positions
        start again at 0, so keys and values are computed anew: the surviving lookback once per
        series, the path's own tokens per path.
        """
        b, s, horizon, _ = u_BSH2.shape
        s1 = torch.empty(b, s, horizon, dtype=torch.long, device=u_BSH2.device)
        s2 = torch.empty_like(s1)
        paths = self.paths
        paths.start(s, horizon)
        for step in range(horizon):
            probs = filtered_probs(paths.s1_logits(), sampling, reference_rule=reference_rule)
            s1[..., step] = draw(probs, u_BSH2[..., step, 0])
            probs = filtered_probs(
                paths.s2_logits(s1[..., step]), sampling, reference_rule=reference_rule
            )
            s2[..., step] = draw(probs, u_BSH2[..., step, 1])
            end = self.length + step + 1
            if step + 1 == horizon:
                break
            first = step
            if end > self.max_context:
                paths, first = self._prefilled(end - self.max_context), 0
                paths.start(s, horizon)
            new = slice(first, step + 1)
            paths.advance(s1[..., new], s2[..., new], self.stamp_BTC[:, self.length + first : end])
        return s1, s2

    def decode(self, s1_BSH: Tensor, s2_BSH: Tensor) -> Tensor:
        """Normalised bars (B, S, H, F); the decoder is causal, so the lookback ran once."""
        tokenizer = self.tokenizer
        _, paths, horizon = s1_BSH.shape
        caches = [layer.for_paths(paths, horizon) for layer in self.decoder_prefix]
        bits = tokenizer.indices_to_bits([s1_BSH, s2_BSH], half=True)
        out: Tensor = tokenizer.head(
            extend(tokenizer.decoder, caches, tokenizer.post_quant_embed(bits))
        )
        return out


def _tiles(count: int, size: int, device: torch.device) -> Iterator[Tensor]:
    """Index tensors of exactly `size` rows that cover 0 … count - 1; the last row pads the end."""
    for start in range(0, count, size):
        yield torch.arange(start, start + size, device=device).clamp(max=count - 1)


@contextmanager
def fixed_threads(threads: int | None) -> Iterator[None]:
    """Runs torch with this many CPU threads and restores the caller's setting; None leaves it."""
    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


__all__ = ["NUMERICS_VERSION", "TILE_PATHS", "TILE_SERIES", "fixed_threads", "generate"]
