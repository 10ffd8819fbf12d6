"""The point models: rows of a fixed lookback in, rows of a fixed horizon out.

Knows patches, prompts and a backbone; nothing of prices, symbols or files. Every row is a series
by itself (one feature of one symbol), and its forecast is a function of that row alone.

Legend: B rows, L lookback, H horizon, P patches, D width of a patch, E width of the backbone,
T tokens of a prompt.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from forecaster.kronos.checkpoint import CONFIG, WEIGHTS, load_weights
from forecaster.timellm.backbone import Backbone
from forecaster.timellm.config import PointConfig
from forecaster.timellm.linear import DLinear, NLinear
from forecaster.timellm.loading import load_backbone
from forecaster.timellm.patching import FlattenHead, PatchEmbedding, normalise_instances
from forecaster.timellm.prompt import Ids, Prompter
from forecaster.timellm.reprogramming import Reprogramming
from market.errors import CheckpointError, ConfigError


class PointModel(nn.Module):
    """A model of one config; `forward` takes (B, L) and gives (B, H) in the same unit."""

    def __init__(self, config: PointConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, x_BL: Tensor) -> Tensor:
        raise NotImplementedError

    def save_pretrained(self, folder: str | Path, *, half: bool = False) -> None:
        """Writes config.json and model.safetensors: what was trained, never the backbone.

        half: store floats as float16; they are always loaded as float32.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().cpu().contiguous() for name, value in self.named_parameters()}
        if half:
            state = {name: value.half() for name, value in state.items()}
        save_file(state, place / WEIGHTS, metadata={"format": "pt"})
        (place / CONFIG).write_text(self.config.model_dump_json(indent=2) + "\n")

    def content_hash(self, extra: str = "") -> str:
        """Hash of config and weights, 16 hex digits. A backbone counts by its files' hash, not by
        where they are."""
        digest = hashlib.blake2b(extra.encode(), digest_size=8)
        place = {"backbone"} if self.config.uses_language_model else set()
        digest.update(self.config.model_dump_json(exclude=place).encode())
        for name, value in sorted(self.named_parameters()):
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


class LinearModel(PointModel):
    """NLinear or DLinear."""

    def __init__(self, config: PointConfig) -> None:
        super().__init__(config)
        kind = NLinear if config.backbone == "nlinear" else DLinear
        self.linear = kind(config.lookback, config.horizon)

    def forward(self, x_BL: Tensor) -> Tensor:
        forecast: Tensor = self.linear(x_BL)
        return forecast


class PatchModel(PointModel):
    """The ablations (Tan et al. 2024, arXiv 2406.16964): Time-LLM's patches and head with no
    language model between them, or with one attention layer in its place."""

    def __init__(self, config: PointConfig) -> None:
        super().__init__(config)
        c = config
        self.patch_embedding = PatchEmbedding(c.patch_length, c.stride, c.d_model, c.dropout)
        self.attention = self.norm = None
        if c.backbone == "attention":
            self.attention = nn.MultiheadAttention(
                c.d_model, c.n_heads, dropout=c.dropout, batch_first=True
            )
            self.norm = nn.LayerNorm(c.d_model)
        self.head = FlattenHead(c.d_model, c.n_patches, c.horizon, c.dropout)

    def forward(self, x_BL: Tensor) -> Tensor:
        instance = normalise_instances(x_BL, self.config.level)
        h_BPD = self.patch_embedding(instance.z_BL)
        if self.attention is not None and self.norm is not None:
            attended_BPD, _ = self.attention(h_BPD, h_BPD, h_BPD, need_weights=False)
            h_BPD = self.norm(h_BPD + attended_BPD)
        forecast: Tensor = self.head(h_BPD) * instance.scale_B1 + instance.loc_B1
        return forecast


class TimeLLM(PointModel):
    """Jin et al. 2024 (arXiv 2310.01728): patches reprogrammed into a frozen language model.

    The backbone is not part of this module's weights: it is neither trained, averaged, replicated
    nor saved, stays in evaluation mode, and moves along to another device.
    """

    def __init__(self, config: PointConfig, backbone: Backbone) -> None:
        super().__init__(config)
        c = config
        if c.d_ff > backbone.width:
            raise CheckpointError(
                f"d_ff={c.d_ff}: the head cannot read more outputs than the backbone "
                f"{c.backbone} has ({backbone.width})"
            )
        self.patch_embedding = PatchEmbedding(c.patch_length, c.stride, c.d_model, c.dropout)
        self.reprogramming = Reprogramming(
            backbone.vocabulary, c.prototypes, c.d_model, c.n_heads, c.d_ff, backbone.width,
            c.dropout,
        )  # fmt: skip
        self.head = FlattenHead(c.d_ff, c.n_patches, c.horizon, c.dropout)
        self.prompter = Prompter(c, backbone)
        self._backbone = (backbone,)  # in a tuple: no part of this module's weights

    @property
    def backbone(self) -> Backbone:
        return self._backbone[0]

    def _apply(self, fn: Any, recurse: bool = True) -> TimeLLM:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.backbone.move(self.head.linear.weight.device)
        return self

    def forward(self, x_BL: Tensor) -> Tensor:
        instance = normalise_instances(x_BL, self.config.level)
        head_BH = self.head(self.states(instance.z_BL))
        forecast: Tensor = head_BH * instance.scale_B1 + instance.loc_B1
        return forecast

    def states(self, z_BL: Tensor) -> Tensor:
        """What the head reads: the first d_ff outputs of the backbone at every patch, (B, P, d_ff).

        z_BL: rows normalised by `normalise_instances`.
        """
        return self.read(self.prompter.ids(z_BL), self.reprogrammed(z_BL))

    def read(self, prompts: list[Ids], patches_BPE: Tensor) -> Tensor:
        """The same, from the prompts' tokens and reprogrammed patches."""
        return self.backbone.read(prompts, patches_BPE, self.prompter.shared_ids, self.config.d_ff)

    def shape_of(self, ids: Ids) -> tuple[int, int]:
        """What decides the shape of a row's products: tokens read before, and positions after."""
        begun = self.backbone.begun(ids, self.prompter.shared_ids)
        length = len(ids) - begun + self.config.n_patches
        return begun, self.backbone.padded(length, begun)

    def reprogrammed(self, z_BL: Tensor) -> Tensor:
        """Patches in the backbone's own terms, (B, P, E)."""
        patches_BPD = self.patch_embedding(z_BL)
        reprogrammed: Tensor = self.reprogramming(patches_BPD, self.backbone.words)
        return reprogrammed


def build_model(config: PointConfig, backbone: Backbone | None = None) -> PointModel:
    """The model of a config with fresh weights (from torch's generator).

    backbone: where the config names one and it is loaded already; else it is loaded.
    Raises CheckpointError where the backbone cannot be had, or cannot do this.
    """
    if config.backbone in ("nlinear", "dlinear"):
        return LinearModel(config)
    if not config.uses_language_model:
        return PatchModel(config)
    return TimeLLM(config, backbone or load_backbone(config))


def load_point_model(folder: str | Path, backbone: str | Path | None = None) -> PointModel:
    """A saved model, in evaluation mode.

    backbone: folder of its language model where that is not (any more) where the config says; a
    folder `backbone` inside the model's own is taken without being named. Raises CheckpointError
    naming the file and the key that is wrong, or the backbone that is not the one trained with.
    """
    place = Path(folder)
    path = place / CONFIG
    try:
        config = PointConfig.model_validate_json(path.read_text())
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}); give the folder of a model as "
            "'candlecast train timellm' writes it"
        ) from None
    except ConfigError as error:
        raise CheckpointError(
            f"{path}: {error}. Is this the folder of another kind of model?"
        ) from None
    where = Path(backbone) if backbone is not None else place / "backbone"
    if config.uses_language_model and (backbone is not None or where.is_dir()):
        config = config.model_copy(update={"backbone": str(where.resolve())})
    model = build_model(config)
    load_weights(model, place / WEIGHTS)
    return model.eval()
