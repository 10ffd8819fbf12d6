"""Models by name. Knows where weights are and how far their training data reached.

What a model needs (torch, transformers) loads with it: baselines run without. Installed packages
add models under the entry point `candlecast.models`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from forecaster.baselines import BASELINES, known_baselines, load_baseline
from forecaster.hub import TRAINING_RECORD
from forecaster.interface import Forecaster, Overflow, Precision
from forecaster.plugins import MODELS as GROUP
from forecaster.plugins import cutoff_of_plugin, load_plugin
from market.errors import CheckpointError
from market.plugins import plugins

Part = Literal["tokenizer", "predictor"]
"""What a model of this family consists of."""
MODELS = Path(__file__).parent / "models"
DEFAULT_CONTEXT = 512
PUBLISHED_BOUND = date(2025, 8, 2)
"""The published checkpoints do not state their cut-off; no bar can be later than their paper."""


@dataclass(frozen=True)
class ModelSpec:
    """One entry of the registry."""

    tokenizer: str
    predictor: str
    """Folders or hub ids."""
    max_context: int
    """Longest lookback + horizon in bars."""
    trained_through: date | None
    """Last date of the training bars: forecasts up to it are in-sample. None: not known."""
    about: str
    """One line for the user."""


KNOWN = {
    "nano": ModelSpec(
        str(MODELS / "nano" / "tokenizer"),
        str(MODELS / "nano" / "predictor"),
        512,
        date(2015, 12, 31),
        "in the package; returns; daily US equities 2013-2015 and simulated bars",
    ),
    "nano-levels": ModelSpec(
        str(MODELS / "nano-levels" / "tokenizer"),
        str(MODELS / "nano-levels" / "predictor"),
        512,
        date(2015, 12, 31),
        "in the package; nano before it saw returns, kept to repeat older runs",
    ),
    "mini": ModelSpec(
        "NeoQuasar/Kronos-Tokenizer-2k",
        "NeoQuasar/Kronos-mini",
        2048,
        PUBLISHED_BOUND,
        "published, 4.1M weights, 45 exchanges",
    ),
    "small": ModelSpec(
        "NeoQuasar/Kronos-Tokenizer-base",
        "NeoQuasar/Kronos-small",
        512,
        PUBLISHED_BOUND,
        "published, 24.7M weights, 45 exchanges",
    ),
    "base": ModelSpec(
        "NeoQuasar/Kronos-Tokenizer-base",
        "NeoQuasar/Kronos-base",
        512,
        PUBLISHED_BOUND,
        "published, 102.3M weights, 45 exchanges",
    ),
}
TIMELLM = "timellm:"
"""Before the folder of a point model."""


@dataclass(frozen=True)
class LoadedModel:
    """A forecaster and what results must say about it."""

    name: str
    forecaster: Forecaster
    trained_through: date | None
    """Forecasts up to this date are in-sample; None where nothing was trained or it is unknown."""
    trained: bool = True
    """Whether anything was trained; baselines are not, so all their dates are out of sample."""

    @property
    def cutoff_unknown(self) -> bool:
        """Whether nobody states up to which date the model was trained."""
        return self.trained and self.trained_through is None


def known_models() -> dict[str, str]:
    """Every name `load_forecaster` takes, with a line about it. Loads no plug-in."""
    found = {name: spec.about for name, spec in KNOWN.items()}
    found[f"{TIMELLM}FOLDER"] = "what 'candlecast train timellm' made"
    baselines = {name: f"baseline: {about}" for name, about in known_baselines().items()}
    added = {name: f"of package {each.origin}" for name, each in plugins(GROUP).items()}
    ours = {name: about for name, about in baselines.items() if name in BASELINES}
    for name, about in (ours | added | baselines).items():
        found.setdefault(name, about)
    return found


def resolve_model(model: str, tokenizer: str | None = None) -> ModelSpec:
    """The registry's entry for an alias, a pair, or a folder with tokenizer/ and predictor/.

    Raises CheckpointError for an unknown name, or a predictor given without its tokenizer.
    """
    tokenizer = None if tokenizer is None else part_of(tokenizer, "tokenizer")
    if model.startswith(TIMELLM):
        raise CheckpointError(
            f"{model}: has no tokenizer and predictor, which are needed here; 'candlecast train "
            "timellm' trains such models"
        )
    if model in KNOWN:
        if tokenizer is not None:
            raise CheckpointError(
                f"--tokenizer {tokenizer}: the model '{model}' brings its own tokenizer; leave it "
                "out, or give the predictor as a folder or hub id"
            )
        return KNOWN[model]
    folder = Path(model)
    both = (folder / "tokenizer", folder / "predictor")
    if model in known_models():
        raise CheckpointError(
            f"{model}: has no tokenizer and predictor, which are needed here; choose "
            f"{', '.join(KNOWN)}, a folder or a hub id"
        )
    if tokenizer is None and all(part.is_dir() for part in both):
        tokenizer, model = (str(part) for part in both)
        return _pair(tokenizer, model, "a folder")
    if tokenizer is None:
        hub = next((name for name, spec in KNOWN.items() if spec.predictor == model), None)
        if hub is not None:
            return KNOWN[hub]
        if folder.is_dir() or "/" in model:
            raise CheckpointError(
                f"--model {model}: a predictor needs its tokenizer; add --tokenizer FOLDER_OR_ID, "
                "or give a folder that holds tokenizer/ and predictor/"
            )
        raise CheckpointError(
            f"unknown model '{model}'; known: {', '.join(known_models())}. Or give a folder or "
            "hub id with --tokenizer."
        )
    return _pair(tokenizer, model, "a pair")


def _pair(tokenizer: str, predictor: str, about: str) -> ModelSpec:
    through = latest_cutoff(cutoff_of(tokenizer), cutoff_of(predictor))
    return ModelSpec(tokenizer, predictor, DEFAULT_CONTEXT, through, about)


def part_of(model: str, part: Part) -> str:
    """Folder or hub id of one part of a model: an alias gives its own, anything else is itself."""
    spec = KNOWN.get(model)
    if spec is None:
        return model
    return spec.tokenizer if part == "tokenizer" else spec.predictor


def cutoff_of(model: str | Path) -> date | None:
    """Last date of the bars that a tokenizer or predictor saw: what the record of a local folder
    states, or the registry knows of a published one; None where neither says.

    Raises CheckpointError for a record without a readable date.
    """
    record = Path(model) / TRAINING_RECORD
    if record.is_file():
        try:
            through = json.loads(record.read_text())["trained_through"]
            return None if through is None else date.fromisoformat(through)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{record}: no readable trained_through ({error}). Restore the file, or remove "
                "it if the cut-off of the training bars is not known."
            ) from None
    for spec in KNOWN.values():
        if str(model) in (spec.predictor, spec.tokenizer):
            return spec.trained_through
    return None


def latest_cutoff(*cutoffs: date | None) -> date | None:
    """Cut-off of a model made of parts with these: the latest, unknown where one is unknown."""
    known = [each for each in cutoffs if each is not None]
    return max(known) if known and len(known) == len(cutoffs) else None


def load_forecaster(
    model: str,
    tokenizer: str | None = None,
    device: str = "cpu",
    *,
    max_context: int | None = None,
    threads: int | None = None,
    memory: int | None = None,
    precision: Precision = "float32",
    overflow: Overflow = "trim",
    repair_bars: bool = True,
    anchor: bool = True,
) -> LoadedModel:
    """Loads a model by alias, folder or hub id.

    max_context overrides the registry's; the rest is `KronosForecaster`'s, of which point models
    (timellm:FOLDER) take device and repair_bars, models of other packages device. Raises
    CheckpointError as `resolve_model`, `from_pretrained` and `TimeLLMForecaster.load` do, and
    ConfigError for a model of another package that cannot be used.
    """
    if model in BASELINES:
        return LoadedModel(model, load_baseline(model), None, trained=False)
    if model.startswith(TIMELLM):
        if tokenizer is not None:
            raise CheckpointError(f"--tokenizer {tokenizer}: {model} needs none; leave it out")
        from forecaster.timellm.pipeline import TimeLLMForecaster

        folder = model.removeprefix(TIMELLM)
        points = TimeLLMForecaster.load(folder, device=device, repair_bars=repair_bars)
        return LoadedModel(model, points, cutoff_of(folder))
    if model not in KNOWN and (added := _of_a_package(model, tokenizer, device)) is not None:
        return added
    from forecaster.kronos import Kronos, KronosForecaster, KronosTokenizer

    spec = resolve_model(model, tokenizer)
    forecaster = KronosForecaster(
        KronosTokenizer.from_pretrained(spec.tokenizer),
        Kronos.from_pretrained(spec.predictor),
        max_context=max_context or spec.max_context,
        device=device,
        threads=threads,
        memory=memory,
        precision=precision,
        overflow=overflow,
        repair_bars=repair_bars,
        anchor=anchor,
    )
    return LoadedModel(model, forecaster, spec.trained_through)


def _of_a_package(model: str, tokenizer: str | None, device: str) -> LoadedModel | None:
    """A model or baseline that another package offers; None where none does."""
    models = plugins(GROUP)
    if model not in models and model not in known_baselines():
        return None
    if tokenizer is not None:
        raise CheckpointError(f"--tokenizer {tokenizer}: {model} needs none; leave it out")
    if model not in models:
        return LoadedModel(model, load_baseline(model, device), None, trained=False)
    made = load_plugin(models[model], device)
    return LoadedModel(model, made, cutoff_of_plugin(made))
