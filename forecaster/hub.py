"""Files of models on the hub: downloaded, resumed, checked against their hash. Knows no models.

huggingface_hub (imported inside) keeps its usual cache, so what other programs downloaded is found,
and takes up a broken transfer where it broke. What it does not do is added here: content is
compared with the hash the hub states, and a network that does not answer is given up within
seconds, with one line that says what to do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from market.errors import CheckpointError

TRAINING_RECORD = "training.json"
"""What a training run says of itself, beside the weights; published checkpoints have none."""
ANSWER_TIMEOUT_S = 3.0
"""Longest wait for the hub's first answer about a file."""


@dataclass(frozen=True)
class HubAccess:
    """How the hub is asked; the names are huggingface_hub's."""

    revision: str | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False
    token: str | bool | None = None


def is_hub_id(source: str) -> bool:
    """Whether a text could name a model on the hub (owner/name)."""
    return source.count("/") == 1 and not source.startswith((".", "/", "~"))


def fetch(
    source: str,
    names: Sequence[str],
    optional: Sequence[str] = (),
    access: HubAccess | None = None,
) -> Path:
    """The folder that holds these files of a hub id, all of one commit, downloaded where missing.

    names: files that must be there. optional: files that need not.
    Raises CheckpointError naming id and file: not a hub id, no such model or file, no network and
    nothing in the cache, a transfer that keeps breaking, content that is not what the hub states.
    """
    from huggingface_hub.errors import HFValidationError

    access = access or HubAccess()
    try:
        return _fetch(source, names, optional, access)
    except HFValidationError:
        raise CheckpointError(
            f"{source}: no such folder, and not a hub id (owner/name). Give a folder with "
            f"{' and '.join(names)}."
        ) from None


def _fetch(source: str, names: Sequence[str], optional: Sequence[str], access: HubAccess) -> Path:
    from huggingface_hub import constants

    if access.local_files_only or constants.HF_HUB_OFFLINE:
        return _cached(source, names, access)
    folder: Path | None = None
    revision = access.revision
    for name in (*names, *optional):
        found = _one(source, name, revision, access, needed=name in names)
        if found is None:
            continue
        if isinstance(found, _Unreachable):
            return _cached(source, names, access, found)
        folder, revision = found, found.name  # the snapshot's folder is named by its commit
    assert folder is not None  # names is never empty
    return folder


@dataclass(frozen=True)
class _Unreachable:
    """The hub did not answer."""

    why: str


def _one(
    source: str, name: str, revision: str | None, access: HubAccess, *, needed: bool
) -> Path | _Unreachable | None:
    """Snapshot folder with one file in it; None for an optional one that is not there."""
    from huggingface_hub import (
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        about = get_hf_file_metadata(
            hf_hub_url(source, name, revision=revision),
            token=access.token,
            timeout=ANSWER_TIMEOUT_S,
        )
    except HFValidationError:
        raise
    except EntryNotFoundError:
        if not needed:
            return None
        raise CheckpointError(
            f"{source}: the hub has no file {name} there; check the name, or give the folder of a "
            "copy that has it"
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise CheckpointError(
            f"{source}: no local folder, and the hub has no such model ({type(error).__name__}). "
            "Check the name, or log in with 'hf auth login' if it is private."
        ) from None
    except HfHubHTTPError as error:
        return _Unreachable(f"it answered with status {error.response.status_code}")
    except Exception as error:  # of whichever client huggingface_hub uses: no connection, no answer
        return _Unreachable(type(error).__name__)
    before = try_to_load_from_cache(
        source, name, cache_dir=access.cache_dir, revision=about.commit_hash
    )
    try:  # also for a cached file: this notes which commit the revision is now
        path = Path(
            hf_hub_download(
                source, name, revision=revision, cache_dir=access.cache_dir, token=access.token
            )
        )
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{source}: the transfer of {name} broke off ({reason[:120]}). Run it again, or give "
            "the folder of a copy."
        ) from None
    if not isinstance(before, str):
        _require_hash(path, about.etag, source, name)
    return _snapshot(path, name)


def _snapshot(path: Path, name: str) -> Path:
    return path.parents[name.count("/")]


def _cached(
    source: str, names: Sequence[str], access: HubAccess, unreachable: _Unreachable | None = None
) -> Path:
    """The snapshot in the cache, if it has all of the files."""
    from huggingface_hub import try_to_load_from_cache

    found = [
        try_to_load_from_cache(
            source, name, cache_dir=access.cache_dir, revision=access.revision or "main"
        )
        for name in names
    ]
    if all(isinstance(path, str) for path in found):
        return _snapshot(Path(str(found[0])), names[0])
    why = "" if unreachable is None else f" ({unreachable.why})"
    raise CheckpointError(
        f"{source}: not a local folder, not in the download cache, and the hub cannot "
        f"be reached{why}. Check the name and the network, or give the folder of a copy."
    )


def _require_hash(path: Path, stated: str | None, source: str, name: str) -> None:
    """The hub states SHA-256 of large files and git's SHA-1 of small ones.

    Content that differs is removed, so that the next call downloads it again.
    """
    size = path.stat().st_size
    if stated is not None and len(stated) == 64:
        digest = hashlib.sha256()
    elif stated is not None and len(stated) == 40:
        digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    else:
        return
    with path.open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    if digest.hexdigest() != stated:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise CheckpointError(
            f"{source}: {name} arrived with another hash ({digest.hexdigest()[:12]}…) than the hub "
            f"states ({stated[:12]}…) and was removed. Download it again, or give the folder of a "
            "copy."
        )
