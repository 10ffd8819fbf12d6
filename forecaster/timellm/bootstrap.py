"""Paths around a point forecast: the errors the model made before, drawn whole.

A point model says nothing of its uncertainty. What it got wrong on windows that did not train it
does: each path adds the errors of one such window, all steps and features together, so that errors
grow with the step, hang together over time, and move the prices of a bar together (a residual
block bootstrap, Künsch 1989, whose block is the whole horizon). Knows arrays; no models.

Legend: N windows with known errors, B series, S paths, L lookback, H horizon, F features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from forecaster.interface import CLOSE
from forecaster.kronos.sampling import noise_key
from forecaster.normalize import VOLUME
from market.errors import CheckpointError

ERRORS = "errors.safetensors"
"""Beside the weights of a point model."""
_KEY = "errors_NHF"
FEWEST = 30
"""Windows below which errors say too little to draw paths from."""

Array = npt.NDArray[np.float64]


def one_bar_units(x_BLF: npt.NDArray[np.floating]) -> Array:
    """What an error is measured in: the spread of one-bar changes, (B, F), from the lookback alone.

    The four prices share that of the close, so that they move together. Volatile windows have
    large errors; measured so, errors of one window mean something in another. 0 where a feature
    never changes.
    """
    units_BF: Array = np.diff(x_BLF.astype(np.float64), axis=1).std(axis=1)
    units_BF[:, :VOLUME] = units_BF[:, CLOSE : CLOSE + 1]
    return units_BF


def errors_in_units(
    x_BLF: npt.NDArray[np.floating],
    actual_BHF: npt.NDArray[np.floating],
    forecast_BHF: npt.NDArray[np.floating],
) -> npt.NDArray[np.float32]:
    """Actual minus forecast over `one_bar_units`; windows in which a feature never moved are left
    out."""
    units_BF = one_bar_units(x_BLF)
    moving = (units_BF > 1e-6).all(axis=1)
    error_BHF = actual_BHF.astype(np.float64) - forecast_BHF
    return (error_BHF[moving] / units_BF[moving, None]).astype(np.float32)


def drawn(
    seed: int, symbol: str, as_of: np.datetime64, n_paths: int, n_errors: int
) -> npt.NDArray[np.int64]:
    """Which error window each path takes, (S,): a shuffled deck, again when it is used up.

    Keyed by (seed, symbol, as_of) alone. Path s takes the same however many paths there are.
    """
    low, high = noise_key(seed, symbol, as_of)
    rng = np.random.Generator(np.random.Philox(key=(high << 32) | low))
    decks = [rng.permutation(n_errors) for _ in range(-(-n_paths // n_errors))]
    return np.concatenate(decks)[:n_paths]


def paths_around(
    point_HF: Array,
    units_F: Array,
    errors_NHF: npt.NDArray[np.float32],
    chosen_S: npt.NDArray[np.integer],
) -> Array:
    """Paths of one series in the unit of the points, (S, H, F)."""
    return point_HF + errors_NHF[chosen_S, : len(point_HF)].astype(np.float64) * units_F


def save_errors(errors_NHF: npt.NDArray[np.float32], folder: Path) -> None:
    save_file({_KEY: np.ascontiguousarray(errors_NHF)}, folder / ERRORS)


def load_errors(folder: Path, horizon: int) -> npt.NDArray[np.float32]:
    """The errors beside a model's weights. Raises CheckpointError where they are missing, damaged
    or of another horizon."""
    path = folder / ERRORS
    try:
        found = load_file(path)[_KEY]
    except (OSError, SafetensorError, KeyError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}); sample paths are drawn from these "
            "validation errors. Train the model again, or restore the file."
        ) from None
    if found.ndim != 3 or found.shape[1] != horizon or not np.isfinite(found).all():
        raise CheckpointError(
            f"{path}: holds errors of shape {found.shape}, finite ones of {horizon} steps are "
            "needed; the file belongs to another model"
        )
    return found
