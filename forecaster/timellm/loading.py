"""Backbones from folders and the hub: files, their hash, and transformers. Knows no series."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from logging import CRITICAL
from pathlib import Path
from typing import Any

import torch

from forecaster.hub import fetch, is_hub_id
from forecaster.kronos.checkpoint import CONFIG, WEIGHTS
from forecaster.timellm.backbone import Backbone
from forecaster.timellm.config import PointConfig
from market.errors import CheckpointError

TOKENIZER = "tokenizer.json"
OPTIONAL = ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
INDEX = "model.safetensors.index.json"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_backbone(config: PointConfig) -> Backbone:
    """The backbone of a config, its first layers and number format as the config says.

    Raises CheckpointError naming the folder or hub id where it cannot be had, is damaged, or is not
    the one the config was trained with.
    """
    place = backbone_folder(config.backbone)
    if config.backbone_hash:
        found = folder_hash(place)
        if found != config.backbone_hash:
            raise CheckpointError(
                f"{place}: is another backbone (hash {found}) than the model was trained with "
                f"({config.backbone_hash}); give the folder of that one, or train again"
            )
    return Backbone(_network(config, place), _tokenizer(place), config.backbone)


def backbone_folder(source: str) -> Path:
    """A local folder with the backbone's files, downloaded where the source is a hub id."""
    if Path(source).is_dir():
        return Path(source)
    if not is_hub_id(source):
        raise CheckpointError(
            f"{source}: no such folder, not a hub id (owner/name), and not one of the words none, "
            "attention, nlinear, dlinear"
        )
    place = fetch(source, (CONFIG, TOKENIZER), (*OPTIONAL, WEIGHTS, INDEX))
    if not (place / WEIGHTS).is_file():
        if not (place / INDEX).is_file():
            raise CheckpointError(
                f"{source}: the hub has no {WEIGHTS} of it; give the folder of a copy that has"
            )
        shards = sorted(set(json.loads((place / INDEX).read_text())["weight_map"].values()))
        fetch(source, tuple(shards))
    return place


def folder_hash(folder: Path) -> str:
    """16 hex digits of a backbone's config, weights and tokenizer files, whatever their dates."""
    files = [folder / CONFIG, folder / TOKENIZER, *sorted(folder.glob("*.safetensors"))]
    present = [path for path in files if path.is_file()]
    stamp = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in present)
    return _hash_of(stamp)


@lru_cache(maxsize=16)
def _hash_of(stamp: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path, size, _ in stamp:
        digest.update(f"{Path(path).name}:{size}:".encode())
        with Path(path).open("rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    return digest.hexdigest()


def _network(config: PointConfig, folder: Path) -> torch.nn.Module:
    transformers = require_transformers()
    name = config.backbone
    with _quiet():
        try:
            settings = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
            _cut(settings, config)
            options: dict[str, Any] = {}
            if config.backbone_bits is not None:
                options["quantization_config"] = _quantisation(config)
            network: torch.nn.Module
            network, told = transformers.AutoModel.from_pretrained(
                folder,
                config=settings,
                dtype=_DTYPES[config.backbone_precision],
                attn_implementation="sdpa",
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
            _require_weights(name, told["missing_keys"])
        except CheckpointError:
            raise
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise CheckpointError(
                f"{name}: transformers cannot load {folder} ({reason[:200]}); it needs {CONFIG}, "
                f"{WEIGHTS} and {TOKENIZER} of a language model"
            ) from None
    return network


def _require_weights(name: str, missing: Iterable[str]) -> None:
    """transformers fills in what a file lacks with random numbers; only what nobody reads may be
    lacking: the pooler of an encoder."""
    lacking = sorted(key for key in missing if "pooler" not in key.split("."))
    if lacking:
        raise CheckpointError(
            f"{name}: {WEIGHTS} lacks {len(lacking)} of the network's weights, first "
            f"'{lacking[0]}'; it belongs to another model, or is not whole"
        )


def _cut(settings: Any, config: PointConfig) -> None:
    """Keep the first layers, and the fused form of GPT-2's activation, which is the same curve."""
    layers = config.backbone_layers
    if layers is not None:
        stored = getattr(settings, "num_hidden_layers", None)
        if stored is None or layers > stored:
            raise CheckpointError(
                f"{config.backbone}: has {stored or 'no stated'} layers, backbone_layers={layers} "
                "asks for more"
            )
        settings.num_hidden_layers = layers
        if getattr(settings, "layer_types", None):
            settings.layer_types = settings.layer_types[:layers]
    for name in ("activation_function", "hidden_act"):
        if getattr(settings, name, None) == "gelu_new":
            setattr(settings, name, "gelu_pytorch_tanh")


def _quantisation(config: PointConfig) -> Any:
    asked = f"backbone_bits={config.backbone_bits}"
    if not torch.cuda.is_available():
        raise CheckpointError(
            f"{asked}: needs a CUDA device and the extra candlecast[timellm-bits] (bitsandbytes); "
            "leave it out here, or halve memory with backbone_precision=bfloat16"
        )
    missing = [name for name in ("bitsandbytes", "accelerate") if find_spec(name) is None]
    if missing:
        raise CheckpointError(
            f"{asked}: needs the package {missing[0]}: pip install 'candlecast[timellm-bits]'"
        )
    four = config.backbone_bits == 4
    return require_transformers().BitsAndBytesConfig(
        load_in_4bit=four,
        load_in_8bit=not four,
        bnb_4bit_compute_dtype=_DTYPES[config.backbone_precision],
    )


def _tokenizer(folder: Path) -> Any:
    transformers = require_transformers()
    if not (folder / TOKENIZER).is_file():
        raise CheckpointError(
            f"{folder}: no {TOKENIZER}; the prompt needs the backbone's own tokenizer. Copy its "
            "tokenizer files into that folder."
        )
    with _quiet():
        try:
            return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise CheckpointError(
                f"{folder / TOKENIZER}: cannot be read ({reason[:200]}); restore the file"
            ) from None


def require_transformers() -> Any:
    """The package. Raises CheckpointError that says how to get it."""
    try:
        import transformers
    except ImportError:
        raise CheckpointError(
            "language-model backbones need the package transformers: pip install "
            "'candlecast[timellm]'; or choose backbone none, attention, nlinear or dlinear"
        ) from None
    return transformers


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No reports of unused layers and no progress bars, inside the block."""
    logging = require_transformers().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
