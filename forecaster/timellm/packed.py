"""Rows of different lengths through a frozen decoder as one run of tokens: nothing is padded.

Everything but attention treats each token by itself, so rows can stand one behind the other;
attention, given here, keeps to a row and to what all rows begin with. Products run over a fixed
number of tokens at a time, the last ones filled up, so that the bits of a token do not depend on
what else is read. After the last layer's attention only the patches go on.

For processors. Knows transformers' attention interface and modules; nothing of series or wording.

Legend: N tokens of all rows, T tokens of one row, S tokens of the opening, E width, h heads,
g heads of keys and values, d width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's customary name
from torch import Tensor, nn

ATTENTION = "candlecast_rows"
"""The name of `attend` among transformers' attention functions."""
CHUNK = 128
"""Tokens multiplied at a time: enough for the products, and little to fill up."""
_KNOWN = frozenset({"position_ids", "use_cache", "encoder_hidden_states"})
"""What networks tell their attention that `attend` need not know."""

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Row:
    """One row's tokens in the run: prompt, then patches."""

    first: int
    """Where they begin."""
    prompt: int
    length: int
    """Prompt and patches."""
    goes_on: bool
    """Whether they follow the opening."""


@dataclass
class Run:
    """What one pass through the network needs to know of its tokens."""

    rows: list[Row]
    opening: list[KeysValues]
    """Keys and values of the opening by layer, each (1, g, S, d)."""
    layers: int
    patches_N: Tensor
    """Which tokens are patches, in order."""
    attended: int = 0
    """Layers whose attention has been taken."""
    masks: dict[tuple[int, int, int], Tensor] = field(default_factory=dict)

    @property
    def live_N(self) -> Tensor | None:
        """The tokens that still matter; None for all."""
        return self.patches_N if self.attended == self.layers else None

    def mask(self, before: int, length: int, last: int, like: Tensor) -> Tensor:
        """0 where one of the `last` tokens of a row may look and -inf elsewhere, (last, S + T)."""
        key = (before, length, last)
        if key not in self.masks:
            hidden = torch.ones(length, before + length, dtype=torch.bool).triu(before + 1)
            mask = torch.zeros(length, before + length, dtype=like.dtype)
            self.masks[key] = mask.masked_fill_(hidden, -torch.inf)[-last:]
        return self.masks[key]


Runs = dict[int, Run]
"""The run that is on in a thread, by the thread's number."""


class TokenLinear(nn.Module):
    """A frozen matrix, taken to a fixed number of tokens at a time while a run is on."""

    def __init__(self, weight_IO: Tensor, bias_O: Tensor | None, runs: Runs) -> None:
        """runs: see `Runs`; shared by all matrices of a network."""
        super().__init__()
        self.weight_IO = nn.Parameter(weight_IO, requires_grad=False)
        self.bias_O = None if bias_O is None else nn.Parameter(bias_O, requires_grad=False)
        self._runs = runs
        self._reordered: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        flat_NI = x.reshape(-1, x.shape[-1])
        run = self._runs.get(get_ident())
        if run is None:
            out_NO = self._product(flat_NI)
        elif run.live_N is None:
            out_NO = self._in_chunks(flat_NI)
        else:
            live_NO = self._in_chunks(flat_NI[run.live_N])
            whole_NO = live_NO.new_zeros(len(flat_NI), live_NO.shape[1])
            out_NO = whole_NO.index_copy(0, run.live_N, live_NO)
        return out_NO.view(*x.shape[:-1], -1)

    def _in_chunks(self, x_NI: Tensor) -> Tensor:
        *whole, last = torch.split(x_NI, CHUNK)
        parts = [*whole, F.pad(last, (0, 0, 0, CHUNK - len(last)))]
        product = self._product if torch.is_grad_enabled() else self._fast_product
        return torch.cat([product(part) for part in parts])[: len(x_NI)]

    def _fast_product(self, x_NI: Tensor) -> Tensor:
        """Without gradients, by oneDNN with the matrix in its own order, where torch has that: a
        fifth faster on the processors tried."""
        if self._reordered is None:
            if not _can_reorder(x_NI):
                return self._product(x_NI)
            self._reordered = torch.ops.mkldnn._reorder_linear_weight(
                self.weight_IO.t().contiguous(), CHUNK
            )
        return cast(
            Tensor,
            torch.ops.mkldnn._linear_pointwise(x_NI, self._reordered, self.bias_O, "none", [], ""),
        )

    def _product(self, x_NI: Tensor) -> Tensor:
        if self.bias_O is None:
            return x_NI @ self.weight_IO
        return torch.addmm(self.bias_O, x_NI, self.weight_IO)


def _can_reorder(x_NI: Tensor) -> bool:
    return (
        x_NI.device.type == "cpu"
        and x_NI.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and (x_NI.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def attend(
    module: nn.Module,
    query_1hNd: Tensor,
    key_1gNd: Tensor,
    value_1gNd: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    run: Run | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attention of every row to itself and the opening, (1, N, h, d).

    Raises ValueError for a network whose attention wants more than this (windows, caps, sinks).
    """
    if run is None:
        return cast("tuple[Tensor, None]", _usual()(
            module, query_1hNd, key_1gNd, value_1gNd, attention_mask, dropout, scaling, **more
        ))  # fmt: skip
    unknown = {name for name in more.keys() - _KNOWN if more[name] not in (None, False)}
    if attention_mask is not None or unknown:
        raise ValueError(f"attention with {sorted(unknown) or 'a mask'} is not known here")
    layer, run.attended = run.attended, run.attended + 1
    n_heads = query_1hNd.shape[1]
    key_1hNd, value_1hNd = (_for_all_heads(x, n_heads) for x in (key_1gNd, value_1gNd))
    begun = tuple(_for_all_heads(x, n_heads) for x in run.opening[layer]) if run.opening else None
    found = []
    for row in run.rows:
        here = slice(row.first, row.first + row.length)
        key, value = key_1hNd[:, :, here], value_1hNd[:, :, here]
        if begun is not None and row.goes_on:
            key, value = torch.cat((begun[0], key), 2), torch.cat((begun[1], value), 2)
        asking = row.length if run.live_N is None else row.length - row.prompt
        attended = F.scaled_dot_product_attention(
            query_1hNd[:, :, here.stop - asking : here.stop],
            key,
            value,
            run.mask(key.shape[2] - row.length, row.length, asking, key),
            scale=scaling,
        )
        found.append(F.pad(attended, (0, 0, row.length - asking, 0)))
    return torch.cat(found, dim=2).transpose(1, 2), None


def _for_all_heads(x_1gTd: Tensor, n_heads: int) -> Tensor:
    return x_1gTd.repeat_interleave(n_heads // x_1gTd.shape[1], dim=1)


def _usual() -> Callable[..., Any]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return cast("Callable[..., Any]", sdpa_attention_forward)


def prepare(network: nn.Module, runs: Runs) -> None:
    """Gives a network's matrices and attention the way of this module, in place.

    Raises ValueError for a network that does not let its attention be chosen.
    """
    from transformers import AttentionInterface
    from transformers.pytorch_utils import Conv1D

    AttentionInterface.register(ATTENTION, attend)
    cast(Any, network).set_attn_implementation(ATTENTION)
    if cast(Any, network).config._attn_implementation != ATTENTION:
        raise ValueError("its attention cannot be chosen")
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                made = TokenLinear(child.weight.data.t(), _data(child.bias), runs)
            elif type(child) is Conv1D:
                made = TokenLinear(child.weight.data, _data(child.bias), runs)
            else:
                continue
            setattr(parent, name, made)


def _data(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.data


def read(
    network: nn.Module,
    runs: Runs,
    layers: int,
    rows_TE: Sequence[Tensor],
    patches: int,
    opening: list[KeysValues],
    goes_on: Sequence[bool],
) -> Tensor:
    """The last hidden states at every row's last `patches` tokens, (rows, patches, E).

    rows_TE: each row's embedded tokens. opening: see `Run`. Raises ValueError, TypeError or
    AttributeError where the network cannot be read so.
    """
    rows: list[Row] = []
    first, before = 0, opening[0][0].shape[2] if opening else 0
    positions, patch_numbers = [], []
    for row_TE, follows in zip(rows_TE, goes_on, strict=True):
        length = len(row_TE)
        rows.append(Row(first, length - patches, length, follows))
        start = before if follows else 0
        positions.append(torch.arange(start, start + length))
        patch_numbers.append(torch.arange(first + length - patches, first + length))
        first += length
    run = Run(rows, opening, layers, torch.cat(patch_numbers))
    runs[get_ident()] = run
    try:
        hidden_1NE: Tensor = network(
            inputs_embeds=torch.cat(list(rows_TE))[None],
            position_ids=torch.cat(positions)[None],
            use_cache=False,
            run=run,
        ).last_hidden_state
    finally:
        del runs[get_ident()]
    if run.attended != layers:
        raise ValueError("its attention does not go through transformers' interface")
    return hidden_1NE[0, run.patches_N].view(len(rows), patches, -1)
