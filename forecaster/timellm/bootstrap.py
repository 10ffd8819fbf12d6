"""Paths around a point forecast: the errors the model made before, drawn whole.

A point model says nothing of its uncertainty. What it got wrong on windows that did not train it
does: each path adds the errors of one such window, all steps and features together, so that errors
grow with the step and hang together over time (a residual block bootstrap, Künsch 1989, whose block
is the whole horizon). Errors are measured from one centre for the four prices of a bar, so that
what tells the prices apart comes whole from a bar that was: it obeys the rules by construction.
Knows arrays; no models.

Legend: N windows with known errors, B series, S paths, L lookback, H horizon, F features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from forecaster.interface import CLOSE, FloatArray
from forecaster.noise import noise_key
from forecaster.normalize import VOLUME
from market.errors import CheckpointError

ERRORS = "errors.safetensors"
"""Beside the weights of a point model."""
_KEY = "errors_NHF"
FEWEST = 30
"""Windows below which errors say too little to draw paths from."""

Array = npt.NDArray[np.float64]


def one_bar_units(values_BLF: FloatArray) -> Array:
    """What an error is measured in: the spread of one-bar changes, (B, F), from the lookback alone.

    The four prices share that of the close. Volatile windows have large errors; measured so, errors
    of one window mean something in another. 0 where a feature never changes.
    """
    units_BF: Array = np.diff(values_BLF.astype(np.float64), axis=1).std(axis=1)
    units_BF[:, :VOLUME] = units_BF[:, CLOSE : CLOSE + 1]
    return units_BF


def centres(values_BLF: FloatArray, forecast_BHF: FloatArray) -> Array:
    """What errors are measured from, (B, H, F), in the units of the data.

    The prices share one: the last close, moved by the mean of the four prices' forecast moves.
    Volume and amount have their own forecasts.
    """
    last_B1F = values_BLF[:, -1:].astype(np.float64)
    centre_BHF: Array = forecast_BHF.astype(np.float64)
    move_BH1 = (centre_BHF - last_B1F)[..., :VOLUME].mean(axis=-1, keepdims=True)
    centre_BHF[..., :VOLUME] = last_B1F[..., CLOSE : CLOSE + 1] + move_BH1
    return centre_BHF


def errors_in_units(
    values_BLF: FloatArray, actual_BHF: FloatArray, forecast_BHF: FloatArray
) -> npt.NDArray[np.float32]:
    """Actual minus `centres` over `one_bar_units`, (N, H, F); windows in which a feature never
    moved are left out. All in the units of the data."""
    units_BF = one_bar_units(values_BLF)
    moving = (units_BF > 0).all(axis=1)
    error_BHF = actual_BHF - centres(values_BLF, forecast_BHF)
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
    centre_HF: Array,
    units_F: Array,
    errors_NHF: npt.NDArray[np.float32],
    chosen_S: npt.NDArray[np.integer],
) -> Array:
    """Paths of one series in the units of the data, (S, H, F)."""
    return centre_HF + errors_NHF[chosen_S, : len(centre_HF)].astype(np.float64) * units_F


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
