"""What a training run is made of, checked before anything starts. Knows no torch and no files.

Every model here is frozen and refuses unknown keys, so that a misspelt line of a YAML file is an
error and never a silently ignored wish.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from market.errors import CandlecastError
from market.synthetic import SimulatorParams

TRAINING_SEEDS = range(1000, 2000)
"""Simulator seeds that training may use. No other code simulates with them, so that a simulated
market outside this range is always one the shipped model has never seen."""


class TrainingError(CandlecastError):
    """A training run cannot start or must stop."""


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TokenizerShape(_Settings):
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


class PredictorShape(_Settings):
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


class SimulatedMarkets(_Settings):
    """Simulated bars beside the real ones: one market per seed."""

    seeds: tuple[int, ...]
    """From TRAINING_SEEDS only."""
    n_symbols: Annotated[int, Field(ge=3)] = 60
    n_sessions: Count = 2500
    start: date = date(2006, 1, 3)
    venue: str = "XNYS"
    annual_volatility: tuple[Positive, ...] = (0.28,)
    """Taken in turn, one per seed."""

    @model_validator(mode="after")
    def _reserved(self) -> Self:
        wrong = [seed for seed in self.seeds if seed not in TRAINING_SEEDS]
        if wrong:
            raise ValueError(
                f"seeds {wrong}: training may simulate with seeds {TRAINING_SEEDS.start} to "
                f"{TRAINING_SEEDS.stop - 1} only, so that demos and tests stay unseen"
            )
        if not self.annual_volatility:
            raise ValueError("annual_volatility: at least one value")
        return self

    def markets(self) -> Iterator[SimulatorParams]:
        for k, seed in enumerate(self.seeds):
            yield SimulatorParams(
                seed=seed,
                n_symbols=self.n_symbols,
                n_sessions=self.n_sessions,
                start=self.start,
                venue=self.venue,
                annual_volatility=self.annual_volatility[k % len(self.annual_volatility)],
                delisting_session=max(40, int(0.8 * self.n_sessions)),
            )


class DataSettings(_Settings):
    """Which bars are trained on, and which only measure."""

    train_through: date
    """Training uses no bar after this session."""
    validation_through: date
    """Validation targets lie after train_through (and the purge) and end here."""
    purge_bars: Annotated[int, Field(ge=0)]
    """Bars between the last training bar and the first validation target; >= the horizon."""
    held_out_share: Share = 0.0
    """Share of the symbols, chosen by a hash of their names, that training never sees."""
    exclude_symbols: tuple[str, ...] = ()
    """Symbols left out altogether."""
    max_abs_return: Positive = 0.4
    """A larger close-to-close move counts as a data error or corporate action; no window
    crosses it."""
    max_gap_days: Count = 10
    """No window crosses a longer hole between neighbouring bars, in calendar days."""
    simulated: SimulatedMarkets | None = None
    simulated_share: Share = 0.0
    """Share of each batch drawn from the simulated markets."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.validation_through <= self.train_through:
            raise ValueError(
                f"validation_through={self.validation_through} is not after "
                f"train_through={self.train_through}"
            )
        if (self.simulated_share > 0) != (self.simulated is not None):
            raise ValueError("simulated and simulated_share > 0 go together")
        return self


class WindowSettings(_Settings):
    """How long the windows are. A window is normalised with its lookback's statistics alone."""

    lookbacks: tuple[Count, ...]
    """Drawn per step, each as often as it is listed."""
    horizon: Count
    """Bars after the lookback."""
    validation_horizon: Count = 20
    """Bars after the longest lookback in the validation windows."""
    lookback_weight: Share = 1.0
    """Weight in the predictor's loss of targets inside the lookback, against 1 in the horizon.
    Inside the lookback the window's own statistics already know the scale of what follows."""
    clip: Positive = 5.0
    """Normalised values are cut here, as the published models expect."""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.lookbacks:
            raise ValueError("lookbacks: at least one")
        return self


class OptimiserSettings(_Settings):
    """AdamW under a one-cycle schedule."""

    steps: Count
    batch_size: Count
    max_lr: Positive
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    pct_start: Share = 0.03
    """Share of the steps that warm up."""
    div_factor: Positive = 10.0
    """The first learning rate is max_lr over this."""
    clip_norm: Positive
    """Largest gradient norm; larger gradients are scaled down to it."""


class RunSettings(_Settings):
    """What is written when."""

    log_every: Count = 20
    validate_every: Count = 250
    checkpoint_every: Count = 250
    validation_windows: Count = 256
    storage: Literal["float32", "float16"] = "float32"
    """Number format of the published weights; they are always loaded as float32."""


class TokenizerTraining(_Settings):
    """A whole tokenizer run."""

    seed: Annotated[int, Field(ge=0)]
    model: TokenizerShape
    data: DataSettings
    windows: WindowSettings
    optimiser: OptimiserSettings
    run: RunSettings = RunSettings()
    feature_weights: tuple[Positive, Positive, Positive, Positive, Positive, Positive] | None = None
    """How much the reconstruction error of open, high, low, close, volume and amount counts,
    scaled to mean 1. Without it all count alike, as in the published recipe."""
    decoder_only: bool = False
    """Go on with --from so that every bar keeps its tokens: only what turns them into bars learns,
    and predictors of these tokens stay valid."""
    shape_weight: Annotated[float, Field(ge=0.0)] = 0.0
    """With decoder_only: weight of the error of open, high and low relative to the close, which
    decides whether a decoded bar keeps low <= open, close <= high."""
    usage_weight: Annotated[float, Field(ge=0.0)] = 0.0
    """Rewards an even use of the s1 and of the s2 vocabulary: nats of their entropy times this
    are taken off the loss. 0 is the published recipe, which leaves most of it unused."""

    @model_validator(mode="after")
    def _purged(self) -> Self:
        _check_purge(self.data, self.windows)
        return self


class PredictorTraining(_Settings):
    """A whole predictor run. The tokenizer is frozen and named on the command line."""

    seed: Annotated[int, Field(ge=0)]
    model: PredictorShape
    data: DataSettings
    windows: WindowSettings
    optimiser: OptimiserSettings
    run: RunSettings = RunSettings()
    dependency_as_decoded: bool = False
    """Train the dependency layer in the form that generation uses it in: without rotary
    positions. False is the published recipe, which rotates in training and not in generation."""

    @model_validator(mode="after")
    def _purged(self) -> Self:
        _check_purge(self.data, self.windows)
        return self


def _check_purge(data: DataSettings, windows: WindowSettings) -> None:
    if data.purge_bars < windows.horizon:
        raise ValueError(
            f"data.purge_bars={data.purge_bars} is below windows.horizon={windows.horizon}: "
            "the targets of training and validation could overlap"
        )
