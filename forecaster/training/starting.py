"""The network a run begins with: drawn from the seed, or read. Knows models and settings."""

from __future__ import annotations

from pathlib import Path

from forecaster.kronos.predictor import Kronos
from forecaster.kronos.tokenizer import KronosTokenizer
from forecaster.timellm.loading import backbone_folder, folder_hash
from forecaster.timellm.model import PointModel, build_model, load_point_model
from forecaster.training.config import (
    PredictorTraining,
    TokenizerTraining,
    TrainingError,
)
from forecaster.training.objectives import Model
from forecaster.training.shapes import PredictorShape, TokenizerShape
from forecaster.training.timellm_config import TimeLLMTraining
from market.errors import CheckpointError


def starting_model(
    settings: TokenizerTraining | PredictorTraining | TimeLLMTraining,
    start_from: str | Path | None,
) -> Model:
    """The model of the settings, with the weights of start_from where that is given.

    Raises TrainingError where neither says what it looks like, or they do not agree.
    """
    if isinstance(settings, TimeLLMTraining):
        return _point_model(settings, start_from)
    kind: type[KronosTokenizer] | type[Kronos]
    kind = Kronos if isinstance(settings, PredictorTraining) else KronosTokenizer
    asked = None if settings.model is None else settings.model.model_dump()
    decoder_only = isinstance(settings, TokenizerTraining) and settings.decoder_only
    if start_from is None and decoder_only:
        raise TrainingError("decoder_only: true needs --from: the tokenizer whose tokens stay")
    if start_from is None:
        if asked is None:
            raise TrainingError(
                "the config has no model: section; add one, or start from a model with --from"
            )
        model: Model = kind(**asked)
        return model
    try:
        model = kind.from_pretrained(start_from)
    except CheckpointError as error:
        raise TrainingError(f"--from: {error}") from error
    found = {} if settings.model is None else _with_defaults(model, settings.model)
    differing = sorted(k for k in asked or {} if found.get(k) != (asked or {})[k])
    if differing:
        told = ", ".join(f"{k}={found.get(k)} (asked: {(asked or {})[k]})" for k in differing)
        raise TrainingError(
            f"{start_from}: its config.json has {told}; --from needs the same model. Leave "
            "model: out of the config to take its shape."
        )
    if decoder_only and isinstance(model, KronosTokenizer):
        for part in (model.embed, model.encoder, model.quant_embed):
            part.requires_grad_(False)
    return model


def _with_defaults(
    model: KronosTokenizer | Kronos, shape: TokenizerShape | PredictorShape
) -> dict[str, object]:
    """Its config with the keys that it leaves out because they have their default."""
    defaults = {k: f.default for k, f in type(shape).model_fields.items() if not f.is_required()}
    return defaults | model.config


def _point_model(settings: TimeLLMTraining, start_from: str | Path | None) -> PointModel:
    shape = settings.model
    stated = folder_hash(backbone_folder(shape.backbone)) if shape.uses_language_model else ""
    config = settings.point_config(stated)
    if start_from is None:
        return build_model(config)
    try:
        model = load_point_model(start_from, shape.backbone if stated else None)
    except CheckpointError as error:
        raise TrainingError(f"--from: {error}") from error
    asked, found = (
        each.model_dump(exclude={"backbone", "dropout"}) for each in (config, model.config)
    )
    differing = [k for k in asked if asked[k] != found[k]]
    if differing or model.config.uses_language_model != config.uses_language_model:
        told = ", ".join(f"{k}={found[k]} (asked: {asked[k]})" for k in differing) or "backbone"
        raise TrainingError(
            f"{start_from}: its config.json has {told}; --from needs the same model"
        )
    model.config = config
    return model


def require_same_bits(
    model: Kronos | KronosTokenizer, tokenizer: KronosTokenizer, start_from: str | Path | None
) -> None:
    """Raises TrainingError where a predictor does not use the tokenizer's vocabulary."""
    bits, own = (tokenizer.s1_bits, tokenizer.s2_bits), (model.s1_bits, model.s2_bits)
    if bits != own:
        where = f"--from {start_from}" if start_from is not None else "the config's model"
        raise TrainingError(
            f"{where} has s1_bits={own[0]} and s2_bits={own[1]}, but the tokenizer has "
            f"{bits[0]} and {bits[1]}: they must agree. Give the tokenizer it belongs to."
        )
