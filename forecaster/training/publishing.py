"""The files of a trained model, and where they are put. Knows files; nothing of training."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from forecaster.hub import TRAINING_RECORD
from forecaster.kronos.checkpoint import CONFIG, WEIGHTS
from forecaster.timellm.bootstrap import ERRORS
from forecaster.training.config import TrainingError

PUBLISHED = (CONFIG, WEIGHTS, ERRORS, TRAINING_RECORD)
"""The files of a model, the record last: a folder with it holds a finished model. Only point models
have errors."""


def require_writable(out: Path) -> None:
    """Makes the folder. Raises TrainingError where that, or writing into it, is not possible."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise TrainingError(
            f"{out}: cannot be written ({error.strerror}); free space, fix permissions, or choose "
            "another --out"
        ) from error


def install(chosen: Path, out: Path, figures: Mapping[str, float]) -> None:
    """Puts the chosen checkpoint's model into the run's folder, file by file, the record last."""
    record = json.loads((chosen / TRAINING_RECORD).read_text())
    record["figures"] = dict(figures)
    names = [name for name in PUBLISHED if (chosen / name).is_file()]
    with tempfile.TemporaryDirectory(dir=out) as unfinished:
        for name in names:
            shutil.copyfile(chosen / name, Path(unfinished) / name)
        (Path(unfinished) / TRAINING_RECORD).write_text(
            json.dumps(record, indent=2, sort_keys=True) + "\n"
        )
        for name in names:
            os.replace(Path(unfinished) / name, out / name)
