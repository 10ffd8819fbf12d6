"""A model's files through the object store: read once by the driver, fetched once per node.

Knows files; nothing of what is in them. Workers need no copy of the model's folder and no network.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from forecaster.registry import LoadedModel

Files = dict[str, npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class SharedWeights:
    """Config and weights of tokenizer and predictor, as bytes that processes of a node share."""

    tokenizer: Files
    predictor: Files
    max_context: int

    @contextmanager
    def unpacked(self) -> Iterator[tuple[str, str]]:
        """Folders of tokenizer and predictor, there inside the block."""
        with tempfile.TemporaryDirectory(prefix="candlecast-weights-") as folder:
            for part, files in (("tokenizer", self.tokenizer), ("predictor", self.predictor)):
                (Path(folder) / part).mkdir()
                for name, content in files.items():
                    (Path(folder) / part / name).write_bytes(content.data)
            yield f"{folder}/tokenizer", f"{folder}/predictor"


def shared_weights(loaded: LoadedModel) -> SharedWeights | None:
    """The files of a loaded model; None for baselines, which have none."""
    from forecaster.kronos import KronosForecaster

    model = loaded.forecaster
    if not isinstance(model, KronosForecaster):
        return None
    with tempfile.TemporaryDirectory(prefix="candlecast-weights-") as folder:
        model.tokenizer.save_pretrained(f"{folder}/tokenizer")
        model.predictor.save_pretrained(f"{folder}/predictor")
        return SharedWeights(
            _files(Path(folder) / "tokenizer"),
            _files(Path(folder) / "predictor"),
            model.max_context,
        )


def _files(folder: Path) -> Files:
    return {path.name: np.frombuffer(path.read_bytes(), np.uint8) for path in folder.iterdir()}
