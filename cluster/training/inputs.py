"""What a run begins with, as folders that every worker can read. Knows files; trains nothing."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path

from cluster.training.places import RunPlace, at_hand, node_folder, pack
from cluster.training.request import TrainingRequest
from forecaster.hub import TRAINING_RECORD
from forecaster.registry import KNOWN, TIMELLM, Part, cutoff_of, part_of
from forecaster.training.config import PredictorTraining, TokenizerTraining
from forecaster.training.timellm_config import TimeLLMTraining
from market.errors import CheckpointError

_TAR = ".tar"


def tokenizer_of(request: TrainingRequest, place: RunPlace) -> str | None:
    """Folder of a predictor's tokenizer."""
    return _model(request.tokenizer, "tokenizer", place)


def weights_of(request: TrainingRequest, place: RunPlace) -> str | None:
    """Folder of the weights to begin with."""
    if isinstance(request.settings, TimeLLMTraining):
        given = request.start_from and request.start_from.removeprefix(TIMELLM)
        return given and _everywhere(Path(given).resolve(), place)
    own: Part = "predictor" if isinstance(request.settings, PredictorTraining) else "tokenizer"
    return _model(request.start_from, own, place)


def with_folder(
    settings: TokenizerTraining | PredictorTraining | TimeLLMTraining,
) -> TokenizerTraining | PredictorTraining | TimeLLMTraining:
    """With the absolute folder of a language model given by a relative one: workers have a
    working directory of their own. Such a folder has to be on every node."""
    if not isinstance(settings, TimeLLMTraining) or not Path(settings.model.backbone).is_dir():
        return settings
    folder = str(Path(settings.model.backbone).resolve())
    shape = settings.model.model_copy(update={"backbone": folder})
    return settings.model_copy(update={"model": shape})


def _model(model: str | None, part: Part, place: RunPlace) -> str | None:
    """A model given by folder, alias or hub id as a folder; its path is absolute."""
    from forecaster.kronos.predictor import Kronos
    from forecaster.kronos.tokenizer import KronosTokenizer

    if model is None:
        return None
    if Path(model).is_dir():
        return _everywhere(Path(model).resolve(), place)
    source = part_of(model, part)
    if Path(source).is_dir():
        return _everywhere(Path(source), place)
    if source.count("/") != 1 or source.startswith((".", "/")):
        raise CheckpointError(
            f"{source}: no such folder, not an alias ({', '.join(KNOWN)}), and not a hub id "
            "(owner/name)"
        )
    home = node_folder(place.home) if place.remote else place.local
    folder = home / "inputs" / source.replace("/", "--")
    if not (folder / TRAINING_RECORD).is_file():
        kind = KronosTokenizer if part == "tokenizer" else Kronos
        kind.from_pretrained(source).save_pretrained(folder)
        through = cutoff_of(source)
        known = None if through is None else through.isoformat()
        (folder / TRAINING_RECORD).write_text(json.dumps({"trained_through": known}))
    return _everywhere(folder, place)


def _everywhere(folder: Path, place: RunPlace) -> str:
    """The folder; with a URL a copy of it that every node can unpack at the same path."""
    if not place.remote:
        return str(folder)
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    hashed = blake2b(digest_size=8)
    for path in files:
        hashed.update(path.name.encode() + path.read_bytes())
    name = f"inputs/{hashed.hexdigest()}"
    if not place.home.exists(f"{name}{_TAR}"):
        pack(folder, place.home, f"{name}{_TAR}", called=hashed.hexdigest())
    return str(at_hand(place.home, name))
