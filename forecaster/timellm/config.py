"""What a point model is made of, checked before anything is built. Knows no torch and no files."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from forecaster.training.shapes import Count, Positive, Share
from market.settings import Settings

Plain = Literal["none", "attention", "nlinear", "dlinear"]
PLAIN: tuple[Plain, ...] = ("none", "attention", "nlinear", "dlinear")
"""Words for `backbone` that stand for no language model at all."""
Precision = Literal["float32", "bfloat16", "float16"]

MARKET_DESCRIPTION = (
    "One feature of the bars of a traded instrument: open, high, low or close price, volume or "
    "traded amount."
)


class PointShape(Settings):
    """What a user chooses of a model; window lengths come from elsewhere."""

    backbone: str = "none"
    """Folder or hub id of a language model with its tokenizer; or `none` (patches, then the head),
    `attention` (one attention layer in its place), `nlinear`, `dlinear` (no patches either)."""
    backbone_layers: Count | None = None
    """First layers of the backbone that are used; all without it."""
    backbone_precision: Precision = "float32"
    """Number format of the backbone's weights and arithmetic; what is trained stays float32."""
    backbone_bits: Literal[4, 8] | None = None
    """Store the backbone's matrices in so many bits (needs a GPU and the bitsandbytes package)."""
    level: Literal["mean", "last"] = "mean"
    """What a row is measured from: its mean, as in the original, or its last value, which suits
    prices: a model that knows nothing forecasts no change. The linear models have their own."""
    patch_length: Annotated[int, Field(ge=2)] = 16
    """Values in a patch."""
    stride: Count = 8
    """Values from one patch to the next."""
    d_model: Count = 16
    """Width of an embedded patch."""
    n_heads: Count = 8
    """Of the reprogramming attention, and of the attention ablation."""
    d_ff: Count = 32
    """Width of a reprogramming head, and how many of the backbone's outputs the head reads."""
    prototypes: Count = 1000
    """Text prototypes that the vocabulary is mapped to."""
    dropout: Share = 0.1
    description: str = MARKET_DESCRIPTION
    """What the prompt says the series are."""

    @model_validator(mode="after")
    def _attention_divides(self) -> Self:
        if self.backbone == "attention" and self.d_model % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads} does not divide d_model={self.d_model}")
        if self.uses_language_model and not self.description.strip():
            raise ValueError("description: say what the series are; the prompt begins with it")
        return self

    @property
    def uses_language_model(self) -> bool:
        return self.backbone not in PLAIN


class PointConfig(PointShape):
    """Everything that decides a model's architecture; stored as config.json beside its weights."""

    lookback: Annotated[int, Field(ge=2)]
    """Values the model reads."""
    horizon: Count
    """Values it forecasts."""
    clip: Positive = 5.0
    """Bars are cut here, in units of the window's own spread, before the model sees them."""
    backbone_hash: str = ""
    """Of the backbone's files when the model was trained; another backbone is refused."""

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        if self.backbone not in ("nlinear", "dlinear") and self.lookback < self.patch_length:
            raise ValueError(
                f"lookback={self.lookback} is shorter than one patch "
                f"(patch_length={self.patch_length})"
            )
        return self

    @property
    def n_patches(self) -> int:
        """Patches of one window: it is lengthened by one stride before it is cut."""
        return (self.lookback + self.stride - self.patch_length) // self.stride + 1
