"""Finished pieces of a sweep, kept until it is: what an interruption cannot take away.

Knows files and arrays; nothing of strategies. A piece is written beside its name and moved into
place, so that one that is there is whole.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cluster.sweep_settings import SweepRequest
from market.storage import Folder

VERSION = 1
"""Changes with the meaning of a piece's numbers."""
_NOT_NUMBERS = {
    "table", "page", "report", "pieces", "address", "in_process", "heat", "title", "export",
    "export_form", "trials", "trials_variance", "fan_symbols", "benchmark",
}  # fmt: skip
"""Settings that change no figure of a point."""


class Pieces:
    """A folder of pieces, by the place of their first point."""

    def __init__(self, folder: Path | Folder, identity: str | None = None) -> None:
        self.folder = folder if isinstance(folder, Folder) else Folder(folder)
        self.identity = identity

    def of(self, identity: str) -> Pieces:
        """The pieces of one sweep; those of any other in the folder are thrown away."""
        for name in self.folder.names(".npy"):
            if not name.startswith(f"{identity}-"):
                self.folder.remove(name)
        return Pieces(self.folder, identity)

    def read(self, begin: int, width: tuple[int, int]) -> tuple[np.ndarray, np.ndarray] | None:
        """Statistics and block sums of a piece; None where it is not there, or not whole.

        width: statistics, and blocks of bars.
        """
        if self.identity is None or not self.folder.exists(self._name(begin)):
            return None
        try:
            both = np.load(BytesIO(self.folder.read(self._name(begin))), allow_pickle=False)
        except (ValueError, OSError, EOFError):
            return None
        stats, blocks = width
        if both.ndim != 2 or both.shape[1] != stats + 2 * blocks:
            return None
        return both[:, :stats].copy(), both[:, stats:].reshape(-1, 2, blocks).copy()

    def write(self, begin: int, piece: tuple[np.ndarray, np.ndarray]) -> None:
        """Keep a piece."""
        stats, blocks = piece
        content = BytesIO()
        np.save(content, np.hstack((stats, blocks.reshape(len(blocks), -1))), allow_pickle=False)
        self.folder.write(self._name(begin), content.getvalue())

    def remove(self) -> None:
        """The sweep is done: its pieces go, and the folder where nothing else is in it."""
        if self.identity is None:
            return
        for name in self.folder.names(".npy"):
            self.folder.remove(name)
        if self.folder.path is not None:
            with suppress(OSError):
                self.folder.path.rmdir()

    def _name(self, begin: int) -> str:
        return f"{self.identity}-{begin:09d}.npy"


def identity_of(request: SweepRequest, loaded: dict[str, Any], size: int) -> str:
    """A hash of all that changes the figures: settings, grid, bars, scores and what comes with
    them."""
    told = request.model_dump(mode="json", exclude=_NOT_NUMBERS)
    digest = hashlib.blake2b(digest_size=8)
    digest.update(json.dumps([VERSION, size, told], sort_keys=True, default=str).encode())
    digest.update(json.dumps(loaded["settings"].model_dump(mode="json"), default=str).encode())
    for name in sorted(loaded):
        value = loaded[name]
        frame = getattr(value, "table", getattr(value, "frame", value))
        if isinstance(frame, pl.DataFrame):
            total = int(frame.hash_rows(seed=0).sum() or 0) if frame.width else 0
            digest.update(f"{name} {frame.shape} {total}".encode())
        elif name in ("groups", "sessions_per_year"):
            digest.update(json.dumps([name, value], sort_keys=True).encode())
    return digest.hexdigest()
