"""Sizes of the two networks, by the published names. Knows no torch and no training."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from forecaster.features import FeatureSpace
from market.settings import Settings

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


class TokenizerShape(Settings):
    """Constructor arguments of KronosTokenizer, by their published names."""

    d_in: int = 6
    d_model: Count
    n_heads: Count
    ff_dim: Count
    n_enc_layers: Annotated[int, Field(ge=2)]
    n_dec_layers: Annotated[int, Field(ge=2)]
    ffn_dropout_p: Share = 0.0
    attn_dropout_p: Share = 0.0
    resid_dropout_p: Share = 0.0
    s1_bits: Count
    s2_bits: Count
    beta: float = 0.05
    gamma0: float = 1.0
    gamma: float = 1.1
    zeta: float = 0.05
    group_size: Count = 4
    features: FeatureSpace = "levels"
    """What a bar is to it: levels, as in the published models, or returns."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads} does not divide d_model={self.d_model}")
        if (self.s1_bits + self.s2_bits) % self.group_size:
            raise ValueError(
                f"group_size={self.group_size} does not divide s1_bits + s2_bits = "
                f"{self.s1_bits + self.s2_bits}"
            )
        return self


class PredictorShape(Settings):
    """Constructor arguments of Kronos, by their published names."""

    s1_bits: Count
    s2_bits: Count
    n_layers: Count
    d_model: Count
    n_heads: Count
    ff_dim: Count
    ffn_dropout_p: Share = 0.0
    attn_dropout_p: Share = 0.0
    resid_dropout_p: Share = 0.0
    token_dropout_p: Share = 0.0
    learn_te: bool = True

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads} does not divide d_model={self.d_model}")
        if self.d_model % 4:
            raise ValueError(
                f"d_model={self.d_model}: the dependency layer's 4 heads must divide it"
            )
        return self
