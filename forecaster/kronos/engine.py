"""Generation as the product runs it: the past once per series, then only what is new per path.

Knows both networks, the caches and sampling; nothing of prices, dates, files, or how series are
cut into tiles (`tiles`). Equal to `reference.generate` up to rounding, at under a hundredth of its
cost.

Legend: B series, S paths, L lookback, H horizon, T = L + H, C time features, F features,
D model width, V vocabulary, R = B·S rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from forecaster.interface import Precision, SamplingParams
from forecaster.kronos.fused import FusedDependency, FusedStack, Product, UnitNorm
from forecaster.kronos.predictor import Kronos
from forecaster.kronos.sampling import draw, filtered_probs
from forecaster.kronos.tokenizer import KronosTokenizer
from market.errors import ForecastInputError

NUMERICS_VERSION = 3
"""Counts changes of this code that change the last bits of forecasts; part of a run's identity."""
DECODED_ROWS = 1024
"""Sampled bars decoded at a time, about: enough for the products, few enough for the caches."""

Choose = Callable[[int, int, Tensor], Tensor]
"""(step, 0 for s1 | 1 for s2, logits (B, S, V)) → ids (B, S)."""


class Tokens(NamedTuple):
    """Sampled ids, each (B, S, H)."""

    s1: Tensor
    s2: Tensor


class Engine:
    """Tokenizer and predictor laid out for generation, in one precision.

    Weights are copied when it is built: later changes of the networks do not reach it. `bfloat16`
    holds the predictor's and the decoder's matrices and caches in that type; the encoder, logits
    and softmax stay float32, so that the tokens of the past do not depend on the precision.
    """

    def __init__(
        self,
        tokenizer: KronosTokenizer,
        predictor: Kronos,
        max_context: int,
        precision: Precision = "float32",
    ) -> None:
        dtype = torch.float32 if precision == "float32" else torch.bfloat16
        self.precision: Precision = precision
        self.max_context = max_context
        self.tokenizer, self.predictor = tokenizer, predictor
        with torch.inference_mode():
            self.encoder = FusedStack(tokenizer.encoder, torch.float32)
            self.decoder = FusedStack(tokenizer.decoder, dtype)
            self.codes = _code_tables(tokenizer)
            self.stack = FusedStack(predictor.transformer, dtype)
            self.embedded = _embedding_tables(predictor)
            dependency = predictor.dep_layer
            self.dependency = FusedDependency(
                dependency.cross_attn, predictor.embedding.emb_s1, dtype
            )
            self.norm, self.norm_s2 = UnitNorm(predictor.norm), UnitNorm(dependency.norm)
            self.head_s1 = Product.of([predictor.head.proj_s1], None, torch.float32)
            self.head_s2 = Product.of([predictor.head.proj_s2], self.norm_s2.gain_D, torch.float32)

    def past(self, x_BLF: Tensor, stamp_BTC: Tensor, horizon: int) -> Past:
        """Everything the paths of these series share. Raises ForecastInputError where the horizon
        is longer than the context."""
        if horizon > self.max_context:
            raise ForecastInputError(
                f"horizon {horizon} is longer than the model's context of {self.max_context} "
                "tokens; ask for fewer steps or use a model with a longer context"
            )
        with torch.inference_mode():
            return Past(self, x_BLF, stamp_BTC, horizon)

    def encode(self, x_BLF: Tensor) -> tuple[Tensor, Tensor]:
        """s1 and s2 ids of normalised bars, each (B, L)."""
        tokenizer = self.tokenizer
        z, _ = self.encoder.prefill(tokenizer.embed(x_BLF))
        _, quantized = tokenizer.tokenizer.quantize(tokenizer.quant_embed(z))
        s1, s2 = tokenizer.tokenizer.ids(quantized, half=True)
        return s1, s2

    def context(self, x: Tensor) -> Tensor:
        """The predictor's output norm."""
        return self.norm(x) * self.norm.gain_D

    def bytes_per_series(self, lookback: int) -> int:
        """Keys and values of one series' past: 2 · layers · width · lookback · item size."""
        return 2 * lookback * self._bytes_per_position()

    def bytes_per_path(self, horizon: int) -> int:
        """Keys and values of one path, and some ten float32 rows of logits."""
        vocabulary = self.head_s1.weight.shape[1] + self.head_s2.weight.shape[1]
        return 2 * horizon * self._bytes_per_position() + 10 * 4 * vocabulary

    def _bytes_per_position(self) -> int:
        predictor = (len(self.stack.blocks) + 1) * self.predictor.d_model
        decoder = len(self.decoder.blocks) * self.tokenizer.d_model
        return (predictor + decoder) * self.stack.dtype.itemsize


class Past:
    """The lookback of some series, encoded once; paths are sampled from it and decoded after it."""

    def __init__(self, engine: Engine, x_BLF: Tensor, stamp_BTC: Tensor, horizon: int) -> None:
        self.engine = engine
        self.length, self.horizon = x_BLF.shape[1], horizon
        self.s1_BL, self.s2_BL = engine.encode(x_BLF)
        self.time_BTD = engine.predictor.time_emb(stamp_BTC)
        self.prefix = self._prefilled(max(0, self.length - engine.max_context))
        kept = max(0, self.length + horizon - engine.max_context)
        past = _look_up(engine.codes, self.s1_BL[:, kept:], self.s2_BL[:, kept:])
        decoded, self.decoder_caches = engine.decoder.prefill(past)
        self.last_BF = (
            engine.tokenizer.head(decoded[:, -1])
            if decoded.shape[1]
            else past.new_full((len(x_BLF), x_BLF.shape[2]), torch.nan)
        )
        """The last known bar as the decoder shows it, normalised units."""

    def _prefilled(self, start: int) -> _Prefix:
        s1, s2 = self.s1_BL[:, start:], self.s2_BL[:, start:]
        return _Prefix(self.engine, s1, s2, self.time_BTD[:, start : self.length])

    @torch.inference_mode()
    def sample(
        self, u_BSH2: Tensor, sampling: SamplingParams, *, reference_rule: bool = False
    ) -> Tokens:
        """New paths from uniforms of s1 and s2; reference_rule as in `filtered_probs`."""

        def choose(step: int, half: int, logits: Tensor) -> Tensor:
            probs = filtered_probs(logits, sampling, reference_rule=reference_rule)
            return draw(probs, u_BSH2[..., step, half])

        return self._walk(u_BSH2.shape[1], choose)

    @torch.inference_mode()
    def replay(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Logits of s1 and s2 before each of the given tokens, each (B, S, H, V)."""
        seen: tuple[list[Tensor], list[Tensor]] = ([], [])

        def choose(step: int, half: int, logits: Tensor) -> Tensor:
            seen[half].append(logits)
            return tokens[half][..., step]

        self._walk(tokens.s1.shape[1], choose)
        return torch.stack(seen[0], 2), torch.stack(seen[1], 2)

    def _walk(self, n_paths: int, choose: Choose) -> Tokens:
        """Steps through the horizon; each step extends every path by one bar.

        1. Choose the coarse token s1 from the logits after the last bar.
        2. Choose the fine token s2 from logits that also see that s1.
        3. Stop after the last step: nothing reads its keys and values.
        4. While the window has room, append this bar's keys and values to the path's own.
        5. Once it is full, the oldest token falls out at every further step and positions start
           again at 0, so keys and values are computed anew: the surviving lookback once per
           series, the path's own tokens per path.
        """
        limit = self.engine.max_context
        s1 = self.s1_BL.new_empty(len(self.s1_BL), n_paths, self.horizon)
        s2 = torch.empty_like(s1)
        paths = _Paths(self.prefix, n_paths, self.horizon)
        for step in range(self.horizon):
            s1[..., step] = choose(step, 0, paths.s1_logits())
            s2[..., step] = choose(step, 1, paths.s2_logits(s1[..., step]))
            end = self.length + step + 1
            if step + 1 == self.horizon:
                break
            first = step
            if end > limit:
                paths, first = _Paths(self._prefilled(end - limit), n_paths, self.horizon), 0
            new = slice(first, step + 1)
            time = self.time_BTD[:, self.length + first : end]
            paths.advance(s1[..., new], s2[..., new], time)
        return Tokens(s1, s2)

    @torch.inference_mode()
    def decode(self, tokens: Tokens) -> Tensor:
        """Normalised bars (B, S, H, F) float32; the decoder is causal, so the lookback ran once."""
        b, n_paths, horizon = tokens.s1.shape
        at_once = max(1, DECODED_ROWS // (b * horizon))
        parts = []
        for start in range(0, n_paths, at_once):
            s1, s2 = (ids[:, start : start + at_once] for ids in tokens)
            caches = [layer.for_paths(s1.shape[1], horizon) for layer in self.decoder_caches]
            x = self.engine.decoder.extend(caches, _look_up(self.engine.codes, s1, s2))
            parts.append(self.engine.tokenizer.head(x))
        return torch.cat(parts, dim=1)


class _Prefix:
    """The predictor after the lookback, run once per series: where paths start."""

    def __init__(self, engine: Engine, s1_BL: Tensor, s2_BL: Tensor, time_BLD: Tensor) -> None:
        x, self.caches = engine.stack.prefill(_look_up(engine.embedded, s1_BL, s2_BL) + time_BLD)
        context = engine.context(x)
        self.engine = engine
        self.dependency = engine.dependency.prefill(context)
        self.last_BD = context[:, -1]


class _Paths:
    """Where the paths of some series stand: their caches and the context of their last position."""

    def __init__(self, prefix: _Prefix, n_paths: int, horizon: int) -> None:
        """New paths at the end of the lookback, which is not copied."""
        self.engine = prefix.engine
        self.caches = [layer.for_paths(n_paths, horizon) for layer in prefix.caches]
        self.dependency = prefix.dependency.for_paths(n_paths, horizon)
        self.n_paths = n_paths
        self.context_RD = prefix.last_BD.repeat_interleave(n_paths, 0)

    def advance(self, s1_BSN: Tensor, s2_BSN: Tensor, time_BND: Tensor) -> None:
        """Appends N tokens to every path."""
        engine = self.engine
        x = _look_up(engine.embedded, s1_BSN, s2_BSN) + time_BND[:, None]
        context = engine.context(engine.stack.extend(self.caches, x))
        self.dependency.append(*engine.dependency.project(context.flatten(0, 2), s1_BSN.shape))
        self.context_RD = context[:, :, -1].flatten(0, 1)

    def s1_logits(self) -> Tensor:
        return self._by_path(self.engine.head_s1(self.context_RD))

    def s2_logits(self, s1_BS: Tensor) -> Tensor:
        engine = self.engine
        known = self.context_RD + engine.dependency.see(self.dependency, s1_BS)
        return self._by_path(engine.head_s2(engine.norm_s2(known)))

    def _by_path(self, logits_RV: Tensor) -> Tensor:
        return logits_RV.view(-1, self.n_paths, logits_RV.shape[-1])


def _look_up(tables: tuple[Tensor, Tensor], s1: Tensor, s2: Tensor) -> Tensor:
    """Sum of both tokens' rows, (…, D)."""
    return tables[0][s1] + tables[1][s2]


def _code_tables(tokenizer: KronosTokenizer) -> tuple[Tensor, Tensor]:
    """The decoder's input per s1 and per s2 id, each (V, D); the bias is in the first."""
    ids = torch.arange(2**tokenizer.s1_bits, device=tokenizer.head.weight.device)
    bits = tokenizer.indices_to_bits([ids, ids], half=True)
    weight = tokenizer.post_quant_embed.weight
    k = tokenizer.s1_bits
    s1 = bits[:, :k] @ weight[:, :k].t() + tokenizer.post_quant_embed.bias
    return s1, bits[:, k:] @ weight[:, k:].t()


def _embedding_tables(predictor: Kronos) -> tuple[Tensor, Tensor]:
    """The predictor's input per s1 and per s2 id, each (V, D); the bias is in the first."""
    embedding = predictor.embedding
    weight = embedding.fusion_proj.weight * predictor.d_model**0.5
    d = predictor.d_model
    s1 = embedding.emb_s1.weight @ weight[:, :d].t() + embedding.fusion_proj.bias
    return s1, embedding.emb_s2.weight @ weight[:, d:].t()


__all__ = ["NUMERICS_VERSION", "Engine", "Past", "Precision", "Tokens"]
