"""What goes into a forecaster and what comes out. Knows numpy alone: no model, no storage.

Legend: B series, S paths, L lookback, H horizon, F features (open, high, low, close, volume,
amount).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from market.errors import ConfigError, ForecastInputError
from market.fields import FEATURES, PRICES

CLOSE = FEATURES.index("close")

FloatArray = npt.NDArray[np.floating]
TimeArray = npt.NDArray[np.datetime64]

Precision = Literal["float32", "bfloat16"]
"""Of a network's weights and arithmetic."""
Overflow = Literal["trim", "recompute"]
"""What happens where lookback and horizon exceed a model's context: old bars are left out from the
start, or the window slides and is computed anew at every step."""


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are drawn. Out-of-range values raise ConfigError naming the allowed range."""

    temperature: float = 1.0
    """Divides the logits; > 0."""
    top_k: int = 0
    """Keep the k likeliest tokens; 0 keeps all, 1 is greedy."""
    top_p: float = 1.0
    """Keep the smallest set of likeliest tokens whose probability reaches this, 0 < top_p <= 1;
    below 1 intervals become too narrow."""

    def __post_init__(self) -> None:
        if not self.temperature > 0 or not np.isfinite(self.temperature):
            raise ConfigError(f"temperature={self.temperature}: must be a finite number > 0")
        if self.top_k < 0:
            raise ConfigError(f"top_k={self.top_k}: must be >= 0 (0 keeps every token)")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p={self.top_p}: must be in (0, 1]")


@dataclass(frozen=True)
class WindowBatch:
    """Windows of one lookback and horizon, ready to be forecast.

    Only what was known at each `as_of` may be in here; `future_BH` are calendar labels, not data.
    """

    symbols: tuple[str, ...]
    as_of_B: TimeArray
    """Close instants in UTC, datetime64[us]; with the symbol and the seed they key the noise."""
    values_BLF: FloatArray
    """float64 bars in price units, oldest first."""
    timestamps_BL: TimeArray
    """Exchange-local bar labels, datetime64[us]."""
    future_BH: TimeArray
    """Exchange-local labels of the bars to forecast, datetime64[us]."""
    any_price: bool = False
    """Take prices of zero and below, as the reference does; otherwise they are refused."""

    def __post_init__(self) -> None:
        b = len(self.symbols)
        lengths = {
            "as_of_B": self.as_of_B.shape[0],
            "values_BLF": self.values_BLF.shape[0],
            "timestamps_BL": self.timestamps_BL.shape[0],
            "future_BH": self.future_BH.shape[0],
        }
        wrong = {name: n for name, n in lengths.items() if n != b}
        if wrong:
            raise ForecastInputError(
                f"a batch of {b} symbols needs arrays of {b} rows, got {wrong}"
            )
        if self.values_BLF.ndim != 3 or self.values_BLF.shape[2] != len(FEATURES):
            raise ForecastInputError(
                f"values_BLF has shape {self.values_BLF.shape}; expected (series, lookback, "
                f"{len(FEATURES)}) with features {', '.join(FEATURES)}"
            )
        if self.timestamps_BL.shape[1] != self.values_BLF.shape[1]:
            raise ForecastInputError(
                f"{self.values_BLF.shape[1]} bars but {self.timestamps_BL.shape[1]} timestamps"
            )
        bad = ~np.isfinite(self.values_BLF).all(axis=(1, 2))
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            row = int(np.flatnonzero(~np.isfinite(self.values_BLF[i]).all(axis=1))[0])
            raise ForecastInputError(
                f"{self.symbols[i]}: bar {self.timestamps_BL[i, row]} holds a value that is not "
                "finite (rule: finite). Import the bars through 'candlecast data import', which "
                "quarantines such rows."
            )
        prices_BLP = self.values_BLF[..., : len(PRICES)]
        if not self.any_price and prices_BLP.size and prices_BLP.min() <= 0:
            i, row, column = (int(at[0]) for at in np.nonzero(prices_BLP <= 0))
            raise ForecastInputError(
                f"{self.symbols[i]}: bar {self.timestamps_BL[i, row]} has {PRICES[column]} "
                f"{prices_BLP[i, row, column]:.10g} (rule: price > 0). Repaired paths would be "
                "worth nothing; shift the series, or use KronosPredictor.predict of a model of "
                "price levels, which repairs nothing."
            )

    @property
    def lookback(self) -> int:
        return int(self.values_BLF.shape[1])

    @property
    def horizon(self) -> int:
        return int(self.future_BH.shape[1])

    def __len__(self) -> int:
        return len(self.symbols)

    def rows(self, index: npt.NDArray[np.integer] | slice) -> WindowBatch:
        """The chosen series, in the order given."""
        chosen = np.arange(len(self))[index]
        return WindowBatch(
            symbols=tuple(self.symbols[i] for i in chosen),
            as_of_B=self.as_of_B[chosen],
            values_BLF=self.values_BLF[chosen],
            timestamps_BL=self.timestamps_BL[chosen],
            future_BH=self.future_BH[chosen],
            any_price=self.any_price,
        )

    def last_bars(self, n: int) -> WindowBatch:
        """The same windows with only their last n bars (a shorter lookback)."""
        return replace(
            self, values_BLF=self.values_BLF[:, -n:], timestamps_BL=self.timestamps_BL[:, -n:]
        )


@dataclass(frozen=True)
class SamplePaths:
    """Every sampled path of every series, in price units."""

    symbols: tuple[str, ...]
    as_of_B: TimeArray
    values_BSHF: npt.NDArray[np.float32]
    """Sampled bars; features in the order of FEATURES."""
    timestamps_BH: TimeArray
    last_close_B: npt.NDArray[np.float64]
    """Close of the last known bar: what a return is measured from."""
    loc_BF: npt.NDArray[np.float64]
    scale_BF: npt.NDArray[np.float64]
    """Location and scale the window was normalised with, in price units."""
    flags_B: npt.NDArray[np.int32]
    """Bits of market.flags.Flag."""
    repaired_B: npt.NDArray[np.int64]
    """How many sampled bars of the series were repaired."""

    def __len__(self) -> int:
        return len(self.symbols)

    @classmethod
    def join(cls, parts: Iterable[SamplePaths]) -> SamplePaths:
        """Parts of equal horizon and number of paths, one after the other."""
        collected = list(parts)
        if len(collected) == 1:
            return collected[0]
        return cls(
            symbols=tuple(symbol for part in collected for symbol in part.symbols),
            **{
                name: np.concatenate([getattr(part, name) for part in collected])
                for name in cls._arrays()
            },
        )

    def rows(self, index: npt.NDArray[np.integer]) -> SamplePaths:
        """The chosen series, in the order given."""
        return SamplePaths(
            symbols=tuple(self.symbols[i] for i in index),
            **{name: getattr(self, name)[index] for name in self._arrays()},
        )

    @classmethod
    def _arrays(cls) -> list[str]:
        return [field.name for field in fields(cls) if field.name != "symbols"]


@runtime_checkable
class Forecaster(Protocol):
    """Anything that turns windows into sample paths.

    A series' paths are a function of its window, the settings and the seed alone: never of the
    other series in the batch, the batch size or the order.
    """

    @property
    def model_id(self) -> str:
        """Content hash of weights and configs."""

    @property
    def max_context(self) -> int | None:
        """Longest lookback + horizon it can hold; None where there is no limit."""

    def numerics(self, n_paths: int, device: str | None = None) -> Mapping[str, object]:
        """What else decides the numbers (precision, tile, version of the code), as JSON values.

        device: where the paths will be computed, as torch names it, if not here.
        """

    def sample_paths(
        self, windows: WindowBatch, *, n_paths: int, sampling: SamplingParams, seed: int
    ) -> SamplePaths:
        """Draw n_paths paths over windows.horizon steps for every series."""

    def stream_paths(
        self, windows: WindowBatch, *, n_paths: int, sampling: SamplingParams, seed: int
    ) -> Iterator[SamplePaths]:
        """`sample_paths` some series at a time, in order: what is not kept takes no memory."""


@runtime_checkable
class FixedWindow(Protocol):
    """A forecaster whose lookback and horizon were fixed when it was trained."""

    def require_window(self, lookback: int, horizon: int) -> None:
        """Raises ForecastInputError where it cannot read or forecast so many bars."""
