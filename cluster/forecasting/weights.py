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

from forecaster.registry import TIMELLM, LoadedModel

Files = dict[str, npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class SharedWeights:
    """The files of a model's parts, as bytes that processes of a node share.

    The frozen language model under a Time-LLM is not among them: its folder must be visible to
    every node, or its hub id within reach.
    """

    parts: dict[str, Files]
    """tokenizer and predictor, or timellm."""
    max_context: int

    @contextmanager
    def unpacked(self) -> Iterator[tuple[str | None, str]]:
        """Tokenizer, if there is one, and model as `load_forecaster` takes them, inside the
        block."""
        with tempfile.TemporaryDirectory(prefix="candlecast-weights-") as folder:
            for part, files in self.parts.items():
                (Path(folder) / part).mkdir()
                for name, content in files.items():
                    (Path(folder) / part / name).write_bytes(content.data)
            if "timellm" in self.parts:
                yield None, f"{TIMELLM}{folder}/timellm"
            else:
                yield f"{folder}/tokenizer", f"{folder}/predictor"


def shared_weights(loaded: LoadedModel) -> SharedWeights | None:
    """The files of a loaded model; None for what every node loads by name: baselines, and
    models of other packages."""
    from forecaster.kronos import KronosForecaster
    from forecaster.timellm.pipeline import TimeLLMForecaster

    model = loaded.forecaster
    with tempfile.TemporaryDirectory(prefix="candlecast-weights-") as folder:
        place = Path(folder)
        if isinstance(model, TimeLLMForecaster):
            model.save(place)
            return SharedWeights({"timellm": _files(place)}, model.max_context)
        if not isinstance(model, KronosForecaster):
            return None
        model.tokenizer.save_pretrained(place / "tokenizer")
        model.predictor.save_pretrained(place / "predictor")
        parts = {part: _files(place / part) for part in ("tokenizer", "predictor")}
        return SharedWeights(parts, model.max_context)


def _files(folder: Path) -> Files:
    return {path.name: np.frombuffer(path.read_bytes(), np.uint8) for path in folder.iterdir()}
