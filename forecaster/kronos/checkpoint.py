"""Loading and saving `config.json` + `model.safetensors`. Knows files; nothing of what models do.

The layout is huggingface_hub's, so published checkpoints load and ours can be published. Unlike
the hub's mixin it is strict: a missing weight or an unknown key is an error that names it, never a
randomly initialised layer. Local folders need no huggingface_hub.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from forecaster.hub import HubAccess, fetch
from market.errors import CheckpointError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
DERIVED_BUFFERS = (".inv_freq", ".basis", ".group_basis")
"""Buffers that the constructor computes; a checkpoint may lack them."""


class Pretrained(nn.Module):
    """A module with `from_pretrained` and `save_pretrained`.

    The constructor's keyword arguments are the config, stored under their own names. One that has
    a default is stored only where it differs: published configs lack it, and neither they nor the
    hashes made of them change.
    """

    config: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        build = cls.__init__
        signature = inspect.signature(build)

        def init(self: Any, *args: Any, **options: Any) -> None:
            bound = signature.bind(self, *args, **options)
            bound.apply_defaults()
            config = {
                k: v
                for k, v in bound.arguments.items()
                if k != "self" and v != signature.parameters[k].default
            }
            build(self, *args, **options)
            self.config = config

        init.__signature__ = signature  # type: ignore[attr-defined]
        init.__doc__ = build.__doc__
        cls.__init__ = init  # type: ignore[method-assign]

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **overrides: Any,
    ) -> Self:
        """Builds the model of a local folder or hub id and loads its weights, in evaluation mode.

        Half-precision weights are widened to float32. `overrides` replace config keys. Raises
        CheckpointError naming the file and the key that is missing, unknown or of another shape.
        """
        source = str(pretrained_model_name_or_path)
        if Path(source).is_dir():
            folder = Path(source)
        else:
            access = HubAccess(revision, cache_dir, local_files_only, token)
            folder = fetch(source, (CONFIG, WEIGHTS), access=access)
        config = {**_read_config(folder / CONFIG), **overrides}
        _check_keys(cls, config, folder / CONFIG)
        try:
            model = cls(**config)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{folder / CONFIG}: {error}") from error
        load_weights(model, folder / WEIGHTS)
        model.eval()
        return model

    def save_pretrained(self, save_directory: str | Path, *, half: bool = False) -> None:
        """Writes config.json and model.safetensors; `half` stores floats as float16."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: _storable(value, half) for name, value in self.state_dict().items()}
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(self.config, indent=2, sort_keys=True) + "\n")

    def push_to_hub(self, repo_id: str, **options: Any) -> None:
        """Uploads the two files to a hub repository (options go to `upload_folder`)."""
        import tempfile

        from huggingface_hub import create_repo, upload_folder

        create_repo(repo_id, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            upload_folder(repo_id=repo_id, folder_path=folder, **options)


def content_hash(*models: Pretrained, extra: str = "") -> str:
    """Hash of configs and weights, 16 hex digits: the same numbers give the same id anywhere."""
    digest = hashlib.blake2b(extra.encode(), digest_size=8)
    for model in models:
        digest.update(json.dumps(model.config, sort_keys=True).encode())
        for name, value in sorted(model.state_dict().items()):
            if not name.endswith(DERIVED_BUFFERS):
                digest.update(f"{name}{tuple(value.shape)}".encode())
                digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _storable(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if half and value.is_floating_point() else value


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(
            f"{path}: not found. A model folder holds {CONFIG} and {WEIGHTS}; found "
            f"{sorted(p.name for p in path.parent.iterdir())[:8]}."
        )
    try:
        config = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}). Restore the file.") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(config).__name__}")
    return config


def _check_keys(cls: type, config: dict[str, Any], path: Path) -> None:
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    known = set(parameters) - {"self"}
    needed = {name for name in known if parameters[name].default is inspect.Parameter.empty}
    missing, unknown = sorted(needed - set(config)), sorted(set(config) - known)
    if missing or unknown:
        told = [f"missing key(s) {missing}"] * bool(missing) + [f"unknown key(s) {unknown}"] * bool(
            unknown
        )
        raise CheckpointError(
            f"{path}: {' and '.join(told)} for a {cls.__name__}. Is this folder the other half "
            "(tokenizer or predictor) of the model?"
        )


def load_weights(model: nn.Module, path: Path) -> None:
    """Fills a module from a safetensors file, strictly.

    Raises CheckpointError for a file or weight that is missing, unknown, of another shape, or not
    finite.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: not found. A model folder holds {CONFIG} and {WEIGHTS}.")
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: damaged or not a safetensors file ({error}). Download or train it again."
        ) from None
    own = model.state_dict()
    for name, value in own.items():
        if name not in stored:
            if name.endswith(DERIVED_BUFFERS):
                continue
            raise CheckpointError(f"{path}: weight '{name}' is missing; the file is incomplete.")
        if stored[name].shape != value.shape:
            raise CheckpointError(
                f"{path}: weight '{name}' has shape {tuple(stored[name].shape)}, but {CONFIG} "
                f"asks for {tuple(value.shape)}. Config and weights are of different models."
            )
        if stored[name].is_floating_point() and not torch.isfinite(stored[name]).all():
            raise CheckpointError(f"{path}: weight '{name}' holds NaN or infinite values.")
    unknown = sorted(set(stored) - set(own))
    if unknown:
        raise CheckpointError(
            f"{path}: {len(unknown)} weight(s) this architecture does not have, first "
            f"'{unknown[0]}'. Config and weights are of different models."
        )
    model.load_state_dict(stored, strict=False)
