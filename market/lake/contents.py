"""What a version of a lake consists of, and the record of it that its commit carries.

Knows fields, JSON and hashes; no storage and no Delta.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from market.lake.files import DataFile, digest_of
from market.spec import StoreSpec

FORMAT = 2
"""Number of the layout; a store with a larger one was written by newer code."""
RECORD = "candlecast"
"""Key of the record in the information of a commit."""


@dataclass(frozen=True)
class Contents:
    """Everything one version of a store consists of."""

    spec: StoreSpec
    buckets: int
    """How many its symbols are spread over."""
    parent: str | None = None
    """Version this one was made from."""
    bars: tuple[DataFile, ...] = ()
    quarantine: tuple[DataFile, ...] = ()
    """Oldest first."""
    actions: tuple[DataFile, ...] = ()
    """One file with the table of corporate actions, where there are any."""
    sources: tuple[str, ...] = ()
    """What was read by the import that made this version."""
    fingerprints: Mapping[str, str] | None = None
    """Hash of each source that is a file."""
    formerly: str | None = None
    """The version of the older store that this one was migrated from."""


class Record(NamedTuple):
    """A version's record as it was read."""

    name: str
    """Of the version: its number and the record's hash."""
    told: dict[str, Any]


class NewerFormatError(ValueError):
    """A record of a format that this code does not know."""


def encoded(
    contents: Contents, beside: Mapping[str, Sequence[object]], unfinished: bool = False
) -> tuple[str, str]:
    """The record of a version and its hash. beside: version and digest of each sibling table."""
    told = {
        "format": FORMAT,
        "spec": asdict(contents.spec),
        "buckets": contents.buckets,
        "parent": contents.parent,
        "sources": list(contents.sources),
        "fingerprints": dict(contents.fingerprints or {}),
        "formerly": contents.formerly,
        "bars": digest_of(contents.bars),
        "beside": dict(beside),
        "unfinished": unfinished,
    }
    hashed = _hash(told)
    return json.dumps(told | {"hash": hashed}), hashed


def decoded(commit: bytes, number: int) -> Record:
    """The record in a commit's log entry.

    Raises NewerFormatError with its number, and ValueError saying what is wrong with a damaged one.
    """
    try:
        actions = [json.loads(line) for line in commit.decode().splitlines()]
        (text,) = (each["commitInfo"][RECORD] for each in actions if "commitInfo" in each)
        told: dict[str, Any] = json.loads(text)
        if int(told["format"]) > FORMAT:
            raise NewerFormatError(str(told["format"]))
        hashed = told.pop("hash")
        fits = _hash(told) == hashed
        complete = {"spec", "buckets", "parent", "sources", "bars", "beside"} <= told.keys()
    except NewerFormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no record can be read in its commit: {error}") from None
    if not (fits and complete):
        raise ValueError("its record does not fit its hash")
    return Record(f"{number}-{hashed}", told)


def _hash(told: Mapping[str, Any]) -> str:
    return blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()
