"""From bars in price units to sample paths in price units. Knows windows, point models and their
past errors; nothing of storage or Ray.

Legend: B series, S paths, L lookback, H horizon, F features, N rows.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from forecaster.hub import TRAINING_RECORD
from forecaster.interface import CLOSE, FloatArray, SamplePaths, SamplingParams, WindowBatch
from forecaster.normalize import normalise
from forecaster.repair import repair
from forecaster.timellm.bootstrap import (
    FEWEST,
    centres,
    drawn,
    load_errors,
    one_bar_units,
    paths_around,
    save_errors,
)
from forecaster.timellm.model import PointModel, load_point_model
from forecaster.timellm.rows import TILE, forecast_bars, forecast_rows
from market.errors import CheckpointError, ForecastInputError
from market.flags import Flag

NUMERICS_VERSION = 2
"""Counts changes of this code that change the last bits of forecasts; part of a run's identity."""
SERIES_AT_ONCE = 64
LARGEST = 1e150
"""Values whose squares are still numbers."""


class TimeLLMForecaster:
    """A point model and its validation errors behind the Forecaster interface.

    The six features of a bar are forecast channel by channel, as the original does; errors are
    drawn jointly, see `bootstrap`, and `repair` does what is left to do (counted, switchable).
    """

    def __init__(
        self,
        model: PointModel,
        errors_NHF: npt.NDArray[np.float32],
        *,
        device: str = "cpu",
        repair_bars: bool = True,
        record: Path | None = None,
    ) -> None:
        """errors_NHF: validation errors in one-bar units, see `bootstrap.errors_in_units`.

        record: the training record, copied along by `save`. Raises CheckpointError for too few
        errors.
        """
        if len(errors_NHF) < FEWEST:
            raise CheckpointError(
                f"{len(errors_NHF)} validation windows have errors to draw paths from, at least "
                f"{FEWEST} are needed; train with more validation windows"
            )
        self.device = device
        self.model = model.to(device).eval()
        self.errors_NHF = errors_NHF
        self.repair_bars = repair_bars
        self._record = record

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        backbone: str | Path | None = None,
        device: str = "cpu",
        repair_bars: bool = True,
    ) -> Self:
        """What `candlecast train timellm` or `save` wrote. backbone: see `load_point_model`."""
        place = Path(folder)
        model = load_point_model(place, backbone)
        errors = load_errors(place, model.config.horizon)
        record = place / TRAINING_RECORD
        return cls(
            model,
            errors,
            device=device,
            repair_bars=repair_bars,
            record=record if record.is_file() else None,
        )

    def save(self, folder: str | Path) -> None:
        """Config, trained weights, validation errors and the training record, where there is one.
        The backbone stays where it is."""
        place = Path(folder)
        self.model.save_pretrained(place)
        save_errors(self.errors_NHF, place)
        if self._record is not None and self._record.parent.resolve() != place.resolve():
            shutil.copyfile(self._record, place / TRAINING_RECORD)

    # -- what the interface asks -----------------------------------------------------------

    @cached_property
    def model_id(self) -> str:
        errors = hashlib.blake2b(self.errors_NHF.tobytes(), digest_size=8).hexdigest()
        return self.model.content_hash(extra=f"errors={errors}")

    @property
    def max_context(self) -> int:
        return self.model.config.lookback + self.model.config.horizon

    def numerics(self, n_paths: int, device: str | None = None) -> dict[str, object]:
        return {
            "version": NUMERICS_VERSION,
            "paths": "residual block bootstrap of validation errors",
            "block": self.model.config.horizon,
            "errors": len(self.errors_NHF),
            "precision": self.model.config.backbone_precision,
            "device": torch.device(device or self.device).type,
            "tile": TILE,
        }

    def sample_paths(
        self, windows: WindowBatch, *, n_paths: int, sampling: SamplingParams, seed: int
    ) -> SamplePaths:
        """Paths of every window; `sampling` concerns token models and changes nothing here.

        Raises ForecastInputError for windows shorter than the model's lookback, and horizons
        longer than its own.
        """
        return SamplePaths.join(
            self.stream_paths(windows, n_paths=n_paths, sampling=sampling, seed=seed)
        )

    def stream_paths(
        self, windows: WindowBatch, *, n_paths: int, sampling: SamplingParams, seed: int
    ) -> Iterator[SamplePaths]:
        """`sample_paths`, 64 series at a time."""
        if not len(windows):
            raise ForecastInputError("no series to forecast: the batch of windows is empty")
        self.require_window(windows.lookback, windows.horizon)
        trimmed = windows.lookback > self.model.config.lookback
        windows = windows.last_bars(self.model.config.lookback)
        for first in range(0, len(windows), SERIES_AT_ONCE):
            part = windows.rows(slice(first, first + SERIES_AT_ONCE))
            yield self._paths(part, n_paths, seed, Flag.LOOKBACK_TRIMMED if trimmed else Flag(0))

    def points(self, windows: WindowBatch) -> npt.NDArray[np.float64]:
        """The forecast itself in price units, (B, H, F), before errors and repair."""
        self.require_window(windows.lookback, windows.horizon)
        read_BLF = windows.last_bars(self.model.config.lookback).values_BLF
        return forecast_bars(self.model, read_BLF)[:, : windows.horizon]

    def forecast(self, series: Sequence[FloatArray]) -> list[npt.NDArray[np.float64]]:
        """Points of plain series of any lengths and scales, each (n,) → (horizon,).

        A longer series is read by its last `lookback` values; a shorter one is continued to the
        left by its first value. A series' forecast does not depend on the others. Raises
        ForecastInputError for a series with fewer than two values, or one that is not finite or
        too large.
        """
        lookback = self.model.config.lookback
        rows_NL = np.empty((len(series), lookback))
        for i, one in enumerate(series):
            try:
                values = np.asarray(one, dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise ForecastInputError(f"series {i}: {error}; give numbers") from None
            if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
                raise ForecastInputError(
                    f"series {i}: shape {values.shape}; give one dimension with at least two "
                    "values, all finite"
                )
            if np.abs(values).max() > LARGEST:
                raise ForecastInputError(
                    f"series {i}: holds values beyond {LARGEST:g}, whose spread cannot be "
                    "computed; divide it by a power of ten"
                )
            known = values[-lookback:]
            rows_NL[i] = np.concatenate((np.full(lookback - len(known), known[0]), known))
        # Centred and scaled in float64: the model computes in float32.
        loc_N1 = rows_NL.mean(axis=1, keepdims=True)
        scale_N1 = rows_NL.std(axis=1, keepdims=True)
        scale_N1[scale_N1 == 0] = 1.0
        z_NH = self._rows((rows_NL - loc_N1) / scale_N1)
        return list(z_NH * scale_N1 + loc_N1)

    def require_window(self, lookback: int, horizon: int) -> None:
        config = self.model.config
        if lookback < config.lookback:
            raise ForecastInputError(
                f"this model reads {config.lookback} bars, the windows have {lookback}; use "
                f"--lookback {config.lookback}"
            )
        if horizon > config.horizon:
            raise ForecastInputError(
                f"this model forecasts {config.horizon} steps, {horizon} are asked for; use "
                f"--horizon {config.horizon}, or train one with a longer horizon"
            )

    # -- how -------------------------------------------------------------------------------

    def _rows(self, x_NL: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        rows = torch.from_numpy(np.ascontiguousarray(x_NL, dtype=np.float32)).to(self.device)
        found: npt.NDArray[np.float64] = forecast_rows(self.model, rows).cpu().numpy()
        return found.astype(np.float64)

    def _paths(self, windows: WindowBatch, n_paths: int, seed: int, flags: Flag) -> SamplePaths:
        values_BLF = windows.values_BLF
        _, loc_BF, scale_BF = normalise(values_BLF)
        forecast_BHF = forecast_bars(self.model, values_BLF)[:, : windows.horizon]
        centres_BHF = centres(values_BLF, forecast_BHF)
        units_BF = one_bar_units(values_BLF)
        values = np.empty(
            (len(windows), n_paths, windows.horizon, centres_BHF.shape[2]), dtype=np.float32
        )
        for b, (symbol, as_of) in enumerate(zip(windows.symbols, windows.as_of_B, strict=True)):
            chosen_S = drawn(seed, symbol, as_of, n_paths, len(self.errors_NHF))
            values[b] = paths_around(centres_BHF[b], units_BF[b], self.errors_NHF, chosen_S)
        last_close = windows.values_BLF[:, -1, CLOSE].astype(np.float64)
        repaired = np.zeros(len(windows), dtype=np.int64)
        if self.repair_bars:
            values, repaired = repair(values, last_close)
        marks = np.where(repaired > 0, int(Flag.REPAIRED), 0) | int(flags)
        return SamplePaths(
            symbols=windows.symbols,
            as_of_B=windows.as_of_B,
            values_BSHF=values,
            timestamps_BH=windows.future_BH,
            last_close_B=last_close,
            loc_BF=loc_BF,
            scale_BF=scale_BF,
            flags_B=marks.astype(np.int32),
            repaired_B=repaired,
        )
