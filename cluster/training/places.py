"""Where a run's files lie: a folder that every worker sees, or a URL and a copy on each node.

With a URL the object store alone is the truth. A process works in a folder of its own below the
node's temporary one: `fetch` makes it what the store holds, `keep` brings the store up to date.
Every object is written whole, so that whoever dies in between leaves the state before: a checkpoint
is one object, and of a finished model the record comes last. Knows files; nothing of torch or Ray.

    URL/checkpoints/step-00000250.tar
    URL/series/NAME.tar, URL/inputs/NAME.tar     what every node needs, unpacked once on each
    URL/metrics.jsonl, model.safetensors, …      as in a local folder
"""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import tarfile
import tempfile
import uuid
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from forecaster.hub import TRAINING_RECORD
from forecaster.training.loop import CHECKPOINTS
from forecaster.training.publishing import require_writable
from market.storage import Folder, writing

RAY = "ray"
_TAR = ".tar"
_OWN = (CHECKPOINTS, "series", "inputs", "leases", RAY)
"""Folders that are not copied file by file."""


@dataclass(frozen=True)
class RunPlace:
    """A run's place as one process sees it."""

    home: Folder
    """What --out names."""
    local: Path
    """Where this process reads and writes: the same folder, or its copy."""

    @classmethod
    def of(cls, out: str | Path, name: str = "driver") -> RunPlace:
        """The place of one process, which of several on a node `name` tells."""
        home = Folder(out)
        if home.path is not None:
            home = Folder(home.path.resolve())
            assert home.path is not None
            return cls(home, home.path)
        return cls(home, node_folder(home) / name)

    @property
    def remote(self) -> bool:
        return self.home.path is None

    def require_writable(self) -> None:
        """Makes the place. Raises TrainingError or StoreError where it cannot be written."""
        if self.remote:
            self.home.write("probe", b"")
            self.home.remove("probe")
        require_writable(self.local)

    def fetch(self) -> None:
        """Make the copy what the store holds, and nothing else."""
        if not self.remote:
            return
        shutil.rmtree(self.local, ignore_errors=True)
        (self.local / CHECKPOINTS).mkdir(parents=True)
        for name in (self.home / CHECKPOINTS).names(_TAR):
            unpack(self.home, f"{CHECKPOINTS}/{name}", self.local / CHECKPOINTS)
        for name in self.home.files():
            if name.split("/", 1)[0] not in _OWN:
                (self.local / name).parent.mkdir(parents=True, exist_ok=True)
                (self.local / name).write_bytes(self.home.read(name))

    def fetch_file(self, name: str) -> None:
        """Bring one file of the copy up to date, where the store has it."""
        if self.remote and self.home.exists(name):
            self.local.mkdir(parents=True, exist_ok=True)
            Folder(self.local).write(name, self.home.read(name))

    def keep(self) -> None:
        """Bring the store up to date: checkpoints, then files, a model's record last."""
        if not self.remote:
            return
        there = {name.removesuffix(_TAR) for name in (self.home / CHECKPOINTS).names(_TAR)}
        here = {path.name for path in (self.local / CHECKPOINTS).glob("step-*")}
        for step in sorted(here - there):
            pack(self.local / CHECKPOINTS / step, self.home, f"{CHECKPOINTS}/{step}{_TAR}")
        for name in sorted(self._files(), key=lambda each: (each == TRAINING_RECORD, each)):
            self.home.write(name, (self.local / name).read_bytes())
        for step in there - here:
            self.home.remove(f"{CHECKPOINTS}/{step}{_TAR}")

    def close(self) -> None:
        """Remove the copy."""
        if self.remote:
            shutil.rmtree(self.local, ignore_errors=True)

    def ray_storage(self) -> dict[str, Any]:
        """Arguments of Ray Train for where its own notes go."""
        if not self.remote:
            return {"storage_path": str(self.local / RAY)}
        import fsspec
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        store = fsspec.filesystem(self.home.url.split("://", 1)[0], use_listings_cache=False)
        return {
            "storage_path": store._strip_protocol(f"{self.home.url}/{RAY}"),
            "storage_filesystem": PyFileSystem(FSSpecHandler(store)),
        }

    def _files(self) -> list[str]:
        found = (path for path in self.local.rglob("*") if path.is_file())
        names = [path.relative_to(self.local).as_posix() for path in found]
        return [name for name in names if name.split("/", 1)[0] not in _OWN]


def node_folder(home: Folder) -> Path:
    """Below which this node keeps copies of what lies at a URL; the same path on every node."""
    name = blake2b(home.url.encode(), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"candlecast-{os.getuid()}-training-{name}"


def at_hand(home: Folder, name: str) -> Path:
    """A folder that was packed under a name, unpacked once on this node whoever asks."""
    folder = node_folder(home) / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (node_folder(home) / "LOCK").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            unpack(home, f"{name}{_TAR}", folder.parent)
    return folder


def pack(folder: Path, home: Folder, name: str, *, called: str | None = None) -> None:
    """A folder as one object, there whole or not at all. called: as what it is unpacked."""
    content = io.BytesIO()  # a stream that ends early would leave an object that looks whole
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(folder, arcname=called or folder.name)
    home.write(name, content.getvalue())


def unpack(home: Folder, name: str, where: Path) -> None:
    """A packed folder under its own name, in one move. Raises FileNotFoundError without it."""
    content = home.read(name)
    beside = where / f".partial-{uuid.uuid4().hex}"
    with writing(where):
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                archive.extractall(beside, filter="data")
            (inner,) = beside.iterdir()
            os.replace(inner, where / inner.name)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
