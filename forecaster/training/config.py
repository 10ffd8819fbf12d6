"""What a training run is made of, checked before anything starts. Knows no torch and no files.

Every model here is frozen and refuses unknown keys, so that a misspelt line of a YAML file is an
error and never a silently ignored wish.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from forecaster.training.shapes import (
    Count,
    Positive,
    PredictorShape,
    Share,
    TokenizerShape,
)
from forecaster.training.simulations import SimulatedMarkets
from market.errors import CandlecastError
from market.settings import Settings


class TrainingError(CandlecastError):
    """A training run cannot start or must stop."""


class CoarserBars(Settings):
    """Longer bars made of the training bars, so that a model sees more than one bar length."""

    bars: tuple[Annotated[int, Field(ge=2)], ...]
    """How many bars make one, in turn: 5 makes weeks of days. Runs begin at every offset."""
    share: Share
    """Share of each batch drawn from them, at lookbacks that fit into them."""


class DataRules(Settings):
    """Which symbols and bars are fit to be trained on."""

    held_out_share: Share = 0.0
    """Share of the symbols, chosen by a hash of their names, that training never sees."""
    exclude_symbols: tuple[str, ...] = ()
    """Symbols left out altogether."""
    max_abs_return: Positive = 0.4
    """A larger close-to-close move counts as a data error or corporate action; no window
    crosses it."""
    max_gap_days: Count = 10
    """No window crosses a longer hole between neighbouring bars, in calendar days."""


class DataSettings(DataRules):
    """Which bars are trained on, and which only measure."""

    train_through: date
    """Training uses no bar after this session."""
    train_from: date | None = None
    """Training uses no bar before this session; all there are without it."""
    validation_through: date
    """Validation targets lie after train_through (and the purge) and end here."""
    test_through: date | None = None
    """Test targets lie after validation_through (and the purge) and end here. They are measured
    once, when training is over, with the weights that are published; none without it."""
    validation_from: date | None = None
    """First date of a validation target; the earliest that purge and embargo allow without it."""
    test_from: date | None = None
    """First date of a test target; likewise."""
    purge_bars: Annotated[int, Field(ge=0)]
    """Bars between the last training bar and the first validation target, and between the last
    validation bar and the first test target; >= the horizon."""
    embargo_bars: Annotated[int, Field(ge=0)] = 0
    """Further bars left out after the purge, against memory that outlasts the horizon."""
    coarser: CoarserBars | None = None
    simulated: SimulatedMarkets | None = None
    simulated_share: Share = 0.0
    """Share of each batch drawn from the simulated markets."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.validation_through <= self.train_through:
            raise ValueError(
                f"`validation_through`={self.validation_through} is not after "
                f"`train_through`={self.train_through}"
            )
        if self.train_from is not None and self.train_from >= self.train_through:
            raise ValueError(
                f"`train_from`={self.train_from} is not before `train_through`={self.train_through}"
            )
        if self.test_through is not None and self.test_through <= self.validation_through:
            raise ValueError(
                f"`test_through`={self.test_through} is not after "
                f"`validation_through`={self.validation_through}"
            )
        if self.test_from is not None and self.test_through is None:
            raise ValueError("`test_from` needs `test_through`")
        for name, first, last in (
            ("validation", self.validation_from, self.train_through),
            ("test", self.test_from, self.validation_through),
        ):
            if first is not None and first <= last:
                raise ValueError(
                    f"`{name}_from`={first} is not after {last}, up to which the targets before it "
                    f"reach: the two overlap. Move `{name}_from`, or the end of what is before it."
                )
        if (self.simulated_share > 0) != (self.simulated is not None):
            raise ValueError("`simulated` and `simulated_share` > 0 go together")
        if self.coarser is not None and self.coarser.share + self.simulated_share > 1:
            raise ValueError("`coarser.share` and `simulated_share` add up to more than 1")
        return self


class WindowSettings(Settings):
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
    symbol_weights: Literal["length", "equal", "liquidity"] = "length"
    """How often a symbol is drawn: by its number of training windows, every symbol alike, or by
    the square root of the median amount it traded in the training bars."""
    clip: Positive = 5.0
    """Normalised values are cut here, as the published models expect; returns are never cut."""
    mirrored_share: Share = 0.0
    """Share of the windows whose returns change sign (wicks change sides), so that no direction
    is learnt that is only the training years' own."""
    shift_calendar: bool = False
    """Moves the time stamps of each training window by a random number of weeks, so that the
    months of few years are not learnt by heart; weekdays and hours stay."""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.lookbacks:
            raise ValueError("`lookbacks`: at least one")
        return self


class OptimiserSettings(Settings):
    """AdamW under a one-cycle schedule."""

    steps: Count
    batch_size: Count
    """Windows per step, over all workers and accumulated parts together."""
    accumulate: Count = 1
    """Parts that each worker's share of a batch is computed in, one after the other, to save
    memory. The tokenizer's diversity term then looks at one part at a time."""
    max_lr: Positive
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    pct_start: Share = 0.03
    """Share of the steps that warm up."""
    div_factor: Positive = 10.0
    """The first learning rate is max_lr over this."""
    clip_norm: Positive
    """Largest gradient norm; larger gradients are scaled down to it."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 computes matrix products so (autocast); weights and optimiser stay float32."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Publish and measure the exponential moving average of the weights with this decay."""
    compile: Literal["inductor", "cudagraphs", "aot_eager"] | None = None
    """Translate the network by this backend of torch.compile: inductor takes a minute or more to
    start and is worth it on GPUs; none without it."""


class RunSettings(Settings):
    """What is written when."""

    log_every: Count = 20
    validate_every: Count = 250
    checkpoint_every: Count = 250
    validation_windows: Count = 256
    keep_checkpoints: Count = 2
    """Newest checkpoints that stay on disk; the best one stays in any case."""
    publish: Literal["last", "best"] = "last"
    """Which weights the finished run publishes. `best` has looked at the validation bars, so its
    record then says trained_through = validation_through."""
    best_by: Literal["loss", "crps", "rank_ic"] = "loss"
    """What `best` means: validation loss, or (predictors) the CRPS or the rank IC of forecasts
    made at dates of the validation span."""
    best_on: Literal["later", "held_out"] = "later"
    """Judge on later dates of the symbols trained on, or on symbols never trained on."""
    forecast_dates: Count = 6
    """Validation dates that best_by: crps and rank_ic forecast from, evenly spread."""
    forecast_symbols: Annotated[int, Field(ge=2)] = 40
    """Symbols forecast at each of them, at most."""
    forecast_paths: Annotated[int, Field(ge=2)] = 32
    """Paths of each of those forecasts."""
    tensorboard: bool = False
    """Write TensorBoard events beside metrics.jsonl; needs the extra 'tensorboard'."""
    storage: Literal["float32", "float16"] = "float32"
    """Number format of the published weights; they are always loaded as float32."""


class Fitting(Settings):
    """How weights are fitted, whatever the data."""

    seed: Annotated[int, Field(ge=0)]
    """Of the first weights, the order of the windows and dropout."""
    windows: WindowSettings
    optimiser: OptimiserSettings
    run: RunSettings = RunSettings()


class PredictorLoss(Settings):
    """What a predictor's loss is made of."""

    s1_conditioning: Literal["target", "sampled"] = "target"
    """What s2 is conditioned on in training: the true s1, or a draw from the model's own s1."""
    dependency_as_decoded: bool = False
    """Train the dependency layer in the form that generation uses it in: without rotary
    positions. False is the published recipe, which rotates in training and not in generation."""


class Training(Fitting):
    """What both kinds of run have in common."""

    data: DataSettings
    base_trained_through: date | None = None
    """Last date that the weights of --from and the tokenizer saw, where they do not say so."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        data, windows, run = self.data, self.windows, self.run
        if data.purge_bars < windows.horizon:
            raise ValueError(
                f"`data.purge_bars`={data.purge_bars} is below `windows.horizon`="
                f"{windows.horizon}: the targets of training and validation could overlap"
            )
        if self.optimiser.batch_size % self.optimiser.accumulate:
            raise ValueError(
                f"`optimiser.accumulate`={self.optimiser.accumulate} does not divide "
                f"`optimiser.batch_size`={self.optimiser.batch_size}"
            )
        if run.best_on == "held_out" and not data.held_out_share:
            raise ValueError("`run.best_on`: held_out needs `data.held_out_share` > 0")
        return self

    @property
    def seen_through(self) -> date:
        """Last date whose bars had a say in the published weights."""
        chosen = self.run.publish == "best"
        return self.data.validation_through if chosen else self.data.train_through


class TokenizerTraining(Training):
    """A whole tokenizer run."""

    model: TokenizerShape | None = None
    """Left out, it is that of --from."""
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
    def _judged_by_its_loss(self) -> Self:
        if self.run.best_by != "loss":
            raise ValueError(
                f"`run.best_by`: {self.run.best_by} needs forecasts, which a tokenizer alone "
                "cannot make; use loss"
            )
        return self


class PredictorTraining(Training, PredictorLoss):
    """A whole predictor run. The tokenizer is frozen and named on the command line."""

    model: PredictorShape | None = None
    """Left out, it is that of --from."""
