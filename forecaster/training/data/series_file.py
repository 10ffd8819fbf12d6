"""Bars of many symbols as memory-mapped files. Knows files and arrays; no lake, no torch.

A folder holds `values.npy` (M, 6) float64, `timestamps.npy` (M,) microseconds, `stamps.npy` (M, 5)
int8, all symbols end to end, and `index.json`, written last: a folder without it is not a series.
Processes that open one share its pages.

Legend: M bars of all symbols together, N bars of one, F features.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from forecaster.training.config import TrainingError
from forecaster.training.data.pools import N_FEATURES, N_STAMPS, TrainingSeries
from market.windows import time_features

FORMAT = 2
"""Of what the files hold; 2: continuous over splits."""
INDEX = "index.json"
_FILES = {
    "values": (np.dtype(np.float64), (N_FEATURES,)),
    "timestamps": (np.dtype("datetime64[us]"), ()),
    "stamps": (np.dtype(np.int8), (N_STAMPS,)),
}


@dataclass(frozen=True)
class SeriesIndex:
    """Which rows belong to which symbol."""

    key: str
    """What the bars are: the version of their lake, or the simulator's settings."""
    symbols: tuple[str, ...]
    lengths: tuple[int, ...]
    simulated: bool = False
    format: int = FORMAT

    @property
    def n_bars(self) -> int:
        return sum(self.lengths)

    def offsets(self) -> npt.NDArray[np.int64]:
        """First row of each symbol, and the end; shape (symbols + 1,)."""
        return np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)]).astype(np.int64)


def allocate(folder: Path, index: SeriesIndex) -> None:
    """Makes the arrays, still without content, in a folder that exists."""
    for name, (dtype, shape) in _FILES.items():
        np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=dtype, shape=(index.n_bars, *shape)
        )


def fill(
    folder: Path,
    first_row: int,
    values_NF: npt.NDArray[np.float64],
    timestamps_N: npt.NDArray[np.datetime64],
) -> None:
    """Writes rows from first_row on; different rows may be written by different processes."""
    rows = slice(first_row, first_row + len(timestamps_N))
    content = {
        "values": values_NF,
        "timestamps": timestamps_N,
        "stamps": time_features(timestamps_N),
    }
    for name, array in content.items():
        stored = np.lib.format.open_memmap(folder / f"{name}.npy", mode="r+")
        stored[rows] = array
        stored.flush()


def seal(folder: Path, index: SeriesIndex) -> None:
    """Writes the index: from now on the folder is a series."""
    (folder / INDEX).write_text(json.dumps(asdict(index)) + "\n")


def is_sealed(folder: Path) -> bool:
    return (folder / INDEX).is_file()


def read_index(folder: Path) -> SeriesIndex:
    """The index of a sealed folder. Raises TrainingError where it cannot be read."""
    try:
        stored = json.loads((folder / INDEX).read_text())
        index = SeriesIndex(
            stored["key"],
            tuple(stored["symbols"]),
            tuple(stored["lengths"]),
            stored["simulated"],
            stored["format"],
        )
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"{folder}: no readable {INDEX} ({type(error).__name__}); remove the folder, the next "
            "run builds it again"
        ) from error
    if index.format != FORMAT:
        raise TrainingError(
            f"{folder}: format {index.format}, this version reads {FORMAT}; remove the folder, the "
            "next run builds it again"
        )
    return index


def open_series(folder: Path) -> list[TrainingSeries]:
    """Every symbol's bars, mapped and not read. Raises TrainingError for a damaged folder."""
    index = read_index(folder)
    arrays = {}
    for name, (dtype, shape) in _FILES.items():
        path = folder / f"{name}.npy"
        try:
            stored = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"{path}: damaged ({error}); remove {folder}, the next run builds it again"
            ) from error
        if stored.shape != (index.n_bars, *shape) or stored.dtype != dtype:
            raise TrainingError(
                f"{path}: shape {stored.shape}, expected {(index.n_bars, *shape)}; remove "
                f"{folder}, the next run builds it again"
            )
        arrays[name] = np.asarray(stored)
    offsets = index.offsets().tolist()
    return [
        TrainingSeries(
            symbol,
            arrays["timestamps"][a:b],
            arrays["values"][a:b],
            index.simulated,
            arrays["stamps"][a:b],
        )
        for symbol, a, b in zip(index.symbols, offsets[:-1], offsets[1:], strict=True)
    ]


def store_series(folder: Path, series: Sequence[TrainingSeries], key: str) -> None:
    """Writes series of this process into a folder that exists, and seals it."""
    index = SeriesIndex(
        key,
        tuple(one.symbol for one in series),
        tuple(map(len, series)),
        bool(series) and series[0].simulated,
    )
    allocate(folder, index)
    for one, first in zip(series, index.offsets().tolist(), strict=False):
        fill(folder, first, one.values_NF, one.timestamps_N)
    seal(folder, index)
