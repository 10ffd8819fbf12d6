"""The frozen language model: loaded, cut to its first layers, and read at the patches.

Knows transformers (imported inside, an extra) and files; nothing of series or prompts' wording.

Prompts differ in length. A decoder on a processor reads rows one behind the other, unpadded (see
`packed`). Else a row's tokens and then its patches start at position 0, and what pads the shorter
rows comes after them, masked. Either way a row's answer does not depend on its company, and any
backbone's own positions hold.

Legend: B rows, P patches, T positions, E width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from forecaster.timellm import packed
from market.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedTokenizerBase

ROUND_UP = 16
"""Rows are padded to a multiple of so many positions: few shapes, and the shape of a row's products
is decided by the row itself."""


class Backbone:
    """A language model whose weights never change."""

    def __init__(self, network: nn.Module, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        """Raises CheckpointError for a network that cannot be fed with embeddings, or answers with
        what is not a number."""
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.embedding = _word_embedding(network, name)
        self._settings = cast(Any, network.config)
        self._settings.use_cache = False
        self._opening: tuple[tuple[Any, ...], list[tuple[Tensor, Tensor]]] | None = None
        self.causal = _is_causal(self)
        self._goes_on = self.causal and _can_go_on(self)
        self._runs: packed.Runs = {}
        self.packs = self._goes_on and self.device.type == "cpu" and _can_pack(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        """Itself: copies of a model share what never changes."""
        return self

    @property
    def words(self) -> Tensor:
        """Word embeddings, (V, E)."""
        return self.embedding.weight

    @property
    def vocabulary(self) -> int:
        return int(self.embedding.weight.shape[0])

    @property
    def width(self) -> int:
        return int(self.embedding.weight.shape[1])

    @property
    def positions(self) -> int | None:
        """Most tokens it can hold; None where it states no limit."""
        found = getattr(self._settings, "max_position_embeddings", None)
        return None if found is None else int(found)

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    def move(self, device: torch.device) -> None:
        if self.device != device:
            self.network.to(device)
            self._opening = None
            if self.packs:
                cast(Any, self.network).set_attn_implementation("sdpa")
                self.packs = False

    # -- reading ---------------------------------------------------------------------------

    def begun(self, ids: tuple[int, ...], shared: tuple[int, ...]) -> int:
        """How many of a prompt's tokens are read once for all rows."""
        return len(shared) if self._goes_on and ids[: len(shared)] == shared else 0

    def padded(self, length: int, begun: int) -> int:
        """Positions that a row of `length` takes after those read before."""
        rounded = -(-length // ROUND_UP) * ROUND_UP
        room = rounded if self.positions is None else self.positions - begun
        return max(length, min(rounded, room))

    def read(
        self,
        prompts: Sequence[tuple[int, ...]],
        patches_BPE: Tensor,
        shared: tuple[int, ...],
        outputs: int,
    ) -> Tensor:
        """The last layer's first `outputs` numbers at every patch, (B, P, outputs), float32.

        shared: tokens that all prompts begin with; a causal network reads them once for all rows.
        """
        if self.packs:
            return self._read_packed(prompts, patches_BPE, shared)[..., :outputs].float()
        n_patches = patches_BPE.shape[1]
        begun = min(self.begun(ids, shared) for ids in prompts)
        rest = [ids[begun:] for ids in prompts]
        length_B = torch.tensor([len(ids) for ids in rest], device=self.device)
        longest = max(self.padded(len(ids) + n_patches, begun) for ids in rest)
        ids_BT = torch.zeros(len(rest), longest, dtype=torch.long)
        for row, ids in enumerate(rest):
            ids_BT[row, : len(ids)] = torch.tensor(ids)
        position_T = torch.arange(longest, device=self.device)
        embedded_BTE = self.embedding(ids_BT.to(self.device))
        patch_BT = position_T - length_B[:, None]
        is_patch_BT = (patch_BT >= 0) & (patch_BT < n_patches)
        spread_BTE = patches_BPE.to(embedded_BTE.dtype).gather(
            1, patch_BT.clamp(0, n_patches - 1)[..., None].expand(-1, -1, self.width)
        )
        inputs_BTE = torch.where(is_patch_BT[..., None], spread_BTE, embedded_BTE)
        hidden_BTE = self._run(inputs_BTE, patch_BT < n_patches, shared[:begun])
        at_BP = length_B[:, None] + torch.arange(n_patches, device=self.device)
        index = at_BP[..., None].expand(-1, -1, outputs)
        return hidden_BTE[..., :outputs].gather(1, index).float()

    def _read_packed(
        self, prompts: Sequence[tuple[int, ...]], patches_BPE: Tensor, shared: tuple[int, ...]
    ) -> Tensor:
        begun = [self.begun(ids, shared) for ids in prompts]
        rest = [ids[skip:] for ids, skip in zip(prompts, begun, strict=True)]
        tokens_NE = self.embedding(torch.tensor([token for ids in rest for token in ids]))
        patches_BPE = patches_BPE.to(tokens_NE.dtype)
        rows_TE = [
            torch.cat((prompt_TE, row_PE))
            for prompt_TE, row_PE in zip(
                tokens_NE.split([len(ids) for ids in rest]), patches_BPE, strict=True
            )
        ]
        opening = self._kept(shared) if any(begun) else []
        return packed.read(
            self.network, self._runs, int(self._settings.num_hidden_layers), rows_TE,
            patches_BPE.shape[1], opening, [skip > 0 for skip in begun],
        )  # fmt: skip

    def _run(self, inputs_BTE: Tensor, known_BT: Tensor, opening: tuple[int, ...]) -> Tensor:
        """Last hidden states, (B, T, E). A causal network needs no mask: padding comes last."""
        more: dict[str, Any] = {}
        if opening:
            more = {"past_key_values": self._after(opening, len(inputs_BTE)), "use_cache": True}
        elif not self.causal:
            more = {"attention_mask": known_BT.long()}
        hidden: Tensor = self.network(inputs_embeds=inputs_BTE, **more).last_hidden_state
        return hidden

    def _after(self, opening: tuple[int, ...], rows: int) -> DynamicCache:
        """Keys and values after the opening, as a cache of so many rows."""
        from transformers import DynamicCache

        return DynamicCache(
            [
                (keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1))
                for keys, values in self._kept(opening)
            ]
        )

    def _kept(self, opening: tuple[int, ...]) -> list[packed.KeysValues]:
        """Keys and values after the opening by layer, read once."""
        key = (opening, self.device)
        if self._opening is None or self._opening[0] != key:
            ids_1T = torch.tensor([opening], device=self.device)
            with torch.inference_mode(False), torch.no_grad():  # training may read it later
                read = self.network(inputs_embeds=self.embedding(ids_1T), use_cache=True)
            layers = read.past_key_values.layers
            self._opening = key, [(layer.keys, layer.values) for layer in layers]
        return self._opening[1]


def _word_embedding(network: nn.Module, name: str) -> nn.Embedding:
    try:
        found = network.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        found = None
    if not isinstance(found, nn.Embedding):
        raise CheckpointError(
            f"{name}: this network ({type(network).__name__}) has no word embeddings to map series "
            "to; give a language model such as GPT-2, LLaMA, BERT or Qwen"
        )
    return found


@torch.no_grad()
def _is_causal(backbone: Backbone) -> bool:
    """Whether later inputs leave earlier outputs alone, tried on three words."""
    words = torch.tensor([[0, 1, 2], [0, 1, 3]], device=backbone.device) % backbone.vocabulary
    try:
        out = backbone.network(inputs_embeds=backbone.embedding(words))
        change_T = (out.last_hidden_state[0] - out.last_hidden_state[1]).float().abs().amax(-1)
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{backbone.name}: this network ({type(backbone.network).__name__}) cannot be read as "
            f"a language model ({error}); give a decoder such as GPT-2 or LLaMA, or an encoder "
            "such as BERT"
        ) from None
    if not torch.isfinite(out.last_hidden_state).all():
        raise CheckpointError(
            f"{backbone.name}: its answers are not finite; the weights are damaged, or too large "
            f"for {backbone.embedding.weight.dtype} (try backbone_precision=float32)"
        )
    return bool(change_T[:2].max() < 1e-3 * change_T[2])


@torch.no_grad()
def _can_go_on(backbone: Backbone) -> bool:
    """Whether reading the rest after a kept opening equals reading the whole, tried on four
    words: not so for networks that keep something else than keys and values."""
    words = torch.arange(4, device=backbone.device)[None] % backbone.vocabulary
    embedded = backbone.embedding(words)
    whole = backbone.network(inputs_embeds=embedded).last_hidden_state[:, 2:]
    try:
        cache = backbone._after((0, 1 % backbone.vocabulary), 1)
        rest = backbone.network(
            inputs_embeds=embedded[:, 2:], past_key_values=cache, use_cache=True
        ).last_hidden_state
    except (TypeError, ValueError, AttributeError):
        return False
    return bool(torch.allclose(rest.float(), whole.float(), atol=0.05, rtol=0.05))


@torch.no_grad()
def _can_pack(backbone: Backbone) -> bool:
    """Whether two rows one behind the other, one after a kept opening, read as each does by itself.

    Leaves the network as `packed.prepare` made it where they do, and as it was where not: a
    network's attention may look at less than all (windows) or not be ours to choose.
    """
    network = cast(Any, backbone.network)
    words = torch.arange(6)[None] % backbone.vocabulary
    embedded_TE = backbone.embedding(words)[0]
    rows_TE = [embedded_TE, embedded_TE.flip(0)]
    alone = [network(inputs_embeds=row[None]).last_hidden_state[0, -2:] for row in rows_TE]
    opening = tuple(words[0, :3].tolist())
    usual = network.config._attn_implementation
    close = 1e-3 if embedded_TE.dtype == torch.float32 else 0.05
    try:
        packed.prepare(backbone.network, backbone._runs)
        together = packed.read(
            backbone.network, backbone._runs, int(network.config.num_hidden_layers),
            [rows_TE[0][3:], rows_TE[1]], 2, backbone._kept(opening), [True, False],
        )  # fmt: skip
        alike = torch.allclose(together.float(), torch.stack(alone).float(), atol=close, rtol=close)
    except (TypeError, ValueError, AttributeError, IndexError):
        alike = False
    if not alike:
        network.set_attn_implementation(usual)
    return alike
